"""Atomic writes (a temporary file that is renamed when complete) and file digests."""

import errno
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from asdpipe.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def write_csv(frame: "pd.DataFrame", path: Path) -> None:
    """Write a result table as csv, with four decimals."""
    with written(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.4f", lineterminator="\n")


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` on success, remove it on error."""
    with space_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in _leftovers(path):
            leftover.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        with space_for(path):
            yield temporary
            # mkstemp creates private files; results get the user's default permissions.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``; rename it to ``folder`` on success, remove it on error."""
    with space_for(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        for leftover in _leftovers(folder):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with space_for(folder):
            yield temporary
            temporary.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def space_for(path: Path) -> Iterator[None]:
    """Turn "disk full" errors of writes to ``path`` into a UserError; other errors pass through."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError):
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        else:
            # libsndfile does not report the cause.
            folder = next(parent for parent in path.absolute().parents if parent.exists())
            full = shutil.disk_usage(folder).free == 0
        if not full:
            raise
        message = (
            f"{path}: cannot be written, the disk is full (or your share of it): make room there and run again; "
            "what was finished before is kept"
        )
        raise UserError(message) from error


def _leftovers(path: Path) -> Iterator[Path]:
    """Return temporary files of killed processes that were writing ``path``."""
    # tempfile appends eight random characters.
    return path.parent.glob(f".{glob.escape(path.name)}.????????")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
