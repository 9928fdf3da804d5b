"""Calibration: scores of normal clips that nothing was fitted to, in groups, and what they say of new scores."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from asdpipe.artifacts.files import written
from asdpipe.artifacts.tables import read_facts, read_table, write_table
from asdpipe.errors import UserError
from asdpipe.method.conformal import alarm_limit, clips_needed, p_values, smallest_rate

Scores = NDArray[np.float64]


class Promise(NamedTuple):
    """A limit that keeps the rate of false alarms, for clips that are of one of these groups."""

    limit: float
    """The score above which there is an alarm."""
    groups: list[Scores]

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Return the p-values of scores (clips,), of each the largest of all groups."""
        return np.max([p_values(scores, group) for group in self.groups], axis=0)


class Calibration:
    """Scores of calibration clips by machine type and condition.

    Args:
        table: table ``calibration``; rate: the share of normal clips that may raise an alarm.
        conditions: those that clips of each machine type may be of, also if no calibration clip is.
    """

    def __init__(self, table: pd.DataFrame, rate: float, conditions: Mapping[str, Sequence[str]] | None = None) -> None:
        self.table, self.rate, self.conditions = table, rate, dict(conditions or {})
        self.groups: dict[str, dict[str | None, Scores]] = {
            machine: {name: np.zeros(0) for name in names} for machine, names in self.conditions.items()
        }
        """Scores by machine type and condition; None: all conditions together."""
        for (machine, condition), part in table.groupby(["machine", "condition"], dropna=False):
            name = None if pd.isna(condition) else str(condition)
            self.groups.setdefault(str(machine), {})[name] = part.score.to_numpy()

    def promise(self, machine: str, condition: str | None = None) -> Promise | None:
        """Return what is promised for clips; None: nothing, as a group that they may be of has too few clips.

        Args:
            machine: their machine type; condition: None: not known, so that the limit is the highest of all conditions.
        """
        of = self.groups.get(machine, {})
        if condition in of:
            groups = [of[condition]]
        elif condition is None:
            groups = list(of.values())
        else:
            groups = [of[None]] if None in of else []
        if not groups or min(map(len, groups)) < clips_needed(self.rate):
            return None
        return Promise(max(alarm_limit(group, self.rate) for group in groups), groups)

    def limits(self) -> pd.DataFrame:
        """Return a row per group: the limit, or what is missing for it."""
        needed = clips_needed(self.rate)
        rows = []
        for machine, of in sorted(self.groups.items()):
            for condition, scores in sorted(of.items(), key=lambda item: item[0] or ""):
                smallest = smallest_rate(len(scores))
                missing = max(0, needed - len(scores))
                note = f"needs {missing} more normal {'clip' if missing == 1 else 'clips'}"
                if len(scores):
                    # Rounded up, so that it can be kept.
                    note += f"; with {len(scores)} the smallest honest rate is {math.ceil(smallest * 1000) / 10:g}%"
                rows.append(
                    {
                        "machine": machine,
                        "condition": condition or "",
                        "clips": len(scores),
                        "false_alarms": self.rate,
                        "limit": math.nan if missing else alarm_limit(scores, self.rate),
                        "smallest_rate": smallest,
                        "note": note if missing else "",
                    }
                )
        columns = ["machine", "condition", "clips", "false_alarms", "limit", "smallest_rate", "note"]
        return pd.DataFrame(rows, columns=columns)


def conditions(clips: pd.DataFrame, by: str) -> pd.Series:
    """Return the condition of each clip that limits depend on; missing: not known, or limits are per machine type.

    Args:
        clips: table ``clips``; by: its column, or ``machine``.
    """
    return clips[by] if by != "machine" else pd.Series(None, clips.index, dtype=object)


def write_calibration(calibration: Calibration, file: Path, limits: Path, facts: Mapping[str, Any]) -> None:
    """Write the table of a calibration, and its limits as csv."""
    facts = {**facts, "false_alarms": calibration.rate, "conditions": calibration.conditions}
    write_table("calibration", calibration.table, file, facts)
    with written(limits) as temporary:
        # At full precision, as scores are compared with it.
        calibration.limits().to_csv(temporary, index=False, lineterminator="\n")


def read_calibration(file: Path) -> tuple[Calibration, dict[str, Any]]:
    """Return a calibration, and the facts that were stored with it.

    Raises:
        UserError: the file is damaged.
    """
    table, facts = read_table("calibration", file), read_facts(file)
    rate, known = facts.get("false_alarms"), facts.get("conditions")
    if not isinstance(rate, float) or not 0 < rate < 1 or not isinstance(known, dict):
        raise UserError(f"{file}: its metadata is damaged; delete it and run again")
    return Calibration(table, rate, known), facts


def read_mean(files: Sequence[Path]) -> tuple[Calibration, dict[str, Any]]:
    """Return the calibration of the mean scores over the seeds, and the facts of the first.

    Args:
        files: the calibration of each seed.

    Raises:
        UserError: they are of different clips, or damaged.
    """
    (first, facts), *others = map(read_calibration, files)
    tables = [first.table, *(each.table for each, _ in others)]
    for file, table in zip(files, tables, strict=True):
        if set(table.clip_id) != set(first.table.clip_id):
            raise UserError(f"{file}: is of other clips than {files[0]}; delete both and run again")
    mean = pd.concat(tables).groupby("clip_id").score.mean()
    table = first.table.assign(score=first.table.clip_id.map(mean))
    return Calibration(table, first.rate, first.conditions), facts
