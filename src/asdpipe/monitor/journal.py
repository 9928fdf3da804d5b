"""Files of rows that grow while recordings arrive; what a killed program has written is read back, row by row."""

import csv
import fcntl
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

from asdpipe.artifacts.files import space_for
from asdpipe.errors import UserError
from asdpipe.monitor.command import COLUMNS, CSV_HEAD, csv_lines, json_lines, printable
from asdpipe.monitor.rows import Row


class Format(NamedTuple):
    """How rows are written and read."""

    head: bytes
    """How a file begins."""
    is_head_whole: bool
    """Whether the head is a line of its own."""
    lines: Callable[[Iterable[Row]], str]
    whole: Callable[[bytes], int]
    """Returns how many bytes of a file are whole rows."""
    files: Callable[[str], Iterator[str]]
    """Yields the files of rows; raises ValueError or csv.Error if a row is none."""


def _whole_csv(data: bytes) -> int:
    # A line feed between quotes is part of a file's name.
    end = data.rfind(b"\n") + 1
    while data.count(b'"', 0, end) % 2:
        end = data.rfind(b"\n", 0, end - 1) + 1
    return end


def _csv_files(text: str) -> Iterator[str]:
    for number, row in enumerate(csv.reader(io.StringIO(text, newline=""), strict=True)):
        if len(row) != len(COLUMNS) or (number == 0 and tuple(row) != COLUMNS):
            message = f"row {number} has other columns than {', '.join(COLUMNS)}"
            raise ValueError(message)
        if number:
            yield row[0]


def _json_files(text: str) -> Iterator[str]:
    for number, line in enumerate(text.split("\n")[:-1], 1):
        row = json.loads(line)
        if not isinstance(row, dict) or not isinstance(row.get("file"), str):
            message = f"line {number} is no row"
            raise ValueError(message)
        yield row["file"]


CSV = Format(CSV_HEAD.encode(), True, csv_lines, _whole_csv, _csv_files)
JSON_LINES = Format(b'{"file": "', False, json_lines, lambda data: data.rfind(b"\n") + 1, _json_files)


class Journal:
    """A file of rows, one for each recording, to which rows are added for good.

    A row that was cut short when the program was killed is removed. Only one program can write to the file at a time.

    Args:
        file: is made if it does not exist.

    Raises:
        UserError: the file holds anything else, or another program writes to it.
    """

    def __init__(self, file: Path, form: Format) -> None:
        self.file, self._form = file, form
        file.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._files = self._read_back()
        except BlockingIOError:
            self.close()
            raise UserError(f"{file}: another program writes to it; stop that, or give another file") from None
        except BaseException:
            self.close()
            raise

    def __contains__(self, recording: Path) -> bool:
        return printable(str(recording)) in self._files

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def append(self, rows: Iterable[Row]) -> None:
        """Add the rows of recordings that have none yet; they are on the disk when this returns.

        Raises:
            UserError: the disk is full.
        """
        new = {printable(str(row.file)): row for row in rows if row.file not in self}
        with space_for(self.file):
            self._write(self._form.lines(new.values()).encode())
        self._files.update(new)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]
        os.fsync(self._descriptor)

    def _read_back(self) -> set[str]:
        """Return the files that have rows, and remove a row that was cut short.

        Raises:
            UserError: these are no rows.
        """
        data = self.file.read_bytes()
        head, end = self._form.head, self._form.whole(data)
        try:
            if not head.startswith(data[: len(head)]):
                message = f"it does not begin with {head.decode().strip()}"
                raise ValueError(message)
            found = set(self._form.files(data[:end].decode()))
        except (ValueError, csv.Error) as error:
            message = f"{self.file}: is not a file of rows of this version ({error})"
            raise UserError(f"{message}; give another file, or move this one away") from None
        os.ftruncate(self._descriptor, end)
        if self._form.is_head_whole and not end:
            with space_for(self.file):
                self._write(head)
        return found
