"""The paper's tables with our results beside the published ones, as a csv and as markdown."""

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from asdpipe.artifacts.tables import read_table
from asdpipe.errors import UserError
from asdpipe.paper import published as paper
from asdpipe.paper.results import RUN, read_runs

# The method whose N_out and N_max make the groups of Table 4.
GROUPING = "ba_ex"
TITLES = {
    "2": "systems without labels, and two with labels",
    "3": "systems with labels",
    "4": "external clips by anomaly score or at random",
    "5": "pseudo-labels by the loss of stage 1",
    "A1": "systems without labels, and two with labels, per domain",
    "A2": "systems with labels, per domain",
}
NAMES = {
    **{"ba": "Ba", "trp": "L_trp", "ps": "Ps", "ex": "Ex", "wilkinghoff": "Wilkinghoff"},
    **{"label": "w/ label", "nolabel": "w/o label", "": ""},
    **{"raw_logmel": "Raw log-mel", "autoencoder": "Autoencoder"},
    "autoencoder_mahalanobis": "Autoencoder (Mahalanobis)",
    **{"auc": "", "auc_source": "source", "auc_target": "target"},
    **{"large_n_out": "large N_out", "small_n_out": "small N_out"},
}

# Machine types with large and with small N_out.
Groups = dict[str, list[str]]
# N_max by method.
Limits = Mapping[str, int | Literal["auto"]]


class SelectionFacts(BaseModel):
    """The part of a selection's metadata that is read here."""

    n_out: dict[str, int] = {}
    resolved: dict[str, dict[str, int]] = {}
    """N_max by machine type where it is auto, below its key."""


class Cell(NamedTuple):
    """A row of the csv. None: not run, or not in the paper."""

    table: str
    labels: str
    method: str
    stage1: str
    stage: int
    selection: str
    n_max: int | None
    machines: str
    run: str
    our_n_max: str | None
    dataset: str | None
    year: int | None
    split: str
    metric: str
    seeds: int | None
    mean: float | None
    variance: float | None
    paper_mean: float | None
    paper_variance: float | None
    difference: float | None


def make_table(
    table: str,
    years: Mapping[str, int | None],
    limits: Limits,
    aucs: Sequence[Path],
    selections: Sequence[tuple[str, Path]],
) -> tuple[pd.DataFrame, str]:
    """Return the rows of the csv (columns: ``Cell``) and the markdown of a table, in percent.

    Args:
        table: a key of ``published.TABLES``.
        years: year of DCASE (or None) of every data set, in the order of the columns.
        limits: our N_max of every method of Table 4; auto: by machine type, as the selections say.
        aucs: auc.csv of every run and seed; those of runs that the table does not have are ignored.
        selections: Table 4: data set and selected.parquet of stage 1 of GROUPING, one per seed.

    Raises:
        UserError: no such table, or inputs that do not belong together.
    """
    runs, places = paper.runs(table), paper.places(table)
    ours = read_runs(aucs, years, runs)
    groups = _read_groups(selections, years, limits, ours) if table == "4" else {}
    columns = [*years.items(), *((None, year) for year in paper.years(table) if year not in years.values())]
    cells = list(_cells(table, columns, ours, groups, limits))
    notes = [*_notes(table, limits), *(_group_notes(groups, limits) if table == "4" else [])]
    integers = ["stage", "n_max", "year", "seeds"]
    frame = pd.DataFrame(cells, columns=Cell._fields).astype(dict.fromkeys(integers, "Int64"))
    return frame, _document(table, cells, len(columns) * len(places), notes)


# ---------------------------------------------------------------- our runs


def _read_groups(
    selections: Sequence[tuple[str, Path]],
    known: Collection[str],
    limits: Limits,
    ours: pd.DataFrame,
) -> dict[str, Groups]:
    """Return the groups of each data set: a machine type is large if its mean N_out reaches N_max.

    One grouping for all lines, as in the paper, where it also splits Ba, which has no N_max.

    Raises:
        UserError: an unknown data set, no N_max, or clips that were drawn at random.
    """
    datasets = list(dict.fromkeys(dataset for dataset, _ in selections))
    if unknown := set(datasets) - set(known):
        raise UserError(f"--selected-of: --datasets does not name {', '.join(sorted(unknown))}")
    if selections and GROUPING not in limits:
        raise UserError(f"--n-max: has no {GROUPING}, whose N_max makes the groups of Table 4; add it")
    groups = {}
    for dataset in datasets:
        facts = [_facts(file) for name, file in selections if name == dataset]
        by_machine: Mapping[str, float] = facts[0].resolved.get("external.n_max", {})
        named: Groups = {"large_n_out": [], "small_n_out": []}
        for machine in sorted(set(ours.machine[ours.dataset == dataset])):
            mean, limit = np.mean([each.n_out.get(machine, 0) for each in facts]), limits[GROUPING]
            most = limit if isinstance(limit, int) else by_machine.get(machine, math.inf)
            named["large_n_out" if mean >= most else "small_n_out"].append(machine)
        groups[dataset] = named
    return groups


def _facts(file: Path) -> SelectionFacts:
    """Return the facts of a selection: how many external clips pass the threshold of each machine type that has any.

    Raises:
        UserError: the file is not that of a selection by score.
    """
    clips = read_table("selected", file, ["clip_id"])
    facts = (pq.read_schema(file).metadata or {}).get(b"facts", b"{}")
    try:
        found = SelectionFacts.model_validate_json(facts)
    except ValidationError:
        raise UserError(f"{file}: its facts are damaged; delete it and run again") from None
    if len(clips) and not found.n_out:
        message = f"{file}: has no N_out, its clips were drawn at random; Table 4 needs it for its groups"
        raise UserError(f"{message}: set methods.{GROUPING}.external.selection to score")
    return found


def _over_seeds(ours: pd.DataFrame, metric: str) -> tuple[int | None, float | None, float | None]:
    """Return number of seeds, mean and unbiased variance of a run's rows: per seed the mean over machine types."""
    by_machine = ours.groupby(["seed", "machine"])[metric].mean()
    by_seed = by_machine.groupby("seed").mean().dropna()
    if by_seed.empty:
        return None, None, None
    return len(by_seed), float(by_seed.mean()), float(by_seed.var(ddof=1)) if len(by_seed) > 1 else None


def _cells(
    table: str,
    columns: Sequence[tuple[str | None, int | None]],
    ours: pd.DataFrame,
    groups: Mapping[str, Groups],
    limits: Limits,
) -> Iterator[Cell]:
    """Yield the cells line by line; ``columns`` are the data sets with their years."""
    by_run = dict(list(ours.groupby(RUN[:-1])))
    for line, (dataset, year), place in itertools.product(paper.lines(table), columns, paper.places(table)):
        part = by_run.get((dataset, *line.run), ours.iloc[:0])
        if place.split:
            part = part[part.split == place.split]
        if place.machines:
            part = part[part.machine.isin(groups.get(dataset or "", {}).get(place.machines, []))]
        seeds, mean, variance = _over_seeds(part, place.metric)
        theirs = None if year is None else paper.published(table).get((line, year, place))
        yield Cell(
            table=paper.TABLES[table],
            labels=line.labels,
            method=line.method,
            stage1=line.stage1,
            stage=line.run.stage,
            selection=line.selection,
            n_max=line.n_max,
            machines=place.machines,
            run=line.run.method,
            our_n_max=str(limits[line.run.method]) if line.n_max and line.run.method in limits else None,
            dataset=dataset,
            year=year,
            split=place.split,
            metric=place.metric,
            seeds=seeds,
            mean=mean,
            variance=variance,
            paper_mean=theirs and theirs.mean,
            paper_variance=theirs and theirs.variance,
            difference=None if mean is None or theirs is None else mean - theirs.mean,
        )


# ---------------------------------------------------------------- markdown


def _document(table: str, cells: Sequence[Cell], width: int, notes: Iterable[str]) -> str:
    """Return the table as the paper lays it out: ``width`` cells to a line."""
    rows = [cells[start : start + width] for start in range(0, len(cells), width)]
    leading = {
        "labels": [NAMES[row[0].labels] for row in rows],
        "method": [_name(row[0].method, row[0].selection) for row in rows],
        "stage 1": [_name(row[0].stage1) for row in rows],
        "stage": [str(row[0].stage) for row in rows],
        "N_max": [str(row[0].n_max or "") for row in rows],
    }
    # Leave out columns that are the same in all rows.
    shown = {name: column for name, column in leading.items() if len(set(column)) > 1}
    counts = sorted({cell.seeds for cell in cells if cell.seeds is not None})
    seeds = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]]))) if counts else "no"
    seeds += " seed" if counts == [1] else " seeds"
    caption = (
        f"AUC in percent ± its variance over the seeds, as in the paper (ours: {seeds}); in brackets the paper's, and "
        "ours minus the paper's. Where ours is missing it was not run, or there is nothing to measure (no labels, no "
        "machine type)."
    )
    body = [[*head, *map(_shown, row)] for head, row in zip(zip(*shown.values(), strict=True), rows, strict=True)]
    header = [*shown, *map(_heading, rows[0])]
    grid = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *body)]
    listed = [f"- {note}" for note in notes]
    title = f"# Table {paper.TABLES[table]}: {TITLES[table]}"
    return "\n".join([title, "", caption, "", *grid, *([""] if listed else []), *listed, ""])


def _name(method: str, selection: str = "") -> str:
    name = NAMES[method] if method in NAMES else "+".join(NAMES[part] for part in method.split("_"))
    return f"{name} (random)" if selection == "random" else name


def _heading(cell: Cell) -> str:
    parts = [cell.dataset or f"DCASE {cell.year}", cell.split, NAMES[cell.machines], NAMES[cell.metric]]
    return " ".join(filter(None, parts))


def _shown(cell: Cell) -> str:
    ours = "" if cell.mean is None else f"{cell.mean:.1f}"
    if cell.variance is not None:
        ours += f" ± {cell.variance:.1f}"
    if cell.paper_mean is None:
        return ours
    theirs = f"paper {cell.paper_mean:.1f} ± {cell.paper_variance:.1f}"
    if cell.difference is not None:
        # Adding 0.0 turns a negative zero into zero.
        theirs += f", {round(cell.difference, 1) + 0.0:+.1f}".replace("-", "\N{MINUS SIGN}")
    return f"{ours} ({theirs})".strip()


def _notes(table: str, limits: Limits) -> list[str]:
    """Return notes on settings and lines that differ from the paper's."""
    lines = paper.lines(table)
    ours = {line: limits[line.run.method] for line in lines if line.n_max and line.run.method in limits}
    differing = [
        f"{line.run.method} {limit} (paper: {line.n_max})"
        for line, limit in ours.items()
        if isinstance(limit, int) and limit != line.n_max
    ]
    notes = [f"Our N_max is not the paper's: {', '.join(differing)}."] if differing else []
    if following := [f"{line.run.method} (paper: {line.n_max})" for line, limit in ours.items() if limit == "auto"]:
        notes.append(f"Our N_max follows the training clips of each machine type (auto): {', '.join(following)}.")
    if added := [_name(line.method) for line in lines if line in paper.BASELINES]:
        notes.append(f"Not in the paper: {', '.join(added)}.")
    if table.startswith("A"):
        notes.append(
            "Ours: normal clips of the domain against all anomalies, as DCASE has it. The paper's numbers look like "
            "those against anomalies of the same domain (docs/fidelity.md): auc_source_within in the auc.csv of a seed."
        )
    return notes


def _group_notes(groups: Mapping[str, Groups], limits: Limits) -> list[str]:
    """Return the machine types of each group, ours and the paper's."""
    large = "; ".join(f"{year} {', '.join(machines)}" for year, machines in paper.LARGE_N_OUT.items())
    notes = [f"Large N_out in the paper (N_out ≥ N_max): {large}; all others are small."]
    for dataset, named in groups.items():
        ours, others = (", ".join(machines) or "none" for machines in named.values())
        stated = limits[GROUPING]
        most = f"{stated}, N_max of" if isinstance(stated, int) else f"N_max of the machine type, {stated} in"
        limit = f"a mean over the seeds of at least {most} {GROUPING}"
        notes.append(f"Large N_out on {dataset} ({limit}): {ours}; small: {others}.")
    return notes
