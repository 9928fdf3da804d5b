"""Watch a folder: a row for each recording that arrives, once it is whole."""

import logging
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from asdpipe.data.clips import AUDIO_SUFFIXES
from asdpipe.errors import UserError
from asdpipe.monitor.command import is_alarm, warn_of_limits
from asdpipe.monitor.detector import load_detector
from asdpipe.monitor.journal import CSV, JSON_LINES, Journal
from asdpipe.monitor.rows import Row

PATIENCE = 10
"""Intervals for which what seems unfinished must be unchanged before it counts as it is."""
MOST_AT_ONCE, LONGEST_DELAY = 32, 1.0
"""Rows, and seconds, after which rows are written."""

logger = logging.getLogger(__name__)


class State(NamedTuple):
    """What changes while a file is being written or replaced."""

    size: int
    modified: int
    inode: int


class Arrival(NamedTuple):
    """A file without a row."""

    path: Path
    state: State
    quiet: int
    """For how many intervals it has not changed."""


class Inbox:
    """The audio files that arrive in a folder and below it; hidden files and folders are left out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._arrivals: dict[Path, Arrival] = {}

    def poll(self, is_done: Callable[[Path], bool]) -> list[Arrival]:
        """Return the files to score now, by name: those that have not changed since the last call.

        Files that seem to be incomplete wait for PATIENCE intervals.

        Args:
            is_done: whether a file has been scored before.
        """
        if not self.folder.is_dir():
            logger.warning("%s: is not there at the moment", self.folder)
        before, self._arrivals = self._arrivals, {}
        for path in self._files():
            if not is_done(path) and (state := state_of(path)) is not None:
                last = before.get(path)
                quiet = last.quiet + 1 if last and last.state == state else 0
                self._arrivals[path] = Arrival(path, state, quiet)
        return [
            each
            for each in sorted(self._arrivals.values())
            if each.quiet >= PATIENCE or (each.quiet == 1 and not is_incomplete(each.path))
        ]

    def _files(self) -> Iterator[Path]:
        for folder, names, files in os.walk(self.folder):
            names[:] = [name for name in names if not name.startswith(".")]
            for path in (Path(folder, name) for name in files if not name.startswith(".")):
                if path.suffix.lower() in AUDIO_SUFFIXES:
                    yield path


def state_of(path: Path) -> State | None:
    """Return the state of a file; None: there is none of this name, or it is no regular file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return State(found.st_size, found.st_mtime_ns, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def is_incomplete(path: Path) -> bool:
    """Return whether a wav's header names another size than the file has: programs correct it when they close the file.

    What is missing in other formats is found when they are decoded.
    """
    try:
        with path.open("rb") as file:
            head, size = file.read(8), os.fstat(file.fileno()).st_size
    except OSError:
        return True
    # Chunks may be padded to an even size.
    return size == 0 or (head[:4] == b"RIFF" and abs(int.from_bytes(head[4:], "little") + 8 - size) > 1)


def watch(
    inbox: Inbox,
    score: Callable[[Sequence[Path]], Iterator[Row]],
    journals: Sequence[Journal],
    wait: Callable[[float], bool],
    interval: float,
) -> int:
    """Score the recordings that arrive until told to stop; return the number of alarms.

    Args:
        score: yields a row for each file, in order.
        journals: get the rows.
        wait: waits for so many seconds, or less; returns whether to stop.
        interval: between two looks at the folder, in s.

    Raises:
        UserError: rows cannot be written.
    """
    alarms = 0
    while not wait(0):
        arrivals = inbox.poll(lambda path: all(path in journal for journal in journals))
        for rows in _together(_final_rows(arrivals, score), wait):
            for journal in journals:
                journal.append(rows)
            for row in filter(is_alarm, rows):
                logger.warning("%s: alarm", row.file)
            raised, unread = sum(map(is_alarm, rows)), sum(row.result is None for row in rows)
            logger.info("%d recordings: %d above their limit, %d not scored", len(rows), raised, unread)
            alarms += raised
        wait(interval)
    return alarms


def _final_rows(arrivals: Sequence[Arrival], score: Callable[[Sequence[Path]], Iterator[Row]]) -> Iterator[Row]:
    """Yield the rows of files that were whole while they were read."""
    for arrival, row in zip(arrivals, score([each.path for each in arrivals]), strict=True):
        state = state_of(arrival.path)
        is_gone, is_broken = state is None, row.result is None and row.machine is not None
        # A file that cannot be read may not be whole yet, or was moved away. One that was read has its row.
        if (is_gone and row.result is None) or (is_broken and arrival.quiet < PATIENCE):
            continue
        if is_gone or state == arrival.state:
            yield row


def _together(rows: Iterator[Row], wait: Callable[[float], bool]) -> Iterator[list[Row]]:
    """Yield rows that come soon after one another as lists, until told to stop."""
    waiting: list[Row] = []
    due = time.monotonic() + LONGEST_DELAY
    for row in rows:
        waiting.append(row)
        if len(waiting) == MOST_AT_ONCE or time.monotonic() >= due:
            yield waiting
            waiting, due = [], time.monotonic() + LONGEST_DELAY
            if wait(0):
                return
    if waiting:
        yield waiting


@contextmanager
def until_signal() -> Iterator[Callable[[float], bool]]:
    """Yield the ``wait`` of ``watch``: it stops at SIGINT or SIGTERM; a second signal of the same kind acts at once."""
    stop = threading.Event()
    before: dict[signal.Signals, Any] = {}

    def handle(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, handle)
    try:
        yield stop.wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch_folder(
    model: Path,
    folder: Path,
    csv: Path | None,
    jsonl: Path | None,
    interval: float,
    machine: str | None = None,
    hop: float | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    stage: int | None = None,
    condition: str | None = None,
) -> int:
    """Score the recordings that arrive in a folder until SIGINT or SIGTERM; return the number of alarms.

    Args:
        csv, jsonl: files that rows are added to; a file that has a row in all of them is not scored again.
        model, device, stage: as for ``asdpipe.load``; machine, hop, condition: as for ``Detector.score_file``.
        interval: between two looks at the folder, in s.

    Raises:
        UserError: there is no such model or folder, or one of the files holds anything else.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder; give one that recordings arrive in")
    with until_signal() as wait, ExitStack() as opened:
        outputs = ((csv, CSV), (jsonl, JSON_LINES))
        journals = [opened.enter_context(Journal(file, form)) for file, form in outputs if file is not None]
        detector = load_detector(model, device, stage)
        score = partial(detector.score_files, machine=machine, hop=hop, condition=condition)
        warn_of_limits(detector, detector.machines if machine is None else [machine], condition, hop)
        # Rows have the same names after a restart from elsewhere.
        place = folder.resolve()
        logger.info("watching %s", place)
        return watch(Inbox(place), score, journals, wait, interval)
