"""The charts of a report, as Vega-Lite specifications.

Colours are those of Okabe and Ito, which people with any colour vision tell apart. In black and white, the place, shape
or dashes say the same.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from asdpipe.method.metrics import MAX_FPR
from asdpipe.report.clips import ANOMALOUS, NORMAL, UNKNOWN

Spec = dict[str, Any]
BLUE, ORANGE, GREEN, RED, SKY, PINK, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#999999"
COLOURS = [BLUE, ORANGE, GREEN, PINK, SKY, RED, GREY]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"]
DASHES = [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [12, 4], [4, 4, 1, 4]]
LABEL_COLOURS = {NORMAL: SKY, ANOMALOUS: RED, UNKNOWN: GREY}
BINS = 24
# Takes the colour of the text around the chart, in light and dark.
INK = "currentColor"


def results_chart(means: pd.DataFrame, systems: Sequence[str], split: str) -> Spec:
    """Return the AUC of every machine type (rows) and system (symbols), with the standard deviation over the seeds.

    Args:
        means: rows of auc.csv over the seeds, with ``system``.
    """
    part = means[(means.split == split) & means.auc.notna() & (means.machine != "hmean")]
    several = part.groupby(["machine", "system"]).size().max() > 1
    name = part.machine + " " + part.section if several else part.machine
    deviation = np.sqrt(part.auc_var)
    data = pd.DataFrame(
        {
            **{"machine": name, "system": part.system, "auc": part.auc, "seeds": part.seeds},
            "low": (part.auc - deviation).where(deviation.notna()),
            "high": (part.auc + deviation).where(deviation.notna()),
        }
    )
    order = [*(each for each in dict.fromkeys(data.machine) if each != "mean"), "mean"]
    colour = alt.Color("system:N", sort=list(systems), scale=_scale(systems, COLOURS), legend=_legend())
    # The same for all splits.
    lowest = float((means.auc - np.sqrt(means.auc_var).fillna(0)).min())
    scale = alt.Scale(domain=[min(40, math.floor(lowest / 10) * 10), 100], nice=False)
    x: Spec = {"scale": scale, "title": "AUC in %", "axis": alt.Axis(tickCount=7)}
    base = alt.Chart(_values(data)).encode(
        y=alt.Y("machine:N", sort=order, title=None, axis=alt.Axis(grid=True, bandPosition=0)),
        yOffset=alt.YOffset("system:N", sort=list(systems)),
        color=colour,
    )
    tips = [alt.Tooltip(each) for each in ("system:N", "machine:N", "auc:Q", "seeds:Q")]
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=alt.X("auc:Q", **x), shape=_shape("system", systems), tooltip=tips
    )
    chance = (
        alt.Chart(alt.InlineData([{"at": 50}]))
        .mark_rule(strokeDash=[4, 4], color=INK, opacity=0.6)
        .encode(x=alt.X("at:Q", **x))
    )
    drawn = chance + points
    if deviation.notna().any():
        drawn = chance + base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", **x), x2="high:Q") + points
    return _spec(
        drawn, f"AUC per machine type and system, {split}", len(order) * len(systems) * max(10, 18 - len(systems)) + 10
    )


def histogram(part: pd.DataFrame, machine: str) -> Spec:
    """Return the scores of a machine type, a row per label and domain, with the limit of each row.

    Args:
        part: its clips with ``score``, ``label``, ``domain`` and ``limit``.
    """
    lowest, highest = (float(edge) for edge in np.nanpercentile([*part.score, *part.limit], [0, 100]))
    edges = np.linspace(lowest, highest if highest > lowest else lowest + 1, BINS + 1)
    groups = part.assign(domain=part.domain.fillna("")).groupby(["label", "domain"], sort=True)
    order = sorted(groups.groups, key=lambda key: ([ANOMALOUS, NORMAL, UNKNOWN].index(key[0]), key[1]))
    bars, rules, names = [], [], []
    for row, (label, domain) in enumerate(order):
        clips = groups.get_group((label, domain))
        counts = np.histogram(clips.score, edges)[0]
        names.append(f"{label} {domain}".strip())
        for number in np.flatnonzero(counts).tolist():
            top = row + 0.85 * counts[number] / counts.max()
            sides = {"from": float(edges[number]), "to": float(edges[number + 1]), "base": row, "top": float(top)}
            bars.append({**sides, "label": label, "clips": int(counts[number]), "row": names[-1]})
        limits = sorted(set(clips.limit.dropna()))
        rules += [{"at": float(limit), "base": row, "top": row + 0.95, "limit": float(limit)} for limit in limits]
    axis = alt.Axis(
        values=[row + 0.4 for row in range(len(names))],
        labelExpr=f"{_json(names)}[floor(datum.value)]",
        ticks=False,
        domain=False,
        grid=False,
    )
    y: Spec = {"scale": alt.Scale(domain=[0, len(names)], nice=False), "axis": axis, "title": None}
    scale = alt.Scale(zero=False, nice=True)
    x: Spec = {"scale": scale, "title": "score (larger is more anomalous)", "axis": alt.Axis(tickCount=5)}
    labels = [label for label in LABEL_COLOURS if label in set(part.label)]
    drawn = (
        alt.Chart(_records(bars))
        .mark_rect(stroke=INK, strokeWidth=0.5)
        .encode(
            **{"x": alt.X("from:Q", **x), "x2": "to:Q", "y": alt.Y("base:Q", **y), "y2": "top:Q"},
            color=alt.Color(
                "label:N",
                scale=alt.Scale(domain=labels, range=[LABEL_COLOURS[each] for each in labels]),
                legend=None,
            ),
            tooltip=[alt.Tooltip(each) for each in ("row:N", "clips:Q", "from:Q", "to:Q")],
        )
    )
    limit = (
        alt.Chart(_records(rules))
        .mark_rule(color=INK, strokeWidth=2.5, strokeDash=[6, 3])
        .encode(x=alt.X("at:Q", **x), y=alt.Y("base:Q", **y), y2="top:Q", tooltip=[alt.Tooltip("limit:Q")])
    )
    return _spec(drawn + limit, f"Scores of {machine}", 44 * len(names) + 10)


def roc_chart(curves: Sequence[tuple[str, pd.DataFrame]], points: Sequence[Spec], machine: str) -> Spec:
    """Return ROC curves with the region of the pAUC and the limit's point.

    Args:
        curves: name of each seed, and its ``false`` and ``true`` rates, in order.
        points: rates at the limit, with ``what``.
    """
    data = [
        {"seed": name, "order": number, "false": float(row.false), "true": float(row.true)}
        for name, curve in curves
        for number, row in enumerate(curve.itertuples())
    ]
    rate = alt.Scale(domain=[0, 1], nice=False)
    fifths = alt.Axis(tickCount=5)
    x = alt.X("false:Q", scale=rate, title="false alarms", axis=fifths)
    y = alt.Y("true:Q", scale=rate, title="found anomalies", axis=fifths)
    region = alt.Chart(alt.InlineData([{"from": 0, "to": MAX_FPR, "region": f"pAUC, up to {MAX_FPR:g}"}])).mark_rect(
        color=INK, opacity=0.12
    )
    region = region.encode(
        x=alt.X("from:Q", scale=rate, title="false alarms", axis=fifths), x2="to:Q", tooltip=["region:N"]
    )
    ends = alt.InlineData([{"false": 0, "true": 0}, {"false": 1, "true": 1}])
    diagonal = alt.Chart(ends).mark_line(color=INK, opacity=0.5, strokeDash=[2, 4], strokeWidth=1).encode(x=x, y=y)
    names = [name for name, _ in curves]
    legend = _legend("stroke") if len(names) > 1 else None
    lines = (
        alt.Chart(_records(data))
        .mark_line(strokeWidth=2)
        .encode(
            **{"x": x, "y": y, "order": "order:Q"},
            color=alt.Color("seed:N", sort=names, scale=_scale(names, COLOURS), legend=legend),
            strokeDash=_dash("seed", names, legend),
        )
    )
    at_limit = (
        alt.Chart(_records(points))
        .mark_point(shape="diamond", filled=True, size=140, color=RED, stroke=INK, strokeWidth=1, opacity=1)
        .encode(x=x, y=y, tooltip=[alt.Tooltip(each) for each in ("what:N", "false:Q", "true:Q")])
    )
    return _spec(region + diagonal + lines + at_limit, f"ROC of {machine}", 230)


def labels_chart(rows: Sequence[Spec], stage: int) -> Spec:
    """Return how many external clips of every label each machine type got.

    Args:
        rows: ``machine``, ``label``, ``clips``.
    """
    base = alt.Chart(_records(rows)).encode(
        x=alt.X("machine:N", title=None, axis=alt.Axis(labelAngle=-40)), y=alt.Y("label:N", sort="-x", title=None)
    )
    most = max(row["clips"] for row in rows)
    cells = base.mark_rect(stroke=INK, strokeOpacity=0.3).encode(
        color=alt.Color("clips:Q", scale=alt.Scale(scheme="blues", domain=[0, most]), legend=None),
        tooltip=[alt.Tooltip(each) for each in ("machine:N", "label:N", "clips:Q")],
    )
    dark: Spec = {"condition": {"test": f"datum.clips > {most / 2}", "value": "white"}, "value": "black"}
    counts = base.mark_text(fontSize=12).encode(text="clips:Q", color=alt.ColorValue(**dark))
    return _spec(
        cells + counts,
        f"Labels of the external clips that stage {stage} selected",
        22 * len({row["label"] for row in rows}),
    )


def map_chart(points: Sequence[Spec], fields: dict[str, str], machines: Sequence[str]) -> Spec:
    """Return the map of the embeddings, coloured by a field that a person chooses.

    Args:
        points: with coordinates, ``name``, ``sound``, and the fields.
        fields: title of each field, by its name; machines: machine types that can be looked at alone.
    """
    by = alt.param(
        name="by",
        value=next(iter(fields)),
        bind=alt.binding_select(options=list(fields), labels=list(fields.values()), name="coloured by "),
    )
    options = ["", *machines]
    only = alt.param(
        name="only",
        value="",
        bind=alt.binding_select(options=options, labels=["all", *machines], name="machine types "),
    )
    chart = (
        alt.Chart(_records(points))
        .transform_filter("only == '' || datum.machine == only")
        .transform_calculate(
            group="datum[by]", at_x="only == '' ? datum.x : datum.own_x", at_y="only == '' ? datum.y : datum.own_y"
        )
        .mark_point(size=70, strokeWidth=1.8, cursor="pointer")
        .encode(
            x=alt.X("at_x:Q", title="first component", axis=alt.Axis(labels=False, ticks=False, grid=False)),
            y=alt.Y("at_y:Q", title="second component", axis=alt.Axis(labels=False, ticks=False, grid=False)),
            color=alt.Color("group:N", scale=alt.Scale(range=COLOURS), legend=_legend()),
            shape=alt.Shape("group:N", scale=alt.Scale(range=SHAPES), legend=_legend()),
            tooltip=[alt.Tooltip(each) for each in ("name:N", *(f"{each}:N" for each in fields), "score:Q")],
        )
        .add_params(by, only)
    )
    return _spec(chart, "Map of the embeddings; a click on a point plays its clip", 420)


def losses_chart(losses: pd.DataFrame) -> Spec:
    """Return the loss per epoch, a line per stage and seed.

    Args:
        losses: rows of training.csv with ``stage`` and ``seed``.
    """
    data = losses.assign(
        stage="stage " + losses.stage.astype(str), line=losses.stage.astype(str) + "/" + losses.seed.astype(str)
    )
    if "machine" in data:
        data["line"] += "/" + data.machine.astype(str)
    stages = list(dict.fromkeys(data.stage))
    shown = data[["epoch", "loss", "stage", "seed", "line"]]
    colour = alt.Color("stage:N", sort=stages, scale=_scale(stages, COLOURS), legend=_legend("stroke"))
    base = alt.Chart(_values(shown)).encode(
        x=alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1, tickCount=8)),
        y=alt.Y("loss:Q", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=6)),
        color=colour,
        detail="line:N",
    )
    lines = base.mark_line(strokeWidth=2).encode(strokeDash=_dash("stage", stages, _legend("stroke")))
    tips = [alt.Tooltip(each) for each in ("stage:N", "seed:Q", "epoch:Q", "loss:Q")]
    points = base.mark_point(size=20, filled=True, opacity=1).encode(tooltip=tips)
    return _spec(lines + points, "Training loss", 240)


def times_chart(steps: pd.DataFrame) -> Spec:
    """Return the time of every step, all jobs together."""
    data = steps.assign(minutes=steps.seconds / 60)[["step", "minutes", "jobs", "longest", "memory"]]
    chart = (
        alt.Chart(_values(data))
        .mark_bar(color=BLUE)
        .encode(
            x=alt.X("minutes:Q", title="minutes, all jobs together", axis=alt.Axis(tickCount=6)),
            y=alt.Y("step:N", sort=list(data.step), title=None),
            tooltip=[alt.Tooltip(each) for each in ("step:N", "minutes:Q", "jobs:Q", "longest:Q", "memory:Q")],
        )
    )
    return _spec(chart, "Time per step", 20 * len(data))


def _spec(chart: alt.Chart | alt.LayerChart, description: str, height: int) -> Spec:
    """Return a chart as wide as the page has room for."""
    sized = chart.properties(
        width="container", height=height, autosize={"type": "fit-x", "contains": "padding"}, description=description
    )
    # Embedded once by the page for all charts.
    spec = {name: value for name, value in sized.to_dict().items() if name not in ("config", "$schema")}
    return {"$schema": "https://vega.github.io/schema/vega-lite/v6.json", **spec}


def _values(frame: pd.DataFrame) -> alt.InlineData:
    return _records(frame.to_dict("records"))


def _records(rows: Sequence[Any]) -> alt.InlineData:
    """Return rows as data of a chart; JSON has no NaN."""
    cleaned = [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        for row in rows
    ]
    return alt.InlineData(cleaned)


def _scale(names: Sequence[str], values: Sequence[Any]) -> alt.Scale:
    """Return a scale that gives names values in turn."""
    return alt.Scale(domain=list(names), range=[values[number % len(values)] for number in range(len(names))])


def _shape(field: str, names: Sequence[str]) -> alt.Shape:
    return alt.Shape(f"{field}:N", sort=list(names), scale=_scale(names, SHAPES), legend=_legend())


def _dash(field: str, names: Sequence[str], legend: alt.Legend | None) -> alt.StrokeDash:
    return alt.StrokeDash(f"{field}:N", sort=list(names), scale=_scale(names, DASHES), legend=legend)


def _legend(symbols: str | None = None) -> alt.Legend:
    kind: Spec = {} if symbols is None else {"symbolType": symbols}
    return alt.Legend(orient="bottom", title=None, columns=3, labelLimit=140, **kind)


def _json(names: Sequence[str]) -> str:
    """Return words that are known (labels and domains) as an expression."""
    return json.dumps(list(names))
