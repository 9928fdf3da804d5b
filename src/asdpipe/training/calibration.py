"""Calibration: scores of normal clips that nothing was fitted to, in groups, and what they say of new scores."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdpipe.artifacts.files import written
from asdpipe.artifacts.tables import read_facts, read_table, write_table
from asdpipe.errors import UserError
from asdpipe.method.alarms import Groups
from asdpipe.method.conformal import alarm_limit, smallest_rate


class Calibration:
    """Scores of calibration clips by machine type and condition.

    Args:
        table: table ``calibration``; rate: the share of normal clips that may raise an alarm.
        conditions: those that clips of each machine type may be of, also if no calibration clip is.
    """

    def __init__(self, table: pd.DataFrame, rate: float, conditions: Mapping[str, Sequence[str]] | None = None) -> None:
        self.table, self.rate, self.conditions = table, rate, dict(conditions or {})
        scores: dict[str, dict[str | None, NDArray[np.float64]]] = {
            machine: {name: np.zeros(0) for name in names} for machine, names in self.conditions.items()
        }
        for (machine, condition), part in table.groupby(["machine", "condition"], dropna=False):
            name = None if pd.isna(condition) else str(condition)
            scores.setdefault(str(machine), {})[name] = part.score.to_numpy()
        self.groups = Groups(scores, rate)

    def limits(self) -> pd.DataFrame:
        """Return a row per group: the limit, or what is missing for it."""
        rows = []
        for machine, of in sorted(self.groups.scores.items()):
            for condition, scores in sorted(of.items(), key=lambda item: item[0] or ""):
                note = self.groups.note(len(scores))
                rows.append(
                    {
                        "machine": machine,
                        "condition": condition or "",
                        "clips": len(scores),
                        "false_alarms": self.rate,
                        "limit": math.nan if note else alarm_limit(scores, self.rate),
                        "smallest_rate": smallest_rate(len(scores)),
                        "note": note,
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
