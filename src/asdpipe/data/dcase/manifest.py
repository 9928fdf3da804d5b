"""DCASE Task 2 data sets: their folders, and the manifest of their clips."""

import logging
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import pandas as pd

from asdpipe.data.clips import add_headers, audio_files, check_file_names, check_folder_name
from asdpipe.data.dcase.counts import check_published
from asdpipe.data.dcase.names import SPLITS, Clip, bare_stem, known_attributes, parse_clip
from asdpipe.data.dcase.truth import csv_rows, hide_attributes, label_evaluation, reveal_attributes
from asdpipe.data.dcase.years import YEARS, Part
from asdpipe.errors import UserError

PARTS: tuple[Part, ...] = ("dev", "eval")
logger = logging.getLogger(__name__)


def machine_folders(
    root: Path, machines: Iterable[str] | None = None, parts: Collection[Part] = PARTS
) -> list[tuple[Part, str, Path]]:
    """Find the machine types of a data set.

    Args:
        root: holds dev_data/<machine> and eval_data/<machine>, dev_data/<machine> of both, or <machine>; each also
            with raw/ before <machine>.
        machines: only these; None: all.
        parts: only these, where the folders tell; the folder of a renamed tree may hold both.

    Returns:
        (part by folder, machine, folder), by part and name; without dev_data and eval_data the part is dev.

    Raises:
        UserError: no such folder, no machine type in it, one that is asked for is missing, or a name cannot be used.
    """
    found = _scan(root)
    if not found:
        raise UserError(f"{root}: has no <machine>/train folder, here or under dev_data/raw; is it a DCASE data set?")
    if _is_official(found):
        found = [each for each in found if each[0] in parts]
        if not found:
            raise UserError(f"{root}: has only eval_data, no dev_data; add it, or set the data set's parts: [eval]")
    if machines is not None:
        wanted = set(machines)
        missing = wanted - {machine for _, machine, _ in found}
        if missing:
            there = ", ".join(dict.fromkeys(machine for _, machine, _ in found))
            raise UserError(f"{root}: machine type {', '.join(sorted(missing))} is not there; there are: {there}")
        found = [each for each in found if each[1] in wanted]
    for _, _, folder in found:
        check_folder_name(folder)
    return found


def clip_folders(root: Path, machines: Iterable[str] | None = None, parts: Collection[Part] = PARTS) -> list[str]:
    """Return the folders that hold clips; adding or removing a file changes the time of its folder."""
    found = machine_folders(root, machines, parts)
    return [str(folder / split) for _, _, folder in found for split in SPLITS if (folder / split).is_dir()]


def list_clips(
    root: Path,
    dataset: str,
    machines: Iterable[str] | None = None,
    *,
    year: int | None = None,
    parts: Collection[Part] = PARTS,
    truth: Path | None = None,
    check_counts: bool = True,
    revealed: bool = True,
) -> pd.DataFrame:
    """Return the manifest of a data set in DCASE layout: the columns of the table ``clips``.

    Args:
        machines: only these; None: all.
        year: of the challenge; it tells dev from eval, and has ground truth and published counts. None: names and
            folders alone tell.
        parts: development and evaluation set, or one of them.
        truth: folder with the ground truth of the year; None: root/ground_truth, if there.
        check_counts: stop unless the numbers of clips are those published for the year, and each machine type has
            training clips. False: a part of the data will do.
        revealed: fill attributes that the challenge hid with those published later; else hide them everywhere.

    Raises:
        UserError: a folder or a file is missing, a name does not fit, a clip is there twice, ground truth and clips
            do not belong together, or the counts differ.
    """
    if truth is not None and year is None:
        raise UserError(f"{truth}: ground truth is read for a year of the challenge only; set the data set's year")
    machines = None if machines is None else sorted(set(machines))
    clips = _read_clips(root, machines, year, parts, check_counts)
    check_file_names(root, (clip.path.relative_to(root).as_posix() for clip in clips))
    _stop_at_duplicates(clips)
    if year is not None:
        if truth is None and (root / "ground_truth").is_dir():
            truth = root / "ground_truth"
        label_evaluation(clips, truth, year, complete=check_counts)
        if revealed:
            reveal_attributes(clips, truth, year)
        else:
            hide_attributes(clips, year)
        if check_counts:
            check_published(root, clips, year, parts, machines)
    elif unknown := sorted({clip.machine for clip in clips if clip.split == "test" and clip.is_normal is None}):
        logger.warning("%s: test clips of %s have no label in their names", root, ", ".join(unknown))
    frame = pd.DataFrame(
        {
            "clip_id": [clip.path.relative_to(root).as_posix() for clip in clips],
            "path": [str(clip.path) for clip in clips],
            "dataset": dataset,
            "machine": [clip.machine for clip in clips],
            "section": [clip.section for clip in clips],
            "domain": [clip.domain for clip in clips],
            "split": [clip.split for clip in clips],
            "part": [clip.part for clip in clips],
            "is_normal": [clip.is_normal for clip in clips],
            "attributes": [clip.attributes for clip in clips],
        }
    )
    return add_headers(frame, [clip.path for clip in clips])


def _scan(root: Path) -> list[tuple[Part, str, Path]]:
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; check the root of the data set in the config")
    found: list[tuple[Part, str, Path]] = []
    places: list[tuple[Part, Path]] = [("dev", root), ("dev", root / "dev_data"), ("eval", root / "eval_data")]
    for part, place in places:
        # raw/ may be there or not; what is in both is found twice and reported.
        for folder in (place, place / "raw"):
            for machine in folder.iterdir() if folder.is_dir() else ():
                if any((machine / split).is_dir() for split in SPLITS):
                    found.append((part, machine.name, machine))
    return sorted(found)


def _is_official(found: Iterable[tuple[Part, str, Path]]) -> bool:
    """Only the organisers' tree has eval_data: there, the folders tell dev from eval."""
    return any(part == "eval" for part, _, _ in found)


def _read_clips(
    root: Path, machines: Collection[str] | None, year: int | None, parts: Collection[Part], check_counts: bool
) -> list[Clip]:
    official = _is_official(_scan(root))
    folders = machine_folders(root, machines, parts)
    clips: list[Clip] = []
    for part, machine, folder in folders:
        csv_attributes = dict(_csv_attributes(folder))
        for split in SPLITS:
            for path in audio_files(folder / split) if (folder / split).is_dir() else ():
                clip = parse_clip(path, machine, part, year)
                if clip.attributes is None:
                    clip.attributes = csv_attributes.get(path.stem)
                if year is not None:
                    clip.part = _part_of_year(clip, part if official else None, year)
                clips.append(clip)
    trained = {clip.machine for clip in clips if clip.split == "train"}
    for _, machine, folder in folders:
        if machine not in trained:
            message = f"{folder / 'train'}: holds no audio file; a machine type needs normal training clips"
            # A tree of test clips only can be listed; the step that decodes it stops.
            if check_counts and (year is not None or (folder / "train").is_dir()):
                raise UserError(message)
            logger.warning(message)
    clips = [clip for clip in clips if clip.part in parts]
    if not clips:
        raise UserError(f"{root}: has no clips of part {', '.join(sorted(parts))}; check the data set's parts")
    return clips


def _part_of_year(clip: Clip, folder_part: Part | None, year: int) -> Part:
    part = next((part for part in PARTS if clip.section in YEARS[year].part(part).get(clip.machine, ())), None)
    if part is None:
        message = (
            f"{clip.path}: DCASE {year} has no section {clip.section} of machine type {clip.machine}; "
            "check the data set's year and root, or list the machine types to use in machines"
        )
        raise UserError(message)
    if folder_part not in (None, part):
        message = (
            f"{clip.path}: section {clip.section} of {clip.machine} is in DCASE {year}'s {part} set, "
            f"but the file lies in {folder_part}_data; check the data set's year, and move the file"
        )
        raise UserError(message)
    if part == "dev" and clip.split == "test" and clip.is_normal is None:
        raise UserError(f"{clip.path}: a development clip without normal or anomaly in its name; fetch it again")
    return part


def _stop_at_duplicates(clips: Iterable[Clip]) -> None:
    seen: dict[tuple[str, str, str, str], Path] = {}
    for clip in clips:
        first = seen.setdefault((clip.part, clip.machine, clip.split, clip.path.stem), clip.path)
        if first != clip.path:
            raise UserError(f"{first} and {clip.path}: the same clip twice; remove one of them")


def _csv_attributes(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (stem, attributes) of the rows of attributes_NN.csv, as key_value pairs joined by underscores."""
    for file in sorted(folder.glob("attributes_*.csv")):
        for _, row in csv_rows(file):
            # The heading is no clip's name. Rows are ragged, and those of evaluators end with the file's full name.
            values = [value for value in row[1:] if value and not bare_stem(value).startswith("section_")]
            if attributes := known_attributes("_".join(values)):
                yield bare_stem(row[0]), attributes
