"""DCASE Task 2: file names of all years, as released and as renamed by others."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from asdpipe.data.clips import AUDIO_SUFFIXES
from asdpipe.data.dcase.years import Part
from asdpipe.errors import UserError

# Folder of a machine type -> split.
SPLITS = {
    "train": "train",
    "source_test": "test",
    "target_test": "test",
    "test": "test",
    "supplemental": "supplemental",
}

# section_00_source_train_normal_0000_vel_8_loc_E. The organisers' list of 2024 forgets _test_ for RoboticArm.
_LABELLED = re.compile(
    r"section_(?P<section>\d\d)_(?P<domain>source|target)(?:_(?P<split>train|test))?"
    r"_(?P<label>normal|anomaly)_(?P<number>\d+)(?:_(?P<attributes>.*))?"
)
# section_03_source_test_0000 (2021), section_03_0000 (later), section_03_test_0000 (what the README says of later).
_UNLABELLED = re.compile(
    r"section_(?P<section>\d\d)(?:_(?P<domain>source|target)(?=_test))?(?:_(?P<split>test))?_(?P<number>\d+)"
)
# normal_id_01_00000000, and id_01_00000000 among the evaluation test clips.
_OF_2020 = re.compile(r"(?:(?P<label>normal|anomaly)_)?id_(?P<section>\d\d)_(?P<number>\d+)")
# Four forms are known (section_00_noise_0001_, section_00_machine_source_0000_noAttribute, ...): read the words only.
_SUPPLEMENTAL = re.compile(r"section_(?P<section>\d\d)_(?P<words>[a-z]+(?:_[a-z]+)*)_\d+(?:_.*)?")


class Name(NamedTuple):
    """The parts of a file name; None where it lacks one."""

    section: str
    domain: str | None
    split: str | None
    is_normal: bool | None
    number: str
    attributes: str | None


@dataclass
class Clip:
    """A clip; what its name does not say is filled in from csv files."""

    path: Path
    machine: str
    part: Part
    section: str
    split: str
    domain: str | None
    is_normal: bool | None
    attributes: str | None
    number: str


def parse_name(stem: str, year: int | None = None) -> Name | None:
    """Return what a name without suffix says of a train or test clip; None if it does not fit the year.

    Machine IDs of 2020 are its sections; 2020 has no domains, whatever ASDKit's renaming says.
    """
    patterns = (_LABELLED, _OF_2020) if year == 2020 else (_LABELLED, _UNLABELLED)
    for pattern in patterns if year is not None else (_LABELLED, _UNLABELLED, _OF_2020):
        if match := pattern.fullmatch(stem):
            said = match.groupdict()
            return Name(
                section=match["section"],
                domain=None if year == 2020 else said.get("domain"),
                split=said.get("split"),
                is_normal=None if said.get("label") is None else said["label"] == "normal",
                number=match["number"],
                attributes=known_attributes(said.get("attributes")),
            )
    return None


def parse_clip(path: Path, machine: str, part: Part, year: int | None = None) -> Clip:
    """Return what the name and the folder of an audio file say; the part is taken as given.

    Raises:
        UserError: the name does not fit the year's patterns, or contradicts the folder.
    """
    folder = path.parent.name
    split = SPLITS[folder]
    if split == "supplemental":
        return _supplemental(path, machine, part)
    name = parse_name(path.stem, year)
    if name is None or (split == "train" and name.is_normal is None and name.split is None):
        raise UserError(f"{path}: the name does not follow DCASE's pattern {_pattern(year)}")
    if name.split not in (None, split):
        raise UserError(f"{path}: the name says {name.split}, the folder says {split}")
    if folder not in (split, f"{name.domain}_test"):
        raise UserError(f"{path}: the name says domain {name.domain}, the folder says {folder}")
    if split == "train" and not name.is_normal:
        raise UserError(f"{path}: an anomaly among the training clips; training takes normal clips only")
    return Clip(
        path, machine, part, name.section, split, name.domain, name.is_normal, name.attributes, number=name.number
    )


def known_attributes(text: str | None) -> str | None:
    """Return the attributes of a name as they stand there; None if there are none or they are hidden."""
    text = (text or "").rstrip("_")
    return None if text in ("", "noAttribute") else text


def bare_stem(text: str) -> str:
    """Return a file's name without folders and audio suffix: ``fan/train/x_0.11.wav`` and ``x_0.11`` are the same."""
    path = PurePosixPath(text.strip().replace("\\", "/"))
    return path.stem if path.suffix.lower() in AUDIO_SUFFIXES else path.name


def _supplemental(path: Path, machine: str, part: Part) -> Clip:
    match = _SUPPLEMENTAL.fullmatch(path.stem)
    if match is None:
        raise UserError(f"{path}: the name does not follow DCASE's pattern section_<NN>_<noise|machine>_<number>")
    words = match["words"].split("_")
    kind = [word for word in ("noise", "machine") if word in words]
    domain = next((word for word in words if word in ("source", "target")), None)
    return Clip(
        path, machine, part, match["section"], "supplemental", domain, None, kind[0] if len(kind) == 1 else None, ""
    )


def _pattern(year: int | None) -> str:
    if year == 2020:
        return "<normal|anomaly>_id_<NN>_<number> of 2020 (evaluation test clips: id_<NN>_<number>)"
    eval_test = "section_<NN>_<source|target>_test_<number>" if year == 2021 else "section_<NN>_<number>"
    return (
        "section_<NN>_<source|target>_<train|test>_<normal|anomaly>_<number>[_<attributes>] "
        f"(evaluation test clips: {eval_test})"
    )
