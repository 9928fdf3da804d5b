"""Which differences between systems are real: of every machine type, their mean, and the official score."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asdpipe.method.bootstrap import Interval, clip_weights, difference, strata, weighted_metric
from asdpipe.method.metrics import OFFICIAL_TERMS, official_score
from asdpipe.monitor.compared_runs import Compared, System

DRAWS = 1000
# Of each label, in every machine type of a row: with fewer, intervals are too short.
FEWEST = 10
MEAN, OFFICIAL = "mean", "official"

Floats = NDArray[np.float64]


class Count(NamedTuple):
    """Labelled test clips."""

    normal: int
    anomalous: int

    @property
    def are_enough(self) -> bool:
        """Whether they suffice to rank."""
        return min(self) >= FEWEST


class Blame(NamedTuple):
    """Variance of a difference, in squared percentage points, by what it comes from."""

    normal: float
    anomalous: float
    seeds: float


@dataclass(frozen=True)
class Row:
    """A machine type, or all of them, of a split."""

    split: str
    machine: str
    count: Count
    """Of the machine type, or the smallest of all."""
    values: list[float]
    """Of each system, in percent."""
    differences: dict[tuple[int, int], Interval] = field(default_factory=dict)
    """First minus second system, by their numbers, in percentage points; empty with too few clips."""
    blame: dict[tuple[int, int], Blame] = field(default_factory=dict)
    """Of the mean's differences."""


@dataclass(frozen=True)
class Comparison:
    """What ``compare`` finds."""

    systems: list[System]
    rows: list[Row]
    """Machine types, mean and official score of each split."""


class _Group(NamedTuple):
    """The clips of a machine type and section."""

    machine: str
    is_normal: NDArray[np.bool_]
    domain: NDArray[np.object_]
    scores: list[Floats]
    """Of each system, (seeds, clips)."""


def compare(compared: Compared, draws: int = DRAWS) -> Comparison:
    """Compare all systems with each other, by a bootstrap with a fixed seed."""
    rng = np.random.default_rng(0)
    rows: list[Row] = []
    for split in sorted(set(compared.clips.part)):
        rows += _of_split(compared, split, draws, rng)
    return Comparison(compared.systems, rows)


def _of_split(compared: Compared, split: str, draws: int, rng: np.random.Generator) -> list[Row]:
    clips = compared.clips.reset_index(drop=True)
    groups = []
    for (machine, _), part in clips[clips.part == split].groupby(["machine", "section"]):
        is_normal = part.is_normal.to_numpy()
        domain = part.domain.fillna("").to_numpy(dtype=object)
        groups.append(
            _Group(str(machine), is_normal, domain, [system.scores[:, part.index] for system in compared.systems])
        )
    terms = dict.fromkeys(["auc", *OFFICIAL_TERMS[compared.scoring]])
    of_label: list[list[list[Floats]]] = [[[], []] for _ in compared.systems]
    measured: list[list[dict[str, Floats]]] = [[] for _ in compared.systems]
    for group in groups:
        weights = clip_weights(strata(group.is_normal, group.domain), draws, rng)
        for number in range(len(compared.systems)):
            values = {name: _metric(name, group, number, weights) for name in terms}
            measured[number].append(values)
            for label in (False, True):
                of_one = np.where(group.is_normal == label, weights, 1)
                of_label[number][label].append(_metric("auc", group, number, of_one))
    machines = [group.machine for group in groups]
    counts = {machine: _count([group for group in groups if group.machine == machine]) for machine in machines}
    rows = []
    for machine, count in counts.items():
        of_machine = [
            _mean([values["auc"] for values, of in zip(each, machines, strict=True) if of == machine])
            for each in measured
        ]
        rows.append(_row(compared, (split, machine), count, of_machine, rng))
    # Machine types without a label are left out of the mean.
    of_mean = [count for count in counts.values() if min(count)] or [Count(0, 0)]
    least = Count(*(min(each) for each in zip(*of_mean, strict=True)))
    means = [_mean([values["auc"] for values in each]) for each in measured]
    rows.append(_row(compared, (split, MEAN), least, means, rng))
    alone = [[_mean(values) for values in each] for each in of_label]
    for first, second in rows[-1].differences:
        rows[-1].blame[first, second] = _blame(compared, first, second, means, alone)
    official = [_official(machines, each, compared) for each in measured]
    rows.append(_row(compared, (split, OFFICIAL), least, official, rng))
    return [row for row in rows if not np.isnan(row.values).all()]


def _metric(name: str, group: _Group, system: int, weights: Floats) -> Floats:
    """Return a metric in percent, (1 + draws, seeds)."""
    values = [weighted_metric(name, group.is_normal, group.domain, score, weights) for score in group.scores[system]]
    return 100 * np.stack(values, axis=1)


def _mean(values: Sequence[Floats]) -> Floats:
    """Return the mean of those that are defined, as in auc.csv."""
    defined = [each for each in values if not np.isnan(each).any()]
    return np.mean(defined, axis=0) if defined else np.full_like(values[0], np.nan)


def _official(machines: list[str], values: Sequence[dict[str, Floats]], compared: Compared) -> Floats:
    """Return the official score of every draw and seed, in percent."""
    shape = next(iter(values[0].values())).shape
    scores = np.empty(shape)
    for at in np.ndindex(shape):
        of_draw = [{name: float(each[at]) / 100 for name, each in metrics.items()} for metrics in values]
        scores[at] = 100 * official_score(machines, of_draw, compared.scoring)
    return scores


def _count(groups: Sequence[_Group]) -> Count:
    normal = sum(int(group.is_normal.sum()) for group in groups)
    return Count(normal, sum(len(group.is_normal) for group in groups) - normal)


def _row(
    compared: Compared, of: tuple[str, str], count: Count, values: Sequence[Floats], rng: np.random.Generator
) -> Row:
    differences = {}
    if count.are_enough and not any(np.isnan(each).any() for each in values):
        for first, second in combinations(range(len(values)), 2):
            paired = _paired(compared, first, second)
            differences[first, second] = difference(values[first], values[second], paired, rng)
    return Row(*of, count, [float(each[0].mean()) for each in values], differences)


def _paired(compared: Compared, first: int, second: int) -> bool:
    return compared.systems[first].seeds == compared.systems[second].seeds


def _blame(
    compared: Compared, first: int, second: int, means: Sequence[Floats], alone: Sequence[Sequence[Floats]]
) -> Blame:
    """Return the variance of a difference of means by its sources."""
    anomalous, normal = (
        float(np.var(alone[first][label][1:].mean(axis=1) - alone[second][label][1:].mean(axis=1)))
        for label in (False, True)
    )
    a, b = means[first][0], means[second][0]
    each = [a - b] if _paired(compared, first, second) else [a, b]
    seeds = sum(float(values.var(ddof=1) / len(values)) for values in each if len(values) > 1)
    return Blame(normal, anomalous, seeds)
