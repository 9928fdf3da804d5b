"""Part 1: metrics of every system, and which differences are real."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from asdpipe.errors import UserError
from asdpipe.monitor import comparison_words
from asdpipe.monitor.compared_runs import read_systems
from asdpipe.monitor.comparison import compare
from asdpipe.paper.results import MEANS, REPORTED, RUN, column_names, over_seeds, read_auc
from asdpipe.report.runs import Run

# A bootstrap of many systems says little, and takes long.
MOST_COMPARED = 12
OFFICIAL = "official"


@dataclass(frozen=True)
class Results:
    """Metrics and what they mean."""

    systems: list[str]
    """Their names, the shown method's stages last."""
    seeds: pd.DataFrame
    """All rows of the auc.csv of every seed, with the column ``system``; in percent."""
    means: pd.DataFrame
    """Mean and variance over the seeds, with the column ``system``."""
    sentences: list[str] = field(default_factory=list)
    """Which differences are real."""
    advice: list[str] = field(default_factory=list)
    """What to take, and what to do next."""
    note: str = ""
    """Why systems could not be compared."""

    @property
    def has_labels(self) -> bool:
        """Whether there is any AUC."""
        return bool(self.means.auc.notna().any())

    def cells(self) -> list[tuple[str, str, list["Cell | None"]]]:
        """Return split, machine type and a cell of each system, of every row of the table; the official score last."""
        rows: list[tuple[str, str, list[Cell | None]]] = []
        for split, part in self.means.groupby("split", sort=True):
            machines = dict.fromkeys(zip(part.machine, part.section, strict=True))
            several = part[part.section != ""].groupby("machine").section.nunique().max() > 1
            for machine, section in machines:
                found = part[(part.machine == machine) & (part.section == section)].set_index("system")
                name = f"{machine} {section}" if several and section else machine
                rows.append((str(split), str(name), [_cell(found, system, "auc") for system in self.systems]))
            mean = part[(part.machine == "mean") & (part.section == "")].set_index("system")
            rows.append((str(split), OFFICIAL, [_cell(mean, system, OFFICIAL) for system in self.systems]))
        return rows


@dataclass(frozen=True)
class Cell:
    """A metric over the seeds, in percent."""

    value: float
    deviation: float
    """NaN: there is one seed."""
    seeds: int


def gather_results(systems: Sequence[Sequence[Run]]) -> Results:
    """Read the metrics of systems, each with its seeds, and compare them."""
    keys = pd.DataFrame(
        [(runs[0].folder.parents[2].name, runs[0].method, runs[0].stage, None) for runs in systems], columns=RUN
    )
    names = column_names(keys)
    if len(names) == 1:
        names = [f"{runs[0].method} stage {runs[0].stage}" for runs in systems]
    seeds, means = [], []
    for name, runs in zip(names, systems, strict=True):
        frames = [read_auc(run.auc) for run in runs]
        seeds += [frame.assign(system=name) for frame in frames]
        means.append(over_seeds(frames).assign(system=name))
    results = Results(names, pd.concat(seeds, ignore_index=True), pd.concat(means, ignore_index=True))
    if not results.has_labels:
        return results
    if len(systems) < 2:
        note = f"There is nothing to compare {names[0]} with yet: let the workflow finish another stage or a baseline."
        return Results(names, results.seeds, results.means, note=note)
    compared = systems[-MOST_COMPARED:]
    try:
        # In their order, as the first is the one that others are compared with.
        found = compare(read_systems([run.auc for runs in compared for run in runs]))
    except UserError as error:
        return Results(names, results.seeds, results.means, note=f"The systems cannot be compared: {error}")
    sentences, advice = list(comparison_words.sentences(found)), list(comparison_words.advice(found))
    left_out = len(systems) - len(compared)
    note = f"{left_out} more systems are in the table alone; asdpipe compare compares them." if left_out else ""
    return Results(names, results.seeds, results.means, sentences, advice, note)


def _cell(found: pd.DataFrame, system: str, metric: str) -> Cell | None:
    if system not in found.index or pd.isna(found.loc[system, metric]):
        return None
    row = found.loc[system]
    return Cell(float(row[metric]), float(row[f"{metric}_var"]) ** 0.5, int(row.seeds))


def detail(results: Results, system: str) -> pd.DataFrame:
    """Return all metrics of one system, a row per split, machine type and section."""
    columns = ["split", "machine", "section", *REPORTED]
    own = results.means[results.means.system == system]
    return own.loc[~own.machine.isin(MEANS) | (own.section != ""), columns]


def safest(advice: Sequence[str]) -> list[str]:
    """Return the sentences that say which system to take."""
    return [sentence for sentence in advice if re.search(r": (safest so far|nothing is ranked)", sentence)]
