"""DCASE Task 2 data sets: their folders, and the manifest of their clips."""

import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path, PurePosixPath

import pandas as pd

from asdpipe.data.clips import (
    add_headers,
    audio_files,
    check_file_names,
    check_folder_name,
    digest,
    in_order,
    unread_files,
    warn_of_unread_files,
)
from asdpipe.data.dcase.counts import check_published
from asdpipe.data.dcase.names import SPLITS, Clip, bare_stem, known_attributes, parse_clip, parse_name
from asdpipe.data.dcase.truth import (
    csv_rows,
    forget_contradictory_names,
    hide_attributes,
    label_evaluation,
    reveal_attributes,
)
from asdpipe.data.dcase.truth import (
    revealed_attributes as published_attributes,
)
from asdpipe.data.dcase.truth import truth_files as find_truth_files
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


def machine_types(root: Path, machines: Iterable[str] | None = None, parts: Collection[Part] = PARTS) -> list[str]:
    """Return the machine types, those of the development set first; arguments and errors of ``machine_folders``."""
    return list(dict.fromkeys(machine for _, machine, _ in machine_folders(root, machines, parts)))


def clip_folders(
    root: Path, split: str, machines: Iterable[str] | None = None, parts: Collection[Part] = PARTS
) -> list[str]:
    """Return the folders that hold the clips of a split: adding or removing a file changes their modification time."""
    return [str(place) for _, _, folder in machine_folders(root, machines, parts) for place in _places(folder, split)]


def facts(
    root: Path,
    split: str,
    machines: Iterable[str] | None = None,
    *,
    year: int | None = None,
    parts: Collection[Part] = PARTS,
    truth: Path | None = None,
    revealed_attributes: bool = True,
) -> str:
    """Return a digest of what csv files say of the clips of a split; "" if they say nothing.

    It covers the rows of attributes_NN.csv and, for training clips, the attributes that were published later. Those of
    test clips and their labels are read by ``label_clips``.

    Raises:
        UserError: a csv file cannot be read.
    """
    folders = machine_folders(root, machines, parts)
    rows: list[tuple[str | None, ...]] = []
    for _, _, folder in folders:
        said = {bare_stem(name): (_split_of(name), text) for name, text in _csv_attributes(folder)}
        place = folder.relative_to(root).as_posix()
        rows += [(place, stem, text) for stem, (of, text) in said.items() if of in (None, split)]
    truth = _truth_folder(root, truth)
    if split == "train" and revealed_attributes and year is not None and truth is not None:
        found = published_attributes(truth, year, {machine for _, machine, _ in folders}, split)
        rows += [(machine, stem, text) for machine, texts in found.items() for stem, text in texts.items()]
    return digest(rows)


def list_clips(
    root: Path,
    dataset: str,
    split: str,
    machines: Iterable[str] | None = None,
    *,
    year: int | None = None,
    parts: Collection[Part] = PARTS,
    truth: Path | None = None,
    check_counts: bool = True,
    revealed_attributes: bool = True,
) -> pd.DataFrame:
    """Return the manifest of one split: the columns of the table ``clips``, machine folder by machine folder.

    Evaluation test clips have only what their names say, until ``label_clips``.

    Args:
        split: train, test or supplemental; folders of other splits are not read.
        machines: only these; None: all.
        year: of the challenge; it tells dev from eval, and has published counts. None: names and folders alone tell.
        parts: development and evaluation set, or one of them.
        truth: folder with attributes that were published after the challenge; None: root/ground_truth, if there.
        check_counts: stop unless the numbers of clips are those published for the year, and each machine type has
            training clips. False: a part of the data will do.
        revealed_attributes: fill attributes of training clips that the challenge hid with those published later;
            else hide them.

    Raises:
        UserError: a folder or a file is missing, a name does not fit, a clip is there twice, or the counts differ.
    """
    machines = None if machines is None else sorted(set(machines))
    clips = _read_clips(root, split, machines, year, parts, check_counts)
    check_file_names(root, (clip.path.relative_to(root).as_posix() for clip in clips))
    _stop_at_duplicates(clips)
    if year is not None:
        if not revealed_attributes:
            hide_attributes(clips, year)
        elif split == "train":
            reveal_attributes(clips, _truth_folder(root, truth), year)
        if check_counts:
            known = [replace(clip) for clip in clips]
            forget_contradictory_names(known, year)
            check_published(root, known, year, parts, machines, split)
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


def truth_files(root: Path, year: int | None = None, truth: Path | None = None) -> list[str]:
    """Return the files that ``label_clips`` may read; its arguments and errors."""
    folder = _truth_folder(root, truth)
    if year is None or folder is None:
        _refuse_truth_without_year(year, truth)
        return []
    return find_truth_files(folder, year)


def label_clips(
    clips: pd.DataFrame,
    root: Path,
    machines: Iterable[str] | None = None,
    *,
    year: int | None = None,
    parts: Collection[Part] = PARTS,
    truth: Path | None = None,
    check_counts: bool = True,
    revealed_attributes: bool = True,
) -> pd.DataFrame:
    """Return the manifest of all splits, with what is known of the evaluation test clips.

    Args:
        clips: what ``list_clips`` returned of every split, one below the other; the result goes machine folder by
            machine folder, and within these split by split.
        truth: folder with the ground truth of the year; None: root/ground_truth, if there.
        check_counts: stop unless the numbers of clips, labels known, are those published for the year.
        revealed_attributes: fill attributes of test clips that the challenge hid with those published later; else
            hide them.

    Raises:
        UserError: there are no clips, ground truth and clips do not belong together, or the counts differ.
    """
    _refuse_truth_without_year(year, truth)
    if clips.empty:
        raise UserError(f"{root}: has no clips of part {', '.join(sorted(parts))}; check the data set's parts")
    clips = in_order(clips, [_place_in_order(clip_id) for clip_id in clips.clip_id])
    if year is None:
        return clips
    truth = _truth_folder(root, truth)
    listed = list(_listed(clips, year))
    test = [clip for clip in listed if clip.split == "test"]
    label_evaluation(test, truth, year, complete=check_counts)
    if revealed_attributes:
        reveal_attributes(test, truth, year)
    else:
        hide_attributes(test, year)
    if check_counts:
        check_published(root, listed, year, parts, None if machines is None else set(machines))
    columns = ("domain", "is_normal", "attributes")
    return clips.assign(
        **{name: pd.Series([getattr(clip, name) for clip in listed], clips.index, object) for name in columns}
    )


def _listed(clips: pd.DataFrame, year: int) -> Iterator[Clip]:
    """Yield the clips of a manifest."""
    known = clips.astype(object).where(clips.notna(), None)
    for row in known.to_dict("records"):
        name = parse_name(Path(row["path"]).stem, year) if row["split"] == "test" else None
        values = {each.name: row[each.name] for each in fields(Clip) if each.name in row}
        yield Clip(**values | {"path": Path(row["path"]), "number": name.number if name else ""})


def _place_in_order(clip_id: str) -> tuple[str, str, tuple[str, ...], int]:
    """Return what sorts clips: part and machine type by folder, the folder, and its folder of the split."""
    *folder, split, _ = clip_id.split("/")
    return "eval" if folder[0] == "eval_data" else "dev", folder[-1], tuple(folder), list(SPLITS).index(split)


def _truth_folder(root: Path, truth: Path | None) -> Path | None:
    folder = truth or root / "ground_truth"
    return folder if truth is not None or folder.is_dir() else None


def _refuse_truth_without_year(year: int | None, truth: Path | None) -> None:
    if truth is not None and year is None:
        raise UserError(f"{truth}: ground truth is read for a year of the challenge only; set the data set's year")


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


def _places(folder: Path, split: str) -> list[Path]:
    """Return the folders of a machine type with the clips of a split."""
    return [folder / name for name, of in SPLITS.items() if of == split and (folder / name).is_dir()]


def _read_clips(
    root: Path,
    split: str,
    machines: Collection[str] | None,
    year: int | None,
    parts: Collection[Part],
    check_counts: bool,
) -> list[Clip]:
    official = _is_official(_scan(root))
    folders = machine_folders(root, machines, parts)
    clips: list[Clip] = []
    for part, machine, folder in folders:
        csv_attributes = {bare_stem(name): attributes for name, attributes in _csv_attributes(folder)}
        for path in (path for place in _places(folder, split) for path in audio_files(place)):
            clip = parse_clip(path, machine, part, year)
            if clip.attributes is None:
                clip.attributes = csv_attributes.get(path.stem)
            if year is not None:
                clip.part = _part_of_year(clip, part if official else None, year)
            clips.append(clip)
    if split == "train":
        _need_training_clips(folders, {clip.machine for clip in clips}, check_counts, year)
    warn_of_unread_files(root, split, (place for _, _, folder in folders for place in _places(folder, split)))
    chosen = [clip for clip in clips if clip.part in parts]
    if split == "train" and clips and not chosen:
        raise UserError(f"{root}: has no clips of part {', '.join(sorted(parts))}; check the data set's parts")
    return chosen


def _need_training_clips(
    folders: Iterable[tuple[Part, str, Path]], trained: Collection[str], check_counts: bool, year: int | None
) -> None:
    for _, machine, folder in folders:
        if machine not in trained:
            unread = unread_files(_places(folder, "train"))
            message = f"{folder / 'train'}: holds no audio file; a machine type needs normal training clips"
            message += f" (not read: {unread})" if unread else ""
            # A tree of test clips only can be listed; the step that decodes it stops.
            if check_counts and (year is not None or (folder / "train").is_dir()):
                raise UserError(message)
            logger.warning(message)


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
    """Yield (file name, attributes) of the rows of attributes_NN.csv, as key_value pairs joined by underscores."""
    for file in sorted(folder.glob("attributes_*.csv")):
        for _, row in csv_rows(file):
            # Rows are ragged, and those of evaluators end with the file's full name.
            values = [value for value in row[1:] if value and not bare_stem(value).startswith("section_")]
            if (attributes := known_attributes("_".join(values))) and row[0] != "file_name":
                yield row[0], attributes


def _split_of(file_name: str) -> str | None:
    """Return the split of a file in attributes_NN.csv by its name, or else by its folder; None: neither tells."""
    name = parse_name(bare_stem(file_name))
    if name is not None and (name.split or name.is_normal is None):
        return name.split or "test"
    return SPLITS.get(PurePosixPath(file_name.replace("\\", "/")).parent.name)
