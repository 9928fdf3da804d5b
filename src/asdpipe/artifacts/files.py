"""Files that appear whole or not at all: written beside their place and renamed; their digests."""

import errno
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from asdpipe.errors import UserError


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a final table as csv, numbers with four decimals."""
    with written(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.4f", lineterminator="\n")


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` and rename it when the block ends well; else remove it."""
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
            # mkstemp makes files private; results are as readable as other files of the user.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``folder`` and rename it when the block ends well; else remove it."""
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
    """Say of what is written to ``path`` that the disk is full; other errors pass.

    Raises:
        UserError: it is.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError):
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        else:
            # libsndfile does not tell what went wrong.
            full = shutil.disk_usage(next(each for each in path.absolute().parents if each.exists())).free == 0
        if not full:
            raise
        message = (
            f"{path}: cannot be written, the disk is full (or your share of it): make room there and run again; "
            "what was finished before is kept"
        )
        raise UserError(message) from error


def _leftovers(path: Path) -> Iterator[Path]:
    """Return what processes that were killed while they wrote ``path`` left beside it."""
    # The eight characters are those of tempfile.
    return path.parent.glob(f".{glob.escape(path.name)}.????????")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
