"""Unpacking a data set's zip: every entry is checked before any file appears."""

import errno
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from asdpipe.errors import UserError
from asdpipe.progress import Progress

MOST_ENTRIES = 100_000
MOST_BYTES = 200 * 10**9
# Recordings compress to half their size at best; ratios above this are zip bombs.
HIGHEST_RATIO = 200
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1
# Exceptions of zipfile and zlib on damaged files.
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, NotImplementedError, OverflowError)


class DamagedArchive(UserError):
    """A file is not a zip, or is truncated or damaged."""


def unpack(archive: Path, folder: Path, machine: str) -> int:
    """Unpack ``<machine>/...`` of a zip to ``folder/<machine>/...`` and return the number of files.

    Entries directly below the machine type's folder replace those of the same name; others stay.

    Raises:
        DamagedArchive: the zip is truncated or damaged.
        UserError: the zip has unsafe or unexpected entries, or does not fit on the disk. Nothing was changed.
    """
    # If the process is killed, this folder is not mistaken for a machine type: it has no train/ directly below it.
    temporary = folder / f".{archive.name}"
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = _check_entries(archive, opened.infolist(), machine)
            _check_disk_space(archive, entries, folder)
            shutil.rmtree(temporary, ignore_errors=True)
            progress = Progress(f"unpacking {archive.name}", len(entries), "file")
            for entry in entries:
                target = temporary / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
                progress.advance(1)
            progress.close()
        _move(temporary / machine, folder / machine, temporary / "replaced")
    except DAMAGE as error:
        raise DamagedArchive(f"{archive}: is not a whole zip ({error})") from None
    except OSError as error:
        # EINVAL: the zip's directory has a negative offset. Other errors, such as a full disk, are not the zip's.
        if error.errno != errno.EINVAL:
            raise
        raise DamagedArchive(f"{archive}: is not a whole zip ({error.strerror})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(entries)


def _check_entries(archive: Path, listing: list[zipfile.ZipInfo], machine: str) -> list[zipfile.ZipInfo]:
    """Check all entries and return the files to unpack.

    Raises:
        UserError: names the archive and the entry.
    """
    if len(listing) > MOST_ENTRIES:
        raise UserError(f"{archive}: has {len(listing)} entries, more than {MOST_ENTRIES}; is it the right file?")
    for entry in listing:
        if problem := _problem(entry, machine):
            # As repr, because the name may have control characters.
            raise UserError(f"{archive}: entry {entry.orig_filename!r} {problem}; it was not unpacked")
    entries = [entry for entry in listing if not entry.is_dir() and not _is_junk(entry)]
    if not entries:
        raise UserError(f"{archive}: holds no file below {machine}/; is it the right file?")
    if twice := _twice(entries):
        raise UserError(f"{archive}: entry {twice!r} is there twice, if only in other case; it was not unpacked")
    total = sum(entry.file_size for entry in listing)
    if total > MOST_BYTES or total > HIGHEST_RATIO * archive.stat().st_size:
        raise UserError(f"{archive}: would unpack to {total} bytes, too many for recordings")
    return entries


def _problem(entry: zipfile.ZipInfo, machine: str) -> str | None:
    """Return what is wrong with an entry, judged by its raw name: zipfile cuts ``filename`` at a null byte."""
    name = entry.orig_filename
    parts = name.removesuffix("/").split("/")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    checks = {
        "has a name with control characters": not name.isprintable() or name != entry.filename,
        "has a backslash in its name": "\\" in name,
        "is an absolute path": name.startswith("/"),
        "has a drive letter": ":" in name,
        "leads out of its folder": ".." in parts,
        "has a name with empty parts": not {"", "."}.isdisjoint(parts),
        "is a link or a special file": kind not in (0, stat.S_IFREG, stat.S_IFDIR),
        "is encrypted": bool(entry.flag_bits & ENCRYPTED),
        "is compressed in a way that is not supported": entry.compress_type not in METHODS,
        f"is not below {machine}/": parts[0] != machine and not _is_junk(entry),
        f"is a file in the place of {machine}/": name == machine,
    }
    return next((problem for problem, found in checks.items() if found), None)


def _is_junk(entry: zipfile.ZipInfo) -> bool:
    """Tell whether macOS added the entry."""
    parts = entry.filename.split("/")
    return parts[0] == "__MACOSX" or parts[-1] == ".DS_Store" or parts[-1].startswith("._")


def _twice(entries: Iterable[zipfile.ZipInfo]) -> str | None:
    """Return a name that two entries share, also in other case or as the name of a folder."""
    files: set[str] = set()
    folders: dict[str, str] = {}
    for entry in entries:
        name = entry.filename
        if name.casefold() in files:
            return name
        files.add(name.casefold())
        while name := name.rpartition("/")[0]:
            if folders.setdefault(name.casefold(), name) != name:
                return name
    return next(iter(sorted(files & folders.keys())), None)


def _check_disk_space(archive: Path, entries: Iterable[zipfile.ZipInfo], folder: Path) -> None:
    needed = sum(entry.file_size for entry in entries)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise UserError(f"{archive}: needs {needed} bytes below {folder}, but {free} are free; make room and run again")


def _move(unpacked: Path, place: Path, replaced: Path) -> None:
    """Rename the entries into place; former ones are moved to ``replaced``, which is deleted later."""
    place.mkdir(parents=True, exist_ok=True)
    replaced.mkdir()
    for entry in sorted(unpacked.iterdir()):
        target = place / entry.name
        if target.exists():
            target.rename(replaced / entry.name)
        entry.rename(target)
