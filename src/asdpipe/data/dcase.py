"""DCASE Task 2 data sets: folders, file names and attributes csvs."""

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from asdpipe.data.clips import add_headers, audio_files
from asdpipe.errors import UserError

# section_00_source_train_normal_0000_vel_8_loc_E.wav, as of DCASE 2022; the attributes may be missing.
NAME = re.compile(
    r"section_(?P<section>\d\d)_(?P<domain>source|target)_(?P<split>train|test)"
    r"_(?P<label>normal|anomaly)_(?P<number>\d+)(?:_(?P<attributes>.+))?"
)
UNKNOWN_ATTRIBUTES = frozenset({"", "noAttribute"})
SPLITS = ("train", "test")


def machine_folders(root: Path, machines: Iterable[str] | None = None) -> list[tuple[str, str, Path]]:
    """Find the machine types of a data set.

    Args:
        root: either holds dev_data/raw/<machine> and eval_data/raw/<machine> (also without raw/), or <machine>.
        machines: only these; None: all.

    Returns:
        (part, machine, folder), part being dev or eval, by part and name.

    Raises:
        UserError: no such folder, no machine type in it, or one that is asked for is missing.
    """
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; check the root of the data set in the config")
    found = []
    parts = [(part, root / f"{part}_data") for part in ("dev", "eval") if (root / f"{part}_data").is_dir()]
    for part, folder in parts or [("dev", root)]:
        raw = folder / "raw"
        for machine in sorted((raw if raw.is_dir() else folder).iterdir()):
            if (machine / "train").is_dir():
                found.append((part, machine.name, machine))
    if not found:
        raise UserError(f"{root}: has no <machine>/train folder, here or under dev_data/raw; is it a DCASE data set?")
    if machines is not None:
        wanted = set(machines)
        missing = wanted - {machine for _, machine, _ in found}
        if missing:
            there = ", ".join(machine for _, machine, _ in found)
            raise UserError(f"{root}: machine type {', '.join(sorted(missing))} is not there; there are: {there}")
        found = [each for each in found if each[1] in wanted]
    return found


def list_clips(root: Path, dataset: str, machines: Iterable[str] | None = None) -> pd.DataFrame:
    """Return the manifest of a data set in DCASE layout.

    Raises:
        UserError: a folder is missing or empty, or a name does not follow DCASE's pattern.
    """
    rows: list[dict[str, Any]] = []
    for part, machine, folder in machine_folders(root, machines):
        attributes = dict(_csv_attributes(folder))
        before = len(rows)
        for split in SPLITS:
            if (folder / split).is_dir():
                rows += [
                    {"dataset": dataset, "machine": machine, "part": part, **_parse(path, split, attributes)}
                    for path in audio_files(folder / split)
                ]
        if not any(row["split"] == "train" for row in rows[before:]):
            raise UserError(f"{folder / 'train'}: holds no audio file; a machine type needs normal training clips")
    paths = [row["path"] for row in rows]
    frame = pd.DataFrame(rows).assign(
        clip_id=[path.relative_to(root).as_posix() for path in paths],
        path=[str(path) for path in paths],
    )
    return add_headers(frame, paths)


def _parse(path: Path, split: str, csv_attributes: dict[str, str]) -> dict[str, Any]:
    match = NAME.fullmatch(path.stem)
    if match is None:
        message = (
            f"{path}: the name does not follow DCASE's pattern "
            "section_<NN>_<source|target>_<train|test>_<normal|anomaly>_<number>[_<attributes>]"
        )
        raise UserError(message)
    if match["split"] != split:
        raise UserError(f"{path}: the name says {match['split']}, the folder says {split}")
    if split == "train" and match["label"] != "normal":
        raise UserError(f"{path}: an anomaly among the training clips; training takes normal clips only")
    attributes = match["attributes"] or csv_attributes.get(path.stem, "")
    return {
        "path": path,
        "section": match["section"],
        "domain": match["domain"],
        "split": split,
        "is_normal": match["label"] == "normal",
        "attributes": None if attributes in UNKNOWN_ATTRIBUTES else attributes,
    }


def _csv_attributes(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (stem, attributes) of the rows of attributes_NN.csv, as key_value pairs joined by underscores."""
    for file in sorted(folder.glob("attributes_*.csv")):
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.reader(lines, skipinitialspace=True)
            next(rows, None)
            for row in rows:
                if row:
                    yield Path(row[0]).stem, "_".join(value for value in row[1:] if value)


def clip_folders(root: Path, machines: Iterable[str] | None = None) -> list[str]:
    """Return the folders that hold clips; adding or removing a file changes the time of its folder."""
    found = machine_folders(root, machines)
    return [str(folder / split) for _, _, folder in found for split in SPLITS if (folder / split).is_dir()]
