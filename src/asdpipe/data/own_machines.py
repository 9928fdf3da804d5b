"""Data sets of one's own machines: a folder per machine type with train/ and test/, and an optional csv."""

import csv
import difflib
import io
import logging
import os
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from asdpipe.data.clips import (
    AUDIO_SUFFIXES,
    add_headers,
    audio_files,
    check_file_names,
    check_folder_name,
    digest,
    in_order,
    unread_files,
    warn_of_unread_files,
)
from asdpipe.data.dcase.names import parse_name
from asdpipe.errors import UserError, short

SPLITS = ("train", "test")
TABLE = "clips.csv"
COLUMNS = ("file", "machine", "domain", "section", "attributes", "label")
LABEL_FOLDERS = {"normal": True, "anomaly": False, "abnormal": False, "anomalous": False}
LABELS = LABEL_FOLDERS | {"0": True, "false": True, "1": False, "true": False}
DOMAINS = ("source", "target")
# Names of rows of auc.csv.
RESERVED = ("mean", "hmean")
LAYOUT = "recordings belong into MACHINE_TYPE/train/ (normal clips) and MACHINE_TYPE/test/ (optional) below it"
NORMAL_ONLY = "training takes normal clips only"
MOST_LISTED = 10
logger = logging.getLogger(__name__)


class Clip(NamedTuple):
    """The facts that the location of a file gives."""

    path: Path
    machine: str
    split: str
    is_normal: bool | None


class Facts(NamedTuple):
    """The facts that the csv gives for a file, or the defaults without it."""

    domain: str | None = None
    section: str = "00"
    attributes: str | None = None
    is_normal: bool | None = None


class BadRow(Exception):
    """A row of the csv that cannot be used; the message is the reason."""


def list_clips(
    root: Path, dataset: str, split: str, machines: Iterable[str] | None = None, table: str | None = None
) -> pd.DataFrame:
    """Return the manifest of one split of one's own recordings: the columns of the table ``clips``.

    Args:
        root: holds <machine>/train and, optionally, <machine>/test, with any file names and sub-folders.
        split: train or test; the folders and rows of the other one are not read.
        machines: only these; None: all.
        table: csv below root; None: clips.csv, if there.

    Raises:
        UserError: a folder is missing, empty or misplaced, or the csv does not fit the files.
    """
    folders = machine_folders(root, machines)
    chosen = [machine for machine, _ in folders]
    # The csv may also list machine types that are left out.
    found = {
        clip.path.relative_to(root).as_posix(): clip
        for folder in _visible_folders(root)
        for clip in _clips(folder, split)
    }
    file = _table_file(root, table)
    said = {} if file is None else _read_table(file, root, split, found)
    clips = {clip_id: clip for clip_id, clip in found.items() if clip.machine in chosen}
    _check_clips(root, split, clips, chosen)
    warn_of_unread_files(root, split, (place for _, folder in folders for place in _split_folders(folder, split)))
    if file is None:
        _hint_at_dcase_names(root, [clip.path.name for clip in clips.values()])
    rows = []
    for clip_id, clip in clips.items():
        known = said.get(clip_id, Facts())
        rows.append(
            {
                "clip_id": clip_id,
                "path": str(clip.path),
                "dataset": dataset,
                "machine": clip.machine,
                "split": split,
                "part": "dev",
                **known._asdict(),
                "is_normal": clip.is_normal if known.is_normal is None else known.is_normal,
            }
        )
    columns = ["clip_id", "path", "dataset", "machine", "split", "part", *Facts._fields]
    return add_headers(pd.DataFrame(rows, columns=columns), [clip.path for clip in clips.values()])


def label_clips(clips: pd.DataFrame) -> pd.DataFrame:
    """Return the listed clips of both splits machine type by machine type, training clips first."""
    return in_order(clips, [(row.machine, SPLITS.index(row.split)) for row in clips.itertuples()])


def machine_folders(root: Path, machines: Iterable[str] | None = None) -> list[tuple[str, Path]]:
    """Find the machine types of a data set.

    Args:
        root: holds a folder per machine type; folders without any recordings are left out.
        machines: only these; None: all.

    Returns:
        (machine, folder) by name.

    Raises:
        UserError: no such folder, no machine type in it, one that is asked for is missing, or misplaced recordings.
    """
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; check the root of the data set in the config")
    if (root / "train").is_dir():
        raise UserError(f"{root}: train/ lies directly in it, without a machine type; {LAYOUT}")
    if loose := _audio(root):
        raise UserError(f"{loose[0]}: lies outside the folder of a machine type; {LAYOUT}")
    folders = {folder.name: folder for folder in _visible_folders(root)}
    if machines is None:
        wanted = [name for name, folder in folders.items() if (folder / "train").is_dir() or _has_audio(folder)]
    else:
        wanted = sorted(set(machines))
        if missing := [name for name in wanted if name not in folders]:
            there = ", ".join(folders) or "none"
            raise UserError(f"{root}: machine type {', '.join(missing)} is not there; there are: {there}")
    if not wanted:
        raise UserError(f"{root}: holds no machine type; {LAYOUT}")
    for name in wanted:
        _check_machine(folders[name])
    return [(name, folders[name]) for name in wanted]


def machine_types(root: Path, machines: Iterable[str] | None = None) -> list[str]:
    """Return the machine types by name; arguments and errors of ``machine_folders``."""
    return [machine for machine, _ in machine_folders(root, machines)]


def clip_folders(root: Path, split: str, machines: Iterable[str] | None = None) -> list[str]:
    """Return the folders that hold the clips of a split: adding or removing a file changes their modification time."""
    folders = machine_folders(root, machines)
    return [str(place) for _, folder in folders for place in _split_folders(folder, split)]


def facts(root: Path, split: str, table: str | None = None) -> str:
    """Return a digest of the rows of the csv that concern a split; "" if there are none.

    Raises:
        UserError: the csv is missing or cannot be read.
    """
    file = _table_file(root, table)
    if file is None:
        return ""
    machines = _machine_names(root)
    rows = [row for _, row in _rows(file) if _split_of(row, machines) in (None, split)]
    return digest(tuple(sorted((column, cell) for column, cell in row.items() if cell)) for row in rows)


def _check_machine(folder: Path) -> None:
    for each in (folder, *(place for split in SPLITS for place in _split_folders(folder, split))):
        check_folder_name(each)
    if folder.name in RESERVED:
        raise UserError(f"{folder}: {folder.name} is a row of auc.csv; rename the folder of this machine type")
    if not (folder / "train").is_dir():
        message = (
            f"{folder}: has no train/ with recordings of normal operation; {LAYOUT} "
            "(list the machine types in datasets.NAME.machines if this is none)"
        )
        raise UserError(message)
    if loose := _audio(folder):
        raise UserError(f"{loose[0]}: lies beside train/ and test/, where nothing is read; move it into one of them")
    for other in _visible_folders(folder):
        if other.name not in SPLITS and _has_audio(other):
            raise UserError(f"{other}: holds recordings, but only train/ and test/ are read; rename it or move it away")


def _check_clips(root: Path, split: str, clips: Mapping[str, Clip], machines: Iterable[str]) -> None:
    check_file_names(root, clips)
    if split != "train":
        return
    for clip in clips.values():
        if clip.is_normal is False:
            raise UserError(f"{clip.path}: an anomaly among the training clips; {NORMAL_ONLY}")
    trained = {clip.machine for clip in clips.values()}
    for machine in machines:
        if machine not in trained:
            suffixes = ", ".join(sorted(AUDIO_SUFFIXES))
            unread = unread_files(_split_folders(root / machine, "train"))
            message = (
                f"{root / machine / 'train'}: holds no audio file ({suffixes}); "
                "a machine type needs recordings of normal operation"
            )
            raise UserError(message + (f" (not read: {unread})" if unread else ""))


def _hint_at_dcase_names(root: Path, names: Sequence[str]) -> None:
    fitting = [name for name in names if parse_name(PurePosixPath(name).stem) is not None]
    if len(fitting) > len(names) / 2:
        message = (
            "%s: %d of %d files are named as in DCASE (%s): format: dcase reads domains, sections and labels from such "
            "names; format: folder takes them from clips.csv only"
        )
        logger.warning(message, root, len(fitting), len(names), fitting[0])


def _clips(machine: Path, split: str) -> Iterator[Clip]:
    for folder in _split_folders(machine, split):
        below = folder.relative_to(machine / split).parts
        label = LABEL_FOLDERS.get(below[0].casefold()) if below else None
        if split == "train" and label is None:
            label = True
        for path in _audio(folder):
            yield Clip(path, machine.name, split, label)


def _split_folders(machine: Path, split: str) -> Iterator[Path]:
    if split in SPLITS and (machine / split).is_dir():
        yield from _folders(machine / split)


def _folders(top: Path) -> Iterator[Path]:
    """Yield a folder and all below it, links followed, each once; hidden ones are left out."""
    seen = set()
    for parent, below, _ in os.walk(top, followlinks=True, onerror=_unreadable):
        real = Path(parent).resolve()
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield Path(parent)


def _unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read ({error.strerror})")


def _visible_folders(root: Path) -> list[Path]:
    return [each for each in sorted(root.iterdir()) if each.is_dir() and not each.name.startswith(".")]


def _audio(folder: Path) -> list[Path]:
    return [path for path in audio_files(folder) if not path.is_dir()]


def _has_audio(folder: Path) -> bool:
    return any(_audio(each) for each in _folders(folder))


def _composed(text: str) -> str:
    # macOS writes "ü" in two characters, other systems in one.
    return unicodedata.normalize("NFC", text)


def _table_file(root: Path, table: str | None) -> Path | None:
    file = root / (table or TABLE)
    if file.is_file():
        return file
    if table is not None:
        raise UserError(f"{file}: there is no such file; check datasets.NAME.table in the config")
    return None


def _read_table(file: Path, root: Path, split: str, clips: Mapping[str, Clip]) -> dict[str, Facts]:
    """Return what the csv says of the clips of a split that it lists.

    Args:
        clips: of the split and of all machine types, by clip_id.
    """
    names = {_composed(clip_id): clip_id for clip_id in clips}
    machines = _machine_names(root)
    found: dict[str, tuple[int, Facts]] = {}
    problems = []
    for line, row in _rows(file):
        if _split_of(row, machines) not in (None, split):
            continue
        try:
            clip_id = _clip_of(row, names, machines)
            facts = _facts(row, clips[clip_id])
            before = found.setdefault(clip_id, (line, facts))
            if before[1] != facts:
                raise BadRow(f"{row['file']} stands in line {before[0]}, too, and differs")
        except BadRow as reason:
            problems.append(f"{file}, line {line}: {reason}")
    if problems:
        more = [f"and {len(problems) - MOST_LISTED} more"] if len(problems) > MOST_LISTED else []
        raise UserError("\n".join(problems[:MOST_LISTED] + more))
    return {clip_id: facts for clip_id, (_, facts) in found.items()}


def _machine_names(root: Path) -> set[str]:
    return {_composed(folder.name) for folder in _visible_folders(root)}


def _path_of(row: Mapping[str, str]) -> PurePosixPath:
    return PurePosixPath(_composed(row["file"].replace("\\", "/")))


def _split_of(row: Mapping[str, str], machines: Collection[str]) -> str | None:
    """Return the split of a row by the path that it gives, below root or below a machine type; None: it is neither."""
    first, second = (*_path_of(row).parts, "", "")[:2]
    split = second if first in machines and second in SPLITS else first
    return split if split in SPLITS else None


def _clip_of(row: Mapping[str, str], names: Mapping[str, str], machines: Iterable[str]) -> str:
    """Return the clip_id of a row, whose file is given below root or below the folder of its machine type."""
    text, machine = row["file"], _composed(row.get("machine", ""))
    file = str(_path_of(row))
    candidates = {file, *(f"{each}/{file}" for each in machines)}
    found = sorted(each for each in candidates if each in names and each.startswith(f"{machine}/" if machine else ""))
    if len(found) > 1:
        raise BadRow(f"{text} may be {' or '.join(found)}; give its path below the data set's root")
    if not found:
        of = f" of machine type {short(machine)}" if machine else ""
        named = short(text) or "an empty name"
        raise BadRow(f"{named} is no audio file in train/ or test/{of}; give its path below the root")
    return names[found[0]]


def _facts(row: Mapping[str, str], clip: Clip) -> Facts:
    label, domain, section = row.get("label", ""), row.get("domain", ""), row.get("section", "")
    if label and label.casefold() not in LABELS:
        words = "normal (or 0, false), anomaly (or abnormal, 1, true), or nothing"
        raise BadRow(f"unknown label {short(label)!r}; write {words}")
    if domain and domain.casefold() not in DOMAINS:
        raise BadRow(f"unknown domain {short(domain)!r}; write source, target, or nothing")
    if not section.isprintable() or set(section) & set("/\\"):
        raise BadRow(f"section {short(section)!r} has a character that file names cannot have")
    is_normal = LABELS.get(label.casefold())
    if clip.split == "train" and is_normal is False:
        raise BadRow(f"{row['file']}: an anomaly among the training clips; {NORMAL_ONLY}")
    if is_normal is not None and clip.is_normal is not None and is_normal != clip.is_normal:
        raise BadRow(f"{row['file']}: the label is {label}, but its folder says otherwise")
    return Facts(
        domain=domain.casefold() or None,
        section=section.zfill(2) if section.isdecimal() and section.isascii() else section or "00",
        attributes=row.get("attributes") or None,
        is_normal=is_normal,
    )


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, cells by column) of the rows of the csv."""
    text = _text(file)
    # Excel separates by semicolons where the comma is the decimal sign.
    first = text.strip().partition("\n")[0]
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), skipinitialspace=True, strict=True
    )
    columns: list[str] = []
    try:
        for cells in reader:
            row = [cell.strip() for cell in cells]
            while row and not row[-1]:
                row.pop()
            if row and not columns:
                columns = _columns(row, f"{file}, line {reader.line_num}")
            elif len(row) > len(columns):
                message = (
                    f"{file}, line {reader.line_num}: has {len(row)} cells, the first line {len(columns)}; "
                    "put text that has the separator in it into double quotes"
                )
                raise UserError(message)
            elif row:
                # Where the last cells are empty, spreadsheets leave them out.
                yield reader.line_num, {"file": "", **dict(zip(columns, row, strict=False))}
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: cannot be read as csv ({error})") from None
    if not columns:
        raise UserError(f"{file}: is empty; its first line names the columns: {', '.join(COLUMNS)}")


def _columns(names: list[str], where: str) -> list[str]:
    columns = [name.casefold() for name in names]
    for name, column in zip(names, columns, strict=True):
        if column not in COLUMNS:
            nearest = difflib.get_close_matches(column, COLUMNS, n=1, cutoff=0)[0]
            message = f"{where}: unknown column {short(name)!r}; did you mean {nearest!r}?"
            raise UserError(f"{message} There are: {', '.join(COLUMNS)}")
        if columns.count(column) > 1:
            raise UserError(f"{where}: column {column!r} occurs twice")
    if "file" not in columns:
        raise UserError(f"{where}: the column 'file' is missing; it names the audio file of each row")
    return columns


def _text(file: Path) -> str:
    data = file.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # What Excel for Windows writes unless told "CSV UTF-8".
        text = data.decode("cp1252", errors="replace")
    if "\0" in text or "\ufffd" in text:
        raise UserError(f"{file}: is not a csv in UTF-8; save it as 'CSV UTF-8'")
    return text
