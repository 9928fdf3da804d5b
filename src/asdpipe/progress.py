"""Progress of long steps: a bar on a terminal, lines with rate and ETA in the log, and a file for others to read."""

import json
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 15.0
SECONDS_BETWEEN_SIGNS = 5.0
"""The file of a running step is replaced this often, whether or not there is progress."""
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
        self._epoch: dict[str, Any] = {}
        self._start = self._last_line = time.monotonic()
        # disable=None: no bar if stderr is not a terminal.
        self._bar = tqdm(total=total, desc=name, unit=unit, disable=None if total else True, leave=False)
        _Latest.progress = self

    def advance(self, units: int) -> None:
        """Add units; log a line at most every SECONDS_BETWEEN_LINES."""
        self.done += units
        self._bar.update(units)
        now = time.monotonic()
        if now - self._last_line >= SECONDS_BETWEEN_LINES and self.done < self.total:
            self._last_line = now
            logger.info("%s", self.line())

    def epoch(self, number: int, epochs: int, losses: Mapping[str, float]) -> None:
        """Show the number of the epoch that begins, and the mean losses of the one before."""
        known = {name: value for name, value in losses.items() if math.isfinite(value)}
        self._epoch = {"epoch": number, "epochs": epochs, "losses": known}
        words = [f"epoch {number}/{epochs}", *(f"{name} {value:.3f}" for name, value in known.items())]
        self._bar.set_postfix_str(", ".join(words))

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return self.done / max(time.monotonic() - self._start, 1e-9)

    def line(self) -> str:
        """Return units done, rate and estimated remaining time as text."""
        left = timedelta(seconds=round((self.total - self.done) / max(self.rate, 1e-9)))
        return f"{self.name}: {self.done}/{self.total} {self.unit}, {self.rate:.1f} {self.unit}/s, ETA {left}"

    def facts(self) -> dict[str, Any]:
        """Return all of this, JSON-able."""
        return {
            "task": self.name,
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "rate": self.rate,
            **self._epoch,
        }

    def close(self) -> None:
        """Remove the bar and log the last line."""
        self._bar.close()
        if self.total:
            logger.info("%s", self.line())


class _Latest:
    """What the running step shows at the moment."""

    progress: Progress | None = None


def progress_file(log: Path) -> Path:
    """Return the file that says how far the step with this log is."""
    return log.with_suffix(".progress.json")


def with_progress_file(step: Callable[..., None], log: Path) -> Callable[..., None]:
    """Return a step that keeps a progress file beside its log while it runs, and after it failed."""

    @wraps(step)
    def run(**arguments: Any) -> None:
        with _signs_of_life(step.__name__, progress_file(log)):
            step(**arguments)

    return run


@contextmanager
def _signs_of_life(step: str, path: Path) -> Iterator[None]:
    """Write the file again and again from a thread, so that one that stays as it is means that the process is gone."""
    _Latest.progress = None
    fixed = {"step": step, "host": socket.gethostname(), "pid": os.getpid(), "started": time.time()}
    over = threading.Event()

    def write(state: str) -> None:
        latest = _Latest.progress
        content = {**fixed, "state": state, **(latest.facts() if latest else {})}
        temporary = path.with_name(f".{path.name}")
        # What only shows progress must stop no step: the disk may be full.
        with suppress(OSError):
            temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
            temporary.replace(path)

    def repeat() -> None:
        while not over.wait(SECONDS_BETWEEN_SIGNS):
            write("running")

    write("running")
    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    failed = True
    try:
        yield
        failed = False
    finally:
        over.set()
        thread.join()
        if failed:
            write("failed")
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)
