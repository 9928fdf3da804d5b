"""DCASE Task 2: published numbers of clips per year, and the check against them.

Sources: the task's descriptions, repositories and ground truth. Numbers that are not published are None: at least one
clip must exist.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from asdpipe.data.dcase.names import Clip
from asdpipe.data.dcase.years import YEARS, Part
from asdpipe.errors import UserError

TOTAL_2020 = 54_254
SUPPLEMENTAL_2025 = 100

_TRAIN_2020 = {
    "fan": {"00": 911, "02": 916, "04": 933, "06": 915},
    "valve": {"06": 892},
    "ToyCar": dict.fromkeys(("01", "02", "03", "04"), 1000),
}
# Normal and anomalous test clips by ID.
_TEST_2020: dict[str, dict[str, tuple[int, int | None]]] = {
    "fan": {"01": (100, 326), "03": (100, 358), "05": (109, 349)},
    "pump": {"01": (100, 116), "03": (100, 113), "05": (100, 248)},
    "slider": dict.fromkeys(("01", "03", "05"), (100, 178)),
    "valve": {"01": (100, 120), "03": (100, 120), "05": (100, 400)},
    "ToyCar": {"01": (350, 264), "02": (350, None), "03": (350, None), "04": (350, 265)}
    | dict.fromkeys(("05", "06", "07"), (250, 265)),
    "ToyConveyor": dict.fromkeys(("04", "05", "06"), (200, 355)),
}
_GEARBOX_TRAIN_2021 = {"00": 1001, "01": 1008, "02": 1008, "03": 1005, "04": 1092, "05": 1008}
# Source normal, source anomalous, target normal, target anomalous; of the development sets of two machine types only
# sums over the sections are published.
_TEST_2021 = {
    ("gearbox", "03"): (130, 104, 104, 182),
    ("gearbox", "04"): (144, 108, 104, 130),
    ("gearbox", "05"): (108, 102, 110, 102),
    ("slider", "05"): (103, 101, 103, 100),
}
_SUMS_2021 = {"gearbox": (411, 351, 309, 336), "slider": (310, 302, 300, 302)}
_TEST_2023 = {"bandsaw": (67, 40, 60, 33), "grinder": (107, 27, 36, 30), "shaker": (49, 53, 52, 46)}


class Group(NamedTuple):
    """Clips that are counted together; a domain or label of None stands for any."""

    sections: tuple[str, ...]
    split: str
    domain: str | None
    is_normal: bool | None
    clips: int | None
    """Their published number; None: at least one."""

    def __str__(self) -> str:
        label = {None: "", True: " normal", False: " anomaly"}[self.is_normal]
        sections = f"section{'s' * (len(self.sections) > 1)} {', '.join(self.sections)}"
        return f"{sections} {self.split}{f' {self.domain}' if self.domain else ''}{label}"


def published(year: int, part: Part, machine: str) -> list[Group]:
    """Return the groups of a machine type's train and test clips, with their published numbers."""
    sections = YEARS[year].part(part)[machine]
    groups = [group for section in sections for group in _section(year, part, machine, section)]
    if year == 2021 and part == "dev" and machine in _SUMS_2021:
        groups += _test(sections, _SUMS_2021[machine])
        if machine == "gearbox":
            groups += _test(("00",), (195, 105))
    return groups


def check_published(
    root: Path,
    clips: Iterable[Clip],
    year: int,
    parts: Collection[Part],
    machines: Collection[str] | None = None,
    split: str | None = None,
) -> None:
    """Compare the clips with the published numbers, as far as their labels are known.

    Args:
        parts, machines: what must be there; None: all machine types.
        split: the only one that the clips are of; None: they are all clips of the year.

    Raises:
        UserError: lists every group whose number differs.
    """
    found = Counter((clip.part, clip.machine, clip.section, clip.split, clip.domain, clip.is_normal) for clip in clips)
    wrong = []
    for part in sorted(parts):
        for machine in YEARS[year].part(part):
            if machines is None or machine in machines:
                mine = Counter({key[2:]: number for key, number in found.items() if key[:2] == (part, machine)})
                wrong += [f"{part} {machine} {line}" for line in _differences(year, part, machine, mine, split)]
    whole = len(set(parts)) == 2 and (machines is None or set(YEARS[year].dev) <= set(machines))
    if year == 2020 and whole and split is None and found.total() != TOTAL_2020:
        wrong.append(f"the whole year: {found.total()} clips, published are {TOTAL_2020}")
    if wrong:
        message = (
            f"{root}: these are not the clips that DCASE {year} published. Fetch what differs again, into an empty "
            "folder; with parts: [dev] only the development set is needed, with check_counts: false any part will do"
        )
        raise UserError(f"{message}\n  " + "\n  ".join(wrong))


Kind = tuple[str, str, str | None, bool | None]


def _differences(year: int, part: Part, machine: str, found: Counter[Kind], split: str | None) -> Iterator[str]:
    if not found and split != "supplemental":
        yield "is not there" if split is None else f"has no {split} clips"
        return
    groups = [group for group in published(year, part, machine) if split in (None, group.split)]
    for group in _as_known(groups, found):
        number = sum(clips for kind, clips in found.items() if _is_in(kind, group))
        if number == 0 if group.clips is None else number != group.clips:
            yield f"{group}: {number} clips, published are {group.clips or 'some'}"
    supplemental = sum(clips for kind, clips in found.items() if kind[1] == "supplemental")
    if supplemental not in (0, SUPPLEMENTAL_2025):
        yield f"supplemental: {supplemental} clips, published are {SUPPLEMENTAL_2025}"


def _is_in(kind: Kind, group: Group) -> bool:
    section, split, domain, is_normal = kind
    return (
        section in group.sections
        and split == group.split
        and group.domain in (None, domain)
        and group.is_normal in (None, is_normal)
    )


def _as_known(groups: Iterable[Group], found: Iterable[Kind]) -> list[Group]:
    """Add up groups that differ only in a domain or label that is unknown for their clips."""
    sums: dict[tuple[tuple[str, ...], str, str | None, bool | None], int | None] = {}
    for group in groups:
        mine = [kind for kind in found if kind[0] in group.sections and kind[1] == group.split]
        domain = None if any(kind[2] is None for kind in mine) else group.domain
        is_normal = None if any(kind[3] is None for kind in mine) else group.is_normal
        key = (group.sections, group.split, domain, is_normal)
        sum_so_far = sums.get(key, 0)
        sums[key] = None if sum_so_far is None or group.clips is None else sum_so_far + group.clips
    return [Group(*key, clips) for key, clips in sums.items()]


def _section(year: int, part: Part, machine: str, section: str) -> list[Group]:
    sections = (section,)
    train: list[tuple[str | None, int | None]]
    test: tuple[int | None, ...]
    if year == 2020:
        train = [(None, _TRAIN_2020.get(machine, {}).get(section))]
        test = _TEST_2020.get(machine, {}).get(section, (None, None))
    elif year == 2021:
        source = _GEARBOX_TRAIN_2021[section] if machine == "gearbox" else 1000
        train = [("source", source), ("target", 3)]
        only_sums = part == "dev" and machine in _SUMS_2021
        test = () if only_sums else _TEST_2021.get((machine, section), (100, 100, 100, 100))
    else:
        train = [("source", 990), ("target", 10)]
        test = _TEST_2023.get(machine, (50, 50, 50, 50)) if year == 2023 else (50, 50, 50, 50)
    return [Group(sections, "train", domain, True, clips) for domain, clips in train] + _test(sections, test, year)


def _test(sections: tuple[str, ...], clips: tuple[int | None, ...], year: int = 2021) -> list[Group]:
    """Return groups of normal and anomalous test clips, without domain in 2020, else of source and then of target."""
    kinds = [
        (domain, normal) for domain in ([None] if year == 2020 else ["source", "target"]) for normal in (True, False)
    ]
    return [Group(sections, "test", *kind, number) for kind, number in zip(kinds, clips, strict=False)]
