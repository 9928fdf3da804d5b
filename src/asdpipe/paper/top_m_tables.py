"""The tables of the second paper with our results beside the published ones, as a csv and as markdown."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from asdpipe.method.metrics import harmonic_mean
from asdpipe.paper import top_m as paper
from asdpipe.paper.results import read_runs

# The metrics that are measured; the others are means of these. Domains as in DCASE since 2022: normal clips of the
# domain against all anomalies. The printed numbers are multiples of 1/5000: 50 normal clips times 100 anomalies.
MEASURED = {"sauc": "auc_source", "tauc": "auc_target", "pauc": "pauc"}


class Cell(NamedTuple):
    """A row of the csv. None: not run, or not published."""

    group: str
    """``top_m``: the paper's rows; ``ours``: our other systems; ``published``: official scores of other systems."""
    system: str
    """Our method, or the name of a published system."""
    m: int | None
    dataset: str | None
    year: int | None
    split: str
    metric: str
    machine: str
    """Machine type by the paper's name, or ``hmean``."""
    seeds: int | None
    mean: float | None
    variance: float | None
    published: float | None
    difference: float | None
    source: str | None


def make_top_m_table(
    backbone: str, datasets: Mapping[str, Mapping[str, str]], aucs: Sequence[Path]
) -> tuple[pd.DataFrame, str]:
    """Return the rows of the csv (columns: ``Cell``) and the markdown of a backbone's table, in percent.

    Args:
        backbone: a key of ``top_m.BACKBONES``.
        datasets: by data set, the paper's name of each of its machine types that is of the development set of DCASE
            2025; empty for other data sets, whose machine types have no published numbers.
        aucs: auc.csv of every run and seed; those of runs that the table does not have are ignored.

    Raises:
        UserError: no such backbone, or inputs that do not belong together.
    """
    methods = paper.methods(backbone)
    runs = read_runs(aucs, datasets, [(method, 1) for method in methods])
    runs = runs[runs.split == paper.SPLIT]
    # The published numbers, also where no data set has them.
    named: list[tuple[str | None, Mapping[str, str]]] = [*datasets.items()]
    if not any(datasets.values()):
        named.append((None, {machine: machine for machine in paper.MACHINES}))
    others = [name for name in paper.others(backbone) if name in set(runs.method)]
    blocks = [
        list(_block(backbone, dataset, machines, others, runs[runs.dataset == dataset])) for dataset, machines in named
    ]
    cells = [*itertools.chain(*blocks), *_other_systems()]
    frame = pd.DataFrame(cells, columns=Cell._fields).astype(dict.fromkeys(("m", "year", "seeds"), "Int64"))
    return frame, _document(backbone, blocks)


# ---------------------------------------------------------------- cells


def _block(
    backbone: str, dataset: str | None, machines: Mapping[str, str], others: Iterable[str], runs: pd.DataFrame
) -> Iterator[Cell]:
    """Yield the cells of a data set, system by system and metric by metric."""
    columns = list(paper.MACHINES) if machines else sorted(set(runs.machine))
    if machines:
        runs = runs.assign(machine=runs.machine.map(machines)).dropna(subset="machine")
    theirs = paper.published(backbone) if machines else {}
    systems = [("top_m", paper.method_name(backbone, m), m) for m in paper.LABELS_PER_CLIP]
    for group, system, m in [*systems, *(("ours", name, None) for name in others)]:
        measured = _by_seed(runs[runs.method == system], columns)
        for metric, machine in itertools.product(paper.METRICS, [*columns, paper.MEAN]):
            values = measured[metric, machine].dropna()
            mean = float(values.mean()) if len(values) else None
            printed = None if m is None else theirs.get(paper.Place(m, machine, metric))
            yield Cell(
                group=group,
                system=system,
                m=m,
                dataset=dataset,
                year=paper.YEAR if machines else None,
                split=paper.SPLIT,
                metric=metric,
                machine=machine,
                seeds=len(values) or None,
                mean=mean,
                variance=float(values.var(ddof=1)) if len(values) > 1 else None,
                published=printed,
                difference=None if mean is None or printed is None else mean - printed,
                source=None if printed is None else paper.TABLES[backbone],
            )


def _by_seed(runs: pd.DataFrame, machines: Sequence[str]) -> pd.DataFrame:
    """Return (metric, machine type or MEAN) of every seed; a mean is missing unless all that it is over is there."""
    sections = runs.groupby(["seed", "machine"])[list(MEASURED.values())].mean()
    table = sections.astype(float).set_axis(list(MEASURED), axis=1)
    table["ave"] = (table.sauc + table.tauc) / 2
    table["hmean"] = [harmonic_mean(terms) for terms in table[list(MEASURED)].to_numpy()]
    wide = table.pivot_table(index="seed", columns="machine").reindex(
        columns=pd.MultiIndex.from_product([paper.METRICS, machines])
    )
    for metric in paper.METRICS:
        wide[metric, paper.MEAN] = [harmonic_mean(each) for each in wide[metric].to_numpy()] if machines else None
    return wide


def _other_systems() -> Iterator[Cell]:
    """Yield the official scores of other systems: the last column of the last metric."""
    for system in paper.other_systems():
        yield Cell(
            *("published", system.name, None, None, system.year, system.split, "hmean", paper.MEAN),
            *(None, None, None, system.official, None, system.source),
        )


# ---------------------------------------------------------------- markdown


def _document(backbone: str, blocks: Iterable[Sequence[Cell]]) -> str:
    """Return the table as the paper lays it out, one for each data set, and the other systems."""
    lines = [
        f"# Top-M pseudo-labels with {paper.BACKBONES[backbone]}",
        "",
        "In percent, ± the variance over the seeds; in brackets the paper's value, and ours minus the paper's. Where "
        "ours is missing it was not run, or there is nothing to measure. H. Mean: to the right over the machine types, "
        "below over sAUC, tAUC and pAUC; in the corner, the official score.",
    ]
    for block in filter(None, blocks):
        machines = list(dict.fromkeys(cell.machine for cell in block))
        header = ["system", "metric", *machines[:-1], "H. Mean"]
        rows = [block[start : start + len(machines)] for start in range(0, len(block), len(machines))]
        counts = sorted({cell.seeds for cell in block if cell.seeds})
        seeds = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]]))) if counts else "no"
        body = [[_name(row[0]), paper.METRICS[row[0].metric], *map(_shown, row)] for row in rows]
        title = block[0].dataset or f"DCASE {paper.YEAR}"
        lines += ["", f"## {title}, development set (seeds of ours: {seeds})", "", *_grid(header, body)]
    published = [
        [system.name, f"DCASE {system.year} {system.split}", f"{system.official:.2f}", system.source]
        for system in paper.other_systems()
    ]
    header = ["system", "data set", "official score", "source"]
    lines += ["", "## Published official scores of other systems", "", *_grid(header, published)]
    return "\n".join([*lines, "", *(f"- {note}" for note in _notes(backbone)), ""])


def _grid(header: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *body)]


def _name(cell: Cell) -> str:
    return cell.system if cell.m is None else f"M = {cell.m}"


def _shown(cell: Cell) -> str:
    ours = "" if cell.mean is None else f"{cell.mean:.1f}"
    if cell.variance is not None:
        ours += f" ± {cell.variance:.1f}"
    if cell.published is None:
        return ours
    theirs = f"paper {cell.published:.2f}"
    if cell.difference is not None:
        # Adding 0.0 turns a negative zero into zero.
        theirs += f", {round(cell.difference, 1) + 0.0:+.1f}".replace("-", "\N{MINUS SIGN}")
    return f"{ours} ({theirs})".strip()


def _notes(backbone: str) -> list[str]:
    """Return notes on how the numbers compare."""
    notes = [
        "sAUC and tAUC: normal clips of the domain against all anomalies, as in DCASE since 2022. The printed numbers "
        "are of that kind: all are multiples of 0.02 % (50 normal clips times 100 anomalies), and more than half are "
        "no multiples of 0.04 % (50 times 50). Against anomalies of the same domain: auc_source_within and "
        "auc_target_within in the auc.csv of a seed.",
        "pAUC: false-positive rates up to 0.1, standardised, over the clips of both domains.",
    ]
    for name, place, implied in paper.MISPRINTS:
        if name == backbone:
            metric, printed = paper.METRICS[place.metric], paper.published(backbone)[place]
            notes.append(
                f"M = {place.m}, {place.machine}: {metric} is printed as {printed:.2f}, but the means of its row and "
                f"column imply {implied:.2f}."
            )
    return notes
