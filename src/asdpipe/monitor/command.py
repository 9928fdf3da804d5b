"""What ``asdpipe score`` does: list recordings, score them, and write rows."""

import csv
import io
import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from asdpipe.artifacts.files import written
from asdpipe.data.clips import AUDIO_SUFFIXES, audio_files, unread_files
from asdpipe.errors import UserError, short
from asdpipe.monitor.detector import Detector, load_detector
from asdpipe.monitor.rows import Row
from asdpipe.progress import Progress

COLUMNS = ("file", "machine", "score", "spread", "limit", "alarm", "p_value", "nearest_clip", "start", "reason")
CSV_HEAD = ",".join(COLUMNS) + "\n"
LONGEST_NAME = 4096

logger = logging.getLogger(__name__)


def score(
    model: Path,
    places: Sequence[Path],
    machine: str | None = None,
    hop: float | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    stage: int | None = None,
    condition: str | None = None,
) -> list[Row]:
    """Return the rows of all recordings, in order.

    Args:
        model, stage: as for ``asdpipe.load``; places: files, and folders with recordings.
        machine, hop, condition: as for ``Detector.score_file``.

    Raises:
        UserError: there is no such model, no recording, or no recording of a known machine type.
    """
    # First what fails fast.
    files = recordings(places)
    detector = load_detector(model, device, stage)
    rows = []
    progress = Progress("scoring", len(files), "file")
    for row in detector.score_files(files, machine, hop, condition):
        rows.append(row)
        progress.advance(1)
    progress.close()
    if all(row.machine is None for row in rows):
        raise UserError(f"{rows[0].file}: {rows[0].reason} (--machine)")
    warn_of_limits(detector, sorted({row.result.machine for row in rows if row.result}), condition, hop)
    unread, alarms = sum(row.result is None for row in rows), sum(is_alarm(row) for row in rows)
    logger.info("%d recordings: %d above their limit, %d not scored", len(rows), alarms, unread)
    return rows


def warn_of_limits(detector: Detector, machines: Iterable[str], condition: str | None, hop: float | None) -> None:
    """Warn of machine types whose limits promise no rate of false alarms."""
    promises = detector.promises
    for machine in machines:
        if promises.promise(machine, condition, hop) is None:
            reason = promises.missing(machine, condition, hop)
            logger.warning("%s: its limit promises no rate of false alarms: %s (asdpipe calibrate)", machine, reason)


def is_alarm(row: Row) -> bool:
    """Return whether a recording has a score above its limit."""
    return row.result is not None and row.result.anomalous


def recordings(places: Iterable[Path]) -> list[Path]:
    """Return the files that are given, and the audio files in the folders that are given and below, by name.

    Hidden files and folders are left out. Files with other endings are counted in the log.

    Raises:
        UserError: a place does not exist, or there is no recording.
    """
    endings = ", ".join(sorted(AUDIO_SUFFIXES))
    found: list[Path] = []
    for place in places:
        if not place.exists():
            raise UserError(f"{place}: does not exist; give recordings, or folders with recordings")
        if not place.is_dir():
            found.append(place)
            continue
        folders = list(_folders(place))
        files = [file for folder in folders for file in audio_files(folder) if not file.is_dir()]
        unread = unread_files(folders)
        if not files:
            raise UserError(f"{place}: holds no recording ({endings})" + (f"; not read: {unread}" if unread else ""))
        if unread:
            logger.warning("%s: files that are not read: %s; only %s are", place, unread, endings)
        found += files
    return list(dict.fromkeys(found))


def _folders(folder: Path) -> Iterator[Path]:
    """Yield a folder and all visible folders below it, by name."""
    for path, names, _ in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        yield Path(path)


def most_anomalous_first(rows: Iterable[Row]) -> list[Row]:
    """Return alarms first, then rows by their p-values and how far scores are above limits; without a score last."""

    def key(row: Row) -> tuple[bool, bool, float, float]:
        result = row.result
        if result is None:
            return True, True, math.inf, math.inf
        below = result.limit - result.score
        p_value = math.inf if result.p_value is None else result.p_value
        return False, not result.anomalous, p_value, math.inf if math.isnan(below) else below

    return sorted(rows, key=key)


def values(row: Row) -> dict[str, Any]:
    """Return a row by COLUMNS; None: missing."""
    found: dict[str, Any] = dict.fromkeys(COLUMNS)
    found |= {"file": printable(str(row.file)), "machine": row.machine, "reason": row.reason or None}
    if row.result is not None:
        result = row.result
        found |= {"score": result.score, "spread": result.spread, "limit": result.limit, "alarm": result.anomalous}
        found |= {"p_value": result.p_value}
        found |= {"nearest_clip": result.nearest_clip, "start": result.start}
    return found


def printable(name: str) -> str:
    """Return a file name that need not be UTF-8 as text; other names have other texts."""
    # The csv module reads a bare carriage return as the end of a row.
    return os.fsencode(name).decode(errors="backslashreplace").replace("\r", "\\r")


def csv_lines(rows: Iterable[Row]) -> str:
    """Return rows as lines of csv, all digits of scores included."""
    target = io.StringIO()
    csv.DictWriter(target, COLUMNS, lineterminator="\n").writerows(map(values, rows))
    return target.getvalue()


def json_lines(rows: Iterable[Row]) -> str:
    """Return rows as lines of JSON; an infinite score or limit is null."""
    lines = []
    for row in rows:
        finite = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values(row).items()
        }
        lines.append(json.dumps(finite, ensure_ascii=False) + "\n")
    return "".join(lines)


def write_csv(rows: Iterable[Row], file: Path) -> None:
    """Write rows as csv."""
    with written(file) as temporary:
        temporary.write_text(CSV_HEAD + csv_lines(rows), encoding="utf-8", newline="")


def write_jsonl(rows: Iterable[Row], file: Path) -> None:
    """Write rows as JSON, one a line."""
    with written(file) as temporary:
        temporary.write_text(json_lines(rows), encoding="utf-8")


def show(rows: Sequence[Row]) -> None:
    """Print rows, the most anomalous first: as a table on a terminal, else as lines with tabs."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = [name for name in COLUMNS if any(values(row)[name] is not None for row in rows)]
    lines = (
        {name: "" if value is None else _shown(value) for name, value in values(row).items()}
        for row in most_anomalous_first(rows)
    )
    console = Console()
    if not console.is_terminal:
        for line in chain([{name: name for name in columns}], lines):
            console.file.write("\t".join(line[name] for name in columns) + "\n")
        return
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    for name in columns:
        numeric = name in ("score", "spread", "limit", "p_value", "start")
        table.add_column(
            name.replace("_", " "), justify="right" if numeric else "left", no_wrap=numeric, overflow="fold"
        )
    for line in lines:
        style = "bold red" if line["alarm"] == "yes" else "dim" if line["reason"] else ""
        table.add_row(*(Text(line[name]) for name in columns), style=style)
    console.print(table)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else short(str(value), LONGEST_NAME)
