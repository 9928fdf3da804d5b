"""Progress of long steps: a bar on a terminal, plain lines with rate and ETA in the log."""

import logging
import time
from datetime import timedelta

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 15.0
# The level of what is shown on the screen although it is no warning.
SHOWN = logging.INFO + 5
# Both levels are called INFO; the name alone stays the lower one.
logging.addLevelName(SHOWN, "INFO")
logging.addLevelName(logging.INFO, "INFO")

logger = logging.getLogger(__name__)


class Progress:
    """Counts what is done of a known total.

    Args:
        name: what is being done; total: how many units; unit: their name.
    """

    def __init__(self, name: str, total: int, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = 0
        self._start = self._last_line = time.monotonic()
        # disable=None: no bar where standard error is not a terminal.
        self._bar = tqdm(total=total, desc=name, unit=unit, disable=None, leave=False)

    def advance(self, units: int) -> None:
        """Count units, and log a line when the last one is some time ago."""
        self.done += units
        self._bar.update(units)
        now = time.monotonic()
        if now - self._last_line >= SECONDS_BETWEEN_LINES and self.done < self.total:
            self._last_line = now
            logger.info("%s", self.line())

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return self.done / max(time.monotonic() - self._start, 1e-9)

    def line(self) -> str:
        """Return the state in words: done, rate and estimated time to the end."""
        left = timedelta(seconds=round((self.total - self.done) / max(self.rate, 1e-9)))
        return f"{self.name}: {self.done}/{self.total} {self.unit}, {self.rate:.1f} {self.unit}/s, ETA {left}"

    def close(self) -> None:
        """Remove the bar and log the last line."""
        self._bar.close()
        logger.info("%s", self.line())
