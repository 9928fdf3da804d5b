"""DCASE Task 2: labels of the evaluation test clips, and attributes that were published after the challenge.

Rows and clips are joined by machine type and file name. The files may lie anywhere below the given folder; they are
recognised by their names.
"""

import csv
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from asdpipe.data.dcase.names import Clip, Name, bare_stem, parse_name
from asdpipe.errors import UserError, short

# Machine types whose attributes the challenge hid.
HIDDEN = {
    2024: frozenset(
        {"gearbox", "slider", "ToyTrain", "AirCompressor", "BrushlessMotor", "HoveringDrone", "ToothBrush"}
    ),
    2025: frozenset({"bearing", "slider", "ToyTrain", "AutoTrash", "Polisher", "ScrewFeeder", "ToyPet"}),
}
# Of these, the organisers' list of new names and their attribute files contradict the labels and domains that the
# official evaluator uses, in half of the clips.
CONTRADICTORY = {2022: frozenset({"ToyCar", "ToyTrain"})}
SHOWN = 5
logger = logging.getLogger(__name__)

# Machine type, section, domain where the clip's own name has one, number.
Key = tuple[str, str, str | None, str]
K = TypeVar("K")
V = TypeVar("V")


class Truth(NamedTuple):
    """The ground truth of an evaluation test clip."""

    is_normal: bool
    domain: str | None
    attributes: str | None


def label_evaluation(clips: Sequence[Clip], folder: Path | None, year: int, complete: bool = True) -> None:
    """Fill label, domain and attributes of the evaluation test clips whose names do not say them.

    Args:
        folder: with the ground truth of the year, among others; None: labels stay unknown.
        complete: every row must have its clip; False: the clips are a part of the data.

    Raises:
        UserError: a file is missing or does not fit, or clips and rows do not match one to one.
    """
    evaluation = [clip for clip in clips if clip.part == "eval" and clip.split == "test"]
    unlabelled = [clip for clip in evaluation if clip.is_normal is None]
    if forgotten := forget_contradictory_names(evaluation, year):
        message = (
            "DCASE %d, evaluation test clips of %s: labels and domains in their new names come from a list that "
            "contradicts the official evaluator in half of the clips, so they count as unknown; use the files under "
            "their original names (section_NN_NNNN.wav) with the evaluator's ground_truth_data and ground_truth_domain"
        )
        logger.warning(message, year, ", ".join(sorted(forgotten)))
    if unlabelled and folder is None:
        message = (
            "no ground truth for the evaluation test clips of %s: their labels stay unknown; "
            "set the data set's ground_truth (or download: true)"
        )
        logger.warning(message, ", ".join(sorted({clip.machine for clip in unlabelled})))
    elif unlabelled and folder is not None:
        files = _Files(folder, year)
        wanted = sorted({(clip.machine, clip.section) for clip in unlabelled})
        rows = _read_lists(files, year) if year in (2020, 2025) else _read_sections(files, year, wanted)
        _join(unlabelled, rows, files.folder, complete)
    for clip in evaluation:
        if clip.machine in CONTRADICTORY.get(year, ()):
            clip.attributes = None


def forget_contradictory_names(clips: Iterable[Clip], year: int) -> set[str]:
    """Remove label and domain that clips have from the contradictory list of new names; return their machine types."""
    forgotten = set()
    for clip in clips:
        is_eval_test = clip.part == "eval" and clip.split == "test"
        if is_eval_test and clip.is_normal is not None and clip.machine in CONTRADICTORY.get(year, ()):
            clip.is_normal = clip.domain = None
            forgotten.add(clip.machine)
    return forgotten


def truth_files(folder: Path, year: int) -> list[str]:
    """Return the csv files of the year that labelling may read, in any folder below.

    Raises:
        UserError: there is no such folder.
    """
    return [str(path) for path in _Files(folder, year).paths if path.name != _correspondence("train")]


def revealed_attributes(
    folder: Path, year: int, machines: Iterable[str], split: str
) -> dict[str, dict[str, str | None]]:
    """Return the attributes that the challenge hid and published later, by machine type and released stem.

    Raises:
        UserError: there is no such folder, or a file does not fit.
    """
    hidden = sorted(HIDDEN.get(year, frozenset()) & set(machines))
    if not hidden:
        return {}
    files = _Files(folder, year)
    paths = {machine: files.find(machine, _correspondence(split)) for machine in hidden}
    # Some machine types were numbered anew: only the released name identifies a clip.
    names = {machine: _true_names(path) for machine, path in paths.items() if path}
    return {machine: {stem: name.attributes for stem, name in found.items()} for machine, found in names.items()}


def reveal_attributes(clips: Iterable[Clip], folder: Path | None, year: int) -> None:
    """Fill unknown attributes from attributes_00_{train,test}_correspondence.csv, where these are there.

    Raises:
        UserError: such a file does not fit.
    """
    waiting: dict[str, dict[str, list[Clip]]] = defaultdict(lambda: defaultdict(list))
    for clip in clips:
        if clip.attributes is None and clip.machine in HIDDEN.get(year, ()) and clip.split != "supplemental":
            waiting[clip.split][clip.machine].append(clip)
    for split, machines in waiting.items():
        found = {} if folder is None else revealed_attributes(folder, year, machines, split)
        for machine, hidden in machines.items():
            for clip in hidden:
                clip.attributes = found.get(machine, {}).get(clip.path.stem)
            unknown = sum(clip.attributes is None for clip in hidden)
            revealed = len(hidden) - unknown
            logger.info("%s: attributes of %d %s clips revealed, %d unknown", machine, revealed, split, unknown)


def hide_attributes(clips: Iterable[Clip], year: int) -> None:
    """Remove the attributes that the challenge hid, wherever a renamed tree or the ground truth has them."""
    for clip in clips:
        if clip.machine in HIDDEN.get(year, ()) and clip.split != "supplemental":
            clip.attributes = None


def csv_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return (line, fields) of the lines of a csv that are not empty.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, skipinitialspace=True)
            return [(rows.line_num, [field.strip() for field in row]) for row in rows if any(row)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as csv ({error}); fetch it again") from None


def _correspondence(split: str) -> str:
    return f"attributes_00_{split}_correspondence.csv"


class _Files:
    """The csv files below a folder, without those of other years."""

    def __init__(self, folder: Path, year: int) -> None:
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such folder; check the data set's ground_truth")
        self.folder = folder
        self.paths = []
        for path in sorted(folder.rglob("*.csv")):
            # A folder or repository may contain several years; the last year in the path counts.
            place = path.relative_to(folder).as_posix()
            years = re.findall(r"(?:dcase|list_|(?<![^/])(?=\d+/))(202\d)", place)
            if not years or years[-1] == str(year):
                self.paths.append(path)

    def find(self, *tail: str) -> Path | None:
        """Return the file whose path ends so; None if there is none.

        Raises:
            UserError: there are several that differ.
        """
        found = [path for path in self.paths if path.parts[-len(tail) :] == tail]
        for other in found[1:]:
            if other.read_bytes() != found[0].read_bytes():
                raise UserError(f"{found[0]} and {other} differ; remove the wrong one")
        return found[0] if found else None

    def need(self, *tail: str) -> Path:
        """Return the file whose path ends so.

        Raises:
            UserError: it is not there.
        """
        path = self.find(*tail)
        if path is None:
            message = (
                f"{self.folder}: the ground truth {'/'.join(tail)} is missing, here and in all folders below; "
                "add it, check the data set's ground_truth, or leave the evaluation set out with parts: [dev]"
            )
            raise UserError(message)
        return path


def _read_lists(files: _Files, year: int) -> dict[Key, Truth]:
    """Read eval_data_list: a line with a machine type, then its clips: old name, new name[, label in 2020]."""
    path = (files.find("eval_data_list.csv") if year == 2020 else None) or files.need(f"eval_data_list_{year}.csv")
    rows: dict[Key, Truth] = {}
    machine = ""
    for number, row in csv_rows(path):
        if len(row) == 1:
            machine = row[0]
            continue
        key = _key(path, number, machine, row[0], year)
        if year == 2020:
            truth = Truth(not _flag(path, number, row, 2), None, None)
        else:
            new = _full_name(path, number, row[1], year)
            truth = Truth(bool(new.is_normal), new.domain, new.attributes)
        _put(rows, key, truth, path, number)
    return rows


def _read_sections(files: _Files, year: int, wanted: Iterable[tuple[str, str]]) -> dict[Key, Truth]:
    """Read the evaluators' files of 2021 to 2024, for each machine type and section that is wanted."""
    rows: dict[Key, Truth] = {}
    for machine, section in wanted:
        start = f"ground_truth_{machine}_section_{section}"
        if year == 2021:
            for domain in ("source", "target"):
                path = files.need(f"{start}_{domain}_test.csv")
                for key, anomalous in _read_flags(path, machine, year).items():
                    rows[key] = Truth(not anomalous, domain, None)
        else:
            path = files.need("ground_truth_data", f"{start}_test.csv")
            anomalies = _read_flags(path, machine, year)
            domain_path = files.need("ground_truth_domain", f"{start}_test.csv")
            targets = _read_flags(domain_path, machine, year)
            if anomalies.keys() != targets.keys():
                raise UserError(f"{path} and {domain_path} list different clips; fetch both again")
            attributes = _read_attributes(files, machine, section, year)
            for key, anomalous in anomalies.items():
                rows[key] = Truth(not anomalous, "target" if targets[key] else "source", attributes.get(key))
    return rows


def _read_flags(path: Path, machine: str, year: int) -> dict[Key, bool]:
    flags: dict[Key, bool] = {}
    for number, row in csv_rows(path):
        _put(flags, _key(path, number, machine, row[0], year), _flag(path, number, row, 1), path, number)
    return flags


def _read_attributes(files: _Files, machine: str, section: str, year: int) -> dict[Key, str | None]:
    """Read the attributes in the full names; no file: none are known."""
    if year == 2022:
        path = files.find("ground_truth_attributes", machine, f"attributes_{section}.csv")
    else:
        path = files.find("ground_truth_attributes", f"ground_truth_{machine}_section_{section}_test.csv")
    if path is None:
        logger.info("%s section %s: no ground_truth_attributes for the evaluation test clips", machine, section)
        return {}
    found: dict[Key, str | None] = {}
    for number, row in csv_rows(path):
        if row[0] != "file_name":
            # Rows of 2022 are ragged; a third column in 2024 has the attributes that were hidden.
            full = _full_name(path, number, row[-1], year)
            _put(found, _key(path, number, machine, row[0], year), full.attributes, path, number)
    return found


def _true_names(path: Path) -> dict[str, Name]:
    """Return released stem -> true name of a correspondence file."""
    names: dict[str, Name] = {}
    for number, row in csv_rows(path):
        if row[0] != "source_file_name":
            if len(row) != 2:
                raise UserError(f"{path}, line {number}: expected true name and released name; fetch the file again")
            _put(names, bare_stem(row[1]), _full_name(path, number, row[0], None), path, number)
    return names


def _join(clips: Sequence[Clip], rows: dict[Key, Truth], folder: Path, complete: bool) -> None:
    waiting: dict[Key, Clip] = {}
    problems: dict[tuple[str, str], list[str]] = defaultdict(list)
    for clip in clips:
        key = (clip.machine, clip.section, clip.domain, clip.number)
        if waiting.setdefault(key, clip) is not clip:
            problems[key[:2]].append(f"{clip.path.name} is {waiting[key].path.name} again")
        elif key not in rows:
            problems[key[:2]].append(f"{clip.path.name} has no row")
    if complete:
        sections = {key[:2] for key in waiting}
        for key in rows.keys() - waiting.keys():
            if key[:2] in sections:
                problems[key[:2]].append(f"{_shown(key)} has no clip")
    if problems:
        lines = []
        for (machine, section), found in sorted(problems.items()):
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            lines.append(f"  {machine} section {section}: {', '.join(sorted(found)[:SHOWN])}{more}")
        message = (
            "the evaluation test clips and their ground truth do not belong together; fetch them again, "
            "or set check_counts: false if only clips are missing"
        )
        raise UserError(f"{folder}: {message}\n" + "\n".join(lines))
    for key, clip in waiting.items():
        clip.is_normal, clip.domain = rows[key].is_normal, rows[key].domain
        clip.attributes = rows[key].attributes or clip.attributes


def _key(path: Path, line: int, machine: str, file_name: str, year: int) -> Key:
    name = parse_name(bare_stem(file_name), year)
    if name is None or name.is_normal is not None:
        raise UserError(f"{path}, line {line}: {short(file_name)} is not the name of an evaluation test clip of {year}")
    return machine, name.section, name.domain, name.number


def _full_name(path: Path, line: int, file_name: str, year: int | None) -> Name:
    name = parse_name(bare_stem(file_name), year)
    if name is None or name.is_normal is None:
        raise UserError(f"{path}, line {line}: {short(file_name)} is not a full name with label and domain")
    return name


def _flag(path: Path, line: int, row: Sequence[str], column: int) -> bool:
    if len(row) <= column or row[column] not in ("0", "1"):
        raise UserError(f"{path}, line {line}: expected 0 or 1 in column {column + 1}; fetch the file again")
    return row[column] == "1"


def _put(rows: dict[K, V], key: K, value: V, path: Path, line: int) -> None:
    if key in rows:
        raise UserError(f"{path}, line {line}: a second row for the same clip; fetch the file again")
    rows[key] = value


def _shown(key: Key) -> str:
    _, section, domain, number = key
    return f"section_{section}_{domain}_test_{number}" if domain else f"section_{section}_{number}"
