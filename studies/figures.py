"""Draw the figures and the table of docs/evidence.md: ``python -m studies.figures``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from studies.measure import OUTPUT

mpl.use("svg")
DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "evidence.md"
# The same bytes for the same numbers.
mpl.rcParams.update({"svg.hashsalt": "evidence", "svg.fonttype": "none", "font.size": 9, "axes.grid": True})
mpl.rcParams.update({"grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False})
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#666666"

# The cell that comparisons start from.
BASE: dict[str, Any] = {
    **{"design": "states", "clips": 100, "machines": 6, "shuffled": False, "steps": 500, "labels": "machine"},
    **{"subclusters": 16, "k": 8, "triplet": False, "branches": 2, "scorer": "network"},
    **{"external": 0, "at_random": False, "in_first": False},
}
STAGE_2, STATE = {"labels": "kmeans"}, {"labels": "state"}
NEIGHBOUR = {"scorer": "nearest neighbour"}

# What two cells share that differ in their classes.
PLACE = ["design", "clips", "machines", "shuffled", "steps", "subclusters", "triplet", "branches", "seed"]
# What training clips alone tell of a stage, and whether more of it should be better (1) or less (-1).
CRITERIA = {"proxy_auc": 1, "agreement": 1, "effective_rank": 1, "distance": -1}


class Mean(NamedTuple):
    """A mean over seeds, with a 95 % confidence interval (t)."""

    value: float
    low: float
    high: float
    seeds: int


def mean(values: pd.Series) -> Mean:
    """Return the mean of values, one per seed; without an interval if there is one seed."""
    count = len(values)
    half = stats.t.ppf(0.975, count - 1) * values.std() / np.sqrt(count) if count > 1 else np.nan
    return Mean(float(values.mean()), float(values.mean() - half), float(values.mean() + half), count)


def chosen(table: pd.DataFrame, metric: str = "auc", **changes: Any) -> pd.Series:
    """Return a metric of a cell by seed; empty if it was not measured."""
    wanted = {**BASE, **changes}
    rows = table[np.logical_and.reduce([table[name] == value for name, value in wanted.items()])]
    return rows.set_index("seed")[metric].sort_index()


def difference(table: pd.DataFrame, changed: dict[str, Any], start: dict[str, Any], metric: str = "auc") -> Mean | None:
    """Return the mean difference of two cells over the seeds that both have; None: there is no such seed."""
    differences = (chosen(table, metric, **changed) - chosen(table, metric, **start)).dropna()
    return mean(differences) if len(differences) else None


class Comparison(NamedTuple):
    """One row of the table."""

    group: str
    text: str
    changed: dict[str, Any]
    start: dict[str, Any]


def comparisons() -> Iterator[Comparison]:
    """Yield all comparisons of two cells."""
    sizes = [
        *({"clips": clips, "steps": steps} for clips in (25, 100, 400) for steps in (100, 500, 2000)),
        {"clips": 1000, "steps": 10_000},
    ]
    places = [
        ({"design": "states", **size}, f"states, {size['clips']} clips, {size['steps']:,} steps") for size in sizes
    ]
    places += [
        ({"design": "mechanisms", "clips": clips}, f"mechanisms, {clips} clips, 500 steps") for clips in (25, 100, 400)
    ]
    places += [({"machines": count}, f"states, {count} machine types") for count in (3, 14)]
    real = {"design": "real", "clips": 20, "machines": 3, "k": 8}
    places += [({**real, "steps": steps}, f"real-mini, {steps} steps") for steps in (125, 500)]
    for place, text in places:
        yield Comparison("Stage 1 over the nearest neighbour", text, place, {**place, **NEIGHBOUR})
    for place, text in places:
        k: dict[str, Any] = {"k": 4} if place.get("design") == "real" else {}
        yield Comparison("Stage 2 (k-means) over stage 1", text, {**place, **STAGE_2, **k}, place)
    for clips in (25, 100, 400):
        for low, high in ((100, 500), (500, 2000)):
            text = f"{high:,} instead of {low} steps, states, {clips} clips"
            for classes, changes in (("stage 1", {}), ("stage 2", STAGE_2), ("true states", STATE)):
                size = {"clips": clips, **changes}
                yield Comparison(f"More steps: {classes}", text, {"steps": high, **size}, {"steps": low, **size})
    text = "500 instead of 125 steps, real-mini"
    yield Comparison("More steps: stage 1", text, {**real, "steps": 500}, {**real, "steps": 125})
    second = {**real, **STAGE_2, "k": 4}
    yield Comparison("More steps: stage 2", text, {**second, "steps": 500}, {**second, "steps": 125})
    for place, text in places:
        yield Comparison("True states over stage 1", text, {**place, **STATE}, place)
        yield Comparison("True states over k-means", text, {**place, **STATE}, {**place, **STAGE_2})
    yield Comparison("True states over shuffled ones", places[4][1], STATE, {**STATE, "shuffled": True})
    yield Comparison("Shuffled states over stage 1", places[4][1], {**STATE, "shuffled": True}, {})
    for clips in (25, 100, 400):
        for count in (2, 4):
            text, sub = f"{count} instead of 16, {clips} clips", {"clips": clips, "subclusters": count}
            yield Comparison("Fewer sub-clusters: stage 1", text, sub, {"clips": clips})
            yield Comparison("Fewer sub-clusters: stage 2", text, {**sub, **STAGE_2}, {"clips": clips, **STAGE_2})
    small = {"design": "mechanisms", "subclusters": 2}
    text = "2 instead of 16, mechanisms, 100 clips"
    yield Comparison("Fewer sub-clusters: stage 1", text, small, {"design": "mechanisms"})
    yield Comparison("Fewer sub-clusters: stage 2", text, {**small, **STAGE_2}, {"design": "mechanisms", **STAGE_2})
    for count in (2, 16):
        yield Comparison("Other numbers of pseudo-labels", f"{count} instead of 8", {**STAGE_2, "k": count}, STAGE_2)
    for at_random in (False, True):
        how = f"100 clips {'at random' if at_random else 'by score'}"
        pool = {"external": 100, "at_random": at_random}
        yield Comparison("Pool: stage 2 on machine labels over stage 1", how, pool, {})
    first = {"external": 100, "at_random": True, "in_first": True}
    for count in (3, 6):
        place = {"machines": count}
        yield Comparison("Pool: 100 clips at random in stage 1", f"{count} machine types", {**place, **first}, place)
        text = f"{count} machine types, over the nearest neighbour"
        yield Comparison("Pool: 100 clips at random in stage 1", text, {**place, **first}, {**place, **NEIGHBOUR})
    trp = {"triplet": True}
    yield Comparison("Triplet loss", "stage 1", trp, {})
    yield Comparison("Triplet loss", "stage 2", {**STAGE_2, **trp}, STAGE_2)
    yield Comparison(
        "real-mini: 2 sub-clusters", "stage 1", {**real, "steps": 125, "subclusters": 2}, {**real, "steps": 125}
    )
    fewer = {**real, **STAGE_2, "steps": 125, "subclusters": 2, "k": 2}
    yield Comparison(
        "real-mini: 2 sub-clusters",
        "stage 2, and 2 instead of 4 clusters",
        fewer,
        {**real, **STAGE_2, "steps": 125, "k": 4},
    )
    b3 = {"branches": 3}
    yield Comparison("Three branches instead of two", "stage 1", b3, {})
    yield Comparison("Three branches instead of two", "stage 2", {**STAGE_2, **b3}, STAGE_2)


def comparison_table(table: pd.DataFrame) -> str:
    """Return the comparisons in Markdown: AUC and official score, mean and 95 % interval."""
    groups: dict[str, list[str]] = {}
    for each in comparisons():
        auc, official = (difference(table, each.changed, each.start, metric) for metric in ("auc", "official"))
        if auc is not None and official is not None:
            row = f"| {each.text} | {_shown(auc)} | {_shown(official)} | {auc.seeds} |"
            groups.setdefault(each.group, []).append(row)
    lines = ["| comparison | AUC | official score | seeds |", "|---|---|---|---|"]
    for group, rows in groups.items():
        lines += [f"| **{group}** | | | |", *rows]
    return "\n".join(lines)


def stage_choices(table: pd.DataFrame) -> str:
    """Return how well criteria of training clips choose between stage 1 and stage 2, in Markdown."""
    network = table[(table.scorer == "network") & ~table.shuffled & (table.external == 0)]
    of_first = network[network.labels == "machine"].drop(columns="k")
    both = network[network.labels == "kmeans"].merge(of_first, on=PLACE, suffixes=("_2", "_1"))
    gain = both.auc_2 - both.auc_1
    lines = ["| chosen by | of pairs, the better stage is chosen | AUC over always stage 1 | over always the better |"]
    lines += ["|---|---|---|---|"]
    rules = {name: sign * (both[f"{name}_2"] - both[f"{name}_1"]) > 0 for name, sign in CRITERIA.items()}
    for name, second in {**rules, "always stage 2": gain == gain}.items():  # noqa: PLR0124 (not for NaN)
        won = int((second == (gain > 0)).sum())
        low, high = stats.binomtest(won, len(gain)).proportion_ci(method="wilson")
        taken = gain.where(second, 0.0)
        share = f"{100 * won / len(gain):.0f} % ({100 * low:.0f} to {100 * high:.0f}) of {len(gain)}"
        lines.append(
            f"| {name.replace('_', ' ')} | {share} | {taken.mean():+.1f} | {(taken - gain.clip(lower=0)).mean():+.1f} |"
        )
    return "\n".join(lines)


def scorer_table(table: pd.DataFrame) -> str:
    """Return AUC and official score of every scorer, less the workflow's on the same embeddings, in Markdown."""
    keys = [*PLACE, "labels", "k", "external", "at_random", "in_first"]
    lines = ["| scorer | AUC | official score | AUC below the better of network and nearest neighbour by more than 1 |"]
    lines += ["|---|---|---|---|"]
    wide = {metric: table.pivot_table(index=keys, columns="scorer", values=metric) for metric in ("auc", "official")}
    best = wide["auc"][["network", "nearest neighbour"]].max(axis=1)
    for name in sorted(set(table.scorer) - {"network"}):
        found = [_shown(mean(wide[metric][name] - wide[metric]["network"])) for metric in ("auc", "official")]
        bad = (wide["auc"][name] < best - 1).mean()
        lines.append(f"| {name} | {found[0]} | {found[1]} | {100 * bad:.0f} % of {len(best)} |")
    return "\n".join(lines)


def _shown(found: Mean) -> str:
    interval = "" if np.isnan(found.low) else f" ({found.low:+.1f} to {found.high:+.1f})"
    return f"{found.value:+.1f}{interval}"


def _draw(
    axes: Axes, x: list[float], values: list[pd.Series], colour: str, marker: str, label: str, **style: Any
) -> None:
    """Draw means with intervals, and every seed as a small dot."""
    kept = [(place, each) for place, each in zip(x, values, strict=True) if len(each)]
    if not kept:
        return
    means = [mean(each) for _, each in kept]
    middle = np.array([each.value for each in means])
    error = np.nan_to_num([[each.value - each.low, each.high - each.value] for each in means]).T
    places = [place for place, _ in kept]
    axes.errorbar(places, middle, error, color=colour, marker=marker, label=label, capsize=2, lw=1.2, ms=5, **style)
    for place, each in kept:
        axes.scatter([place] * len(each), each, s=6, color=colour, alpha=0.5, zorder=3)


def steps_figure(table: pd.DataFrame) -> None:
    """Draw the AUC over optimiser steps, for each number of clips."""
    figure, panels = plt.subplots(1, 3, figsize=(9.5, 3.2), sharey=True, layout="constrained")
    steps = [100, 500, 2000]
    for axes, clips in zip(panels, (25, 100, 400), strict=True):
        for changes, colour, marker, label in (
            ({}, BLUE, "o", "stage 1"),
            (STAGE_2, ORANGE, "s", "stage 2, k-means"),
            (STATE, GREEN, "^", "true states"),
        ):
            values = [chosen(table, clips=clips, steps=count, **changes) for count in steps]
            _draw(axes, [float(count) for count in steps], values, colour, marker, label)
        baseline = chosen(table, clips=clips, **NEIGHBOUR)
        if len(baseline):
            axes.axhline(baseline.mean(), color=GREY, ls="--", lw=1.2, label="nearest neighbour")
        axes.set(xscale="log", xlabel="optimiser steps", title=f"{clips} clips per machine type")
        axes.set_xticks(steps, [f"{count:,}" for count in steps])
        axes.minorticks_off()
    panels[0].set_ylabel("AUC in %")
    panels[0].legend(fontsize=7)
    _save(figure, "steps")


def labels_figure(table: pd.DataFrame) -> None:
    """Draw the AUC by what the classes are made of."""
    figure, panels = plt.subplots(1, 3, figsize=(9.5, 3.0), layout="constrained")
    places: list[tuple[str, dict[str, Any]]] = [
        ("states", {}),
        ("mechanisms", {"design": "mechanisms"}),
        ("real-mini (125 steps)", {"design": "real", "clips": 20, "machines": 3, "steps": 125}),
    ]
    for axes, (title, place) in zip(panels, places, strict=True):
        k = {"k": 4} if place.get("design") == "real" else {}
        classes: list[tuple[str, dict[str, Any]]] = [
            ("nearest\nneighbour", NEIGHBOUR),
            ("machine", {}),
            ("k-means", {**STAGE_2, **k}),
            ("states", STATE),
            ("shuffled", {**STATE, "shuffled": True}),
            ("fusion,\nstage 1", {"scorer": "fusion"}),
        ]
        found = [(name, chosen(table, **{**place, **changes})) for name, changes in classes]
        found = [(name, values) for name, values in found if len(values)]
        for number, (_, values) in enumerate(found):
            _draw(axes, [float(number)], [values], [GREY, BLUE, ORANGE, GREEN, PINK, BLUE][number % 6], "o", "")
        axes.set_xticks(range(len(found)), [name for name, _ in found], fontsize=7)
        axes.set_title(title)
    panels[0].set_ylabel("AUC in %")
    _save(figure, "labels")


def subclusters_figure(table: pd.DataFrame) -> None:
    """Draw the AUC over the number of sub-clusters, for each number of clips."""
    figure, panels = plt.subplots(1, 2, figsize=(7, 3.0), sharey=True, layout="constrained")
    counts = [2, 4, 16]
    for axes, changes, title in zip(panels, ({}, STAGE_2), ("stage 1", "stage 2, k-means"), strict=True):
        for clips, colour, marker in ((25, PINK, "v"), (100, BLUE, "o"), (400, GREEN, "s")):
            values = [chosen(table, clips=clips, subclusters=count, **changes) for count in counts]
            _draw(axes, [float(count) for count in counts], values, colour, marker, f"{clips} clips")
        axes.set(xscale="log", xlabel="sub-clusters per class", title=title)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
    panels[0].set_ylabel("AUC in %")
    panels[0].legend(fontsize=7)
    _save(figure, "subclusters")


def fusion_figure(table: pd.DataFrame) -> None:
    """Draw the fusion's AUC, and the network's, less the nearest neighbour's, in every cell."""
    keys = ["design", "clips", "machines", "shuffled", "steps", "labels", "subclusters", "k", "triplet", "external"]
    keys += ["at_random", "in_first", "branches", "seed"]
    wide = table[~table.shuffled].pivot_table(index=keys, columns="scorer", values="auc")
    gain = wide["network"] - wide["nearest neighbour"]
    figure, axes = plt.subplots(figsize=(4.6, 3.6), layout="constrained")
    for design, colour, marker in (("states", BLUE, "o"), ("mechanisms", ORANGE, "s"), ("real", GREEN, "^")):
        rows = wide.index.get_level_values("design") == design
        fused = wide["fusion"] - wide["nearest neighbour"]
        axes.scatter(gain[rows], fused[rows], s=14, color=colour, marker=marker, alpha=0.6, label=design)
    ends = np.array([min(gain.min(), 0), gain.max()])
    axes.plot(ends, ends, color=GREY, lw=1, label="as good as the network")
    axes.axhline(0, color=GREY, lw=1, ls="--", label="as good as the nearest neighbour")
    axes.set(xlabel="network less nearest neighbour", ylabel="fusion less nearest neighbour")
    axes.legend(fontsize=7)
    _save(figure, "fusion")


def _save(figure: Figure, name: str) -> None:
    figure.savefig(DOCS / f"evidence-{name}.svg", metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Draw everything from studies/measurements.csv."""
    table = pd.read_csv(OUTPUT)
    for draw in (steps_figure, labels_figure, subclusters_figure, fusion_figure):
        draw(table)
    tables = {"comparisons": comparison_table(table), "stages": stage_choices(table), "scorers": scorer_table(table)}
    for name, rows in tables.items():
        print(rows, end="\n\n")
        if PAGE.exists():
            before, rest = PAGE.read_text(encoding="utf-8").split(f"<!-- {name} -->\n")
            PAGE.write_text(
                f"{before}<!-- {name} -->\n\n{rows}\n\n{rest[rest.index('<!-- end -->') :]}", encoding="utf-8"
            )


if __name__ == "__main__":
    main()
