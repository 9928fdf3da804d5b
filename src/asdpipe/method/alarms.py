"""Alarm limits of machine types and conditions, and what they promise of new clips."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

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


class Groups:
    """Scores of calibration clips, and the rate of false alarms that they are to keep.

    Args:
        scores: by machine type and condition, (clips,); None: all conditions together. A condition may have no clips.
        rate: the share of normal clips that may raise an alarm.
    """

    def __init__(self, scores: Mapping[str, Mapping[str | None, Scores]], rate: float) -> None:
        self.scores = {machine: dict(of) for machine, of in scores.items()}
        self.rate = rate

    def promise(self, machine: str, condition: str | None = None) -> Promise | None:
        """Return what is promised for clips; None: nothing, as a group that they may be of has too few clips.

        Args:
            machine: their machine type; condition: None: not known, so that the limit is the highest of all conditions.
        """
        of = self.scores.get(machine, {})
        if condition in of:
            groups = [of[condition]]
        elif condition is None:
            groups = list(of.values())
        else:
            groups = [of[None]] if None in of else []
        if not groups or min(map(len, groups)) < clips_needed(self.rate):
            return None
        return Promise(max(alarm_limit(group, self.rate) for group in groups), groups)

    def missing(self, machine: str, condition: str | None = None) -> str:
        """Return why nothing is promised for clips; arguments as for ``promise``."""
        of = self.scores.get(machine)
        if not of:
            return "no normal clips have calibrated it"
        if condition is not None and condition not in of and None not in of:
            return f"no normal clips of condition {condition!r} have calibrated it"
        asked = [condition] if condition is not None and condition in of else sorted(of, key=lambda name: name or "")
        notes = ((name, self.note(len(of[name]))) for name in asked)
        return "; ".join(f"{name}: {note}" if name else note for name, note in notes if note)

    def note(self, clips: int) -> str:
        """Return what a group of so many clips lacks; empty: nothing."""
        missing = clips_needed(self.rate) - clips
        if missing <= 0:
            return ""
        note = f"needs {missing} more normal {'clip' if missing == 1 else 'clips'}"
        if not clips:
            return note
        # Rounded up, so that it can be kept.
        return f"{note}; with {clips} the smallest honest rate is {math.ceil(smallest_rate(clips) * 1000) / 10:g}%"
