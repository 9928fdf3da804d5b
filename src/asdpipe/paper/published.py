"""The published numbers of the paper's tables, and our run of each line."""

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from asdpipe.errors import UserError

# By the name in our files: the paper's name.
TABLES = {"2": "2", "3": "3", "4": "4", "5": "5", "A1": "A.1", "A2": "A.2"}

# §5.5: machine types with large N_out (at least N_max); N_out of all others is small.
LARGE_N_OUT = {2022: ("fan", "valve"), 2023: ("bandsaw", "grinder"), 2024: ("BrushlessMotor",)}


class Run(NamedTuple):
    """A stage of one of our methods."""

    method: str
    stage: int


class Line(NamedTuple):
    """A line of a table: a system by the paper's name, and our run of it. Columns that a table lacks are empty."""

    labels: str
    """``label`` or ``nolabel``."""
    method: str
    stage1: str
    """Method of stage 1 (Table 5)."""
    selection: str
    """``none``, ``anomaly_score`` or ``random`` (Table 4)."""
    n_max: int | None
    run: Run


class Place(NamedTuple):
    """A column of a table for every data set: a metric of a split (or of both), of some machine types (or of all)."""

    split: str
    machines: str
    """``large_n_out`` or ``small_n_out`` (Table 4)."""
    metric: str


class Value(NamedTuple):
    """A published number: percent, and its variance over five seeds."""

    mean: float
    variance: float


# Our baselines, which the paper does not have; last in the tables of systems without labels.
BASELINES = tuple(
    Line("nolabel", method, "", "", None, Run(method, 1))
    for method in ("raw_logmel", "autoencoder", "autoencoder_mahalanobis")
)


def published(table: str) -> Mapping[tuple[Line, int, Place], Value]:
    """Return the numbers of a table (a key of TABLES) by line, year of DCASE and column, in the paper's order.

    Raises:
        UserError: no such table.
    """
    if table not in TABLES:
        raise UserError(f"table {table!r}: the paper has no such table with results; choose one of {', '.join(TABLES)}")
    return _numbers()[TABLES[table]]


def lines(table: str) -> list[Line]:
    """Return the lines of a table in the paper's order, followed by our baselines."""
    printed = dict.fromkeys(line for line, _, _ in published(table))
    return [*printed, *(BASELINES if table in {"2", "A1"} else ())]


def years(table: str) -> list[int]:
    """Return the years of DCASE that a table has."""
    return list(dict.fromkeys(year for _, year, _ in published(table)))


def places(table: str) -> list[Place]:
    """Return the columns of a table for every data set."""
    return list(dict.fromkeys(place for _, _, place in published(table)))


def runs(table: str) -> list[Run]:
    """Return our runs of a table in the paper's order, without duplicates."""
    return list(dict.fromkeys(line.run for line in lines(table)))


@cache
def _numbers() -> dict[str, dict[tuple[Line, int, Place], Value]]:
    tables: dict[str, dict[tuple[Line, int, Place], Value]] = {name: {} for name in TABLES.values()}
    text = files("asdpipe").joinpath("paper/iterative_asd.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        names = (row["labels"], row["method"], row["stage1"], row["selection"])
        line = Line(*names, int(row["n_max"]) if row["n_max"] else None, _run(row))
        place = Place(row["split"], row["machines"], row["metric"])
        tables[row["table"]][line, int(row["year"]), place] = Value(float(row["mean"]), float(row["variance"]))
    return tables


def _run(row: Mapping[str, str]) -> Run:
    """Return our run of a row of the csv."""
    # The tables with labels name the same parts in another order.
    method = "ba_trp_ps" if row["method"] == "ba_ps_trp" else row["method"]
    if row["labels"] == "label":
        method += "_labelled"
    if row["selection"] == "random":
        method += "_random"
    # Names leave out the default N_max, 1000,
    if row["n_max"] not in {"", "1000"}:
        method += f"_{row['n_max']}"
    # and a stage 1 with the losses of the method itself.
    if row["stage1"] and row["stage1"] != row["method"].removesuffix("_ps"):
        method += f"_from_{row['stage1']}"
    # Table 4 does not print the stage: stage 1 selects clips, stage 2 trains on them.
    return Run(method, int(row["stage"] or (1 if row["selection"] == "none" else 2)))
