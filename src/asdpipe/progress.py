"""Progress of long steps: a bar on a terminal, plain lines with rate and ETA in the log."""

import logging
import time
from datetime import timedelta

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 15.0
# Log level between INFO and WARNING: shown on the console even if a log file is written.
SHOWN = logging.INFO + 5
# Log lines of both levels say INFO. The second call keeps the name "INFO" mapped to the lower level.
logging.addLevelName(SHOWN, "INFO")
logging.addLevelName(logging.INFO, "INFO")

logger = logging.getLogger(__name__)


class Progress:
    """Progress towards a known total.

    Args:
        name: description of the task.
        total: number of units; 0: nothing is shown.
        unit: name of the units.
    """

    def __init__(self, name: str, total: int, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = 0
        self._start = self._last_line = time.monotonic()
        # disable=None: no bar if stderr is not a terminal.
        self._bar = tqdm(total=total, desc=name, unit=unit, disable=None if total else True, leave=False)

    def advance(self, units: int) -> None:
        """Add units; log a line at most every SECONDS_BETWEEN_LINES."""
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
        """Return units done, rate and estimated remaining time as text."""
        left = timedelta(seconds=round((self.total - self.done) / max(self.rate, 1e-9)))
        return f"{self.name}: {self.done}/{self.total} {self.unit}, {self.rate:.1f} {self.unit}/s, ETA {left}"

    def close(self) -> None:
        """Remove the bar and log the last line."""
        self._bar.close()
        if self.total:
            logger.info("%s", self.line())
