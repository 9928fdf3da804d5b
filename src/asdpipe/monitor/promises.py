"""What the limits of a model promise, for recordings that are split into windows or not."""

from typing import NamedTuple

from asdpipe.method.alarms import Groups, Promise


class Promises(NamedTuple):
    """The calibration of a model."""

    groups: Groups | None = None
    hop: float | None = None
    """Of the windows that the calibration clips were split into, in s; None: they were not."""

    def promise(self, machine: str, condition: str | None, hop: float | None) -> Promise | None:
        """Return what is promised for recordings that are split into windows with this hop; None: nothing."""
        # The highest of many scores is higher than one score.
        return None if self.groups is None or hop != self.hop else self.groups.promise(machine, condition)

    def missing(self, machine: str, condition: str | None, hop: float | None) -> str:
        """Return why nothing is promised."""
        if self.groups is None or machine not in self.groups.scores:
            return "no normal clips have calibrated it"
        if hop != self.hop:
            return f"it was calibrated {'without --hop' if self.hop is None else f'with --hop {self.hop:g}'}"
        return self.groups.missing(machine, condition)
