"""DCASE Task 2 by year: machine types, sections and clip lengths."""

from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

Part = Literal["dev", "eval"]
Sections = tuple[str, ...]


class Year(NamedTuple):
    """The recordings of a year."""

    seconds: float
    """Length T of its clips."""
    dev: Mapping[str, Sections]
    """Machine types of the development set and their sections (machine IDs in 2020)."""
    eval: Mapping[str, Sections]
    """The same for the evaluation set."""

    def part(self, name: Part) -> Mapping[str, Sections]:
        """Return one of the two sets."""
        return self.dev if name == "dev" else self.eval


_MIMII_2020 = ("fan", "pump", "slider", "valve")
_TYPES_2021 = ("fan", "gearbox", "pump", "slider", "valve", "ToyCar", "ToyTrain")
_TYPES_2022 = ("bearing", "fan", "gearbox", "slider", "valve", "ToyCar", "ToyTrain")
_EVAL_2023 = ("bandsaw", "grinder", "shaker", "ToyDrone", "ToyNscale", "ToyTank", "Vacuum")
_EVAL_2024 = (
    "3DPrinter", "AirCompressor", "BrushlessMotor", "HairDryer", "HoveringDrone",
    "RoboticArm", "Scanner", "ToothBrush", "ToyCircuit",
)  # fmt: skip
_EVAL_2025 = (
    "AutoTrash", "BandSealer", "CoffeeGrinder", "HomeCamera", "Polisher", "ScrewFeeder", "ToyPet", "ToyRCCar",
)  # fmt: skip


def _all(machines: Collection[str], *sections: str) -> dict[str, Sections]:
    return dict.fromkeys(machines, sections)


YEARS: dict[int, Year] = {
    # Clips of 2020 last 10 or 11 s: the eleventh second is cut off.
    2020: Year(
        10.0,
        _all(_MIMII_2020, "00", "02", "04", "06")
        | {"ToyCar": ("01", "02", "03", "04"), "ToyConveyor": ("01", "02", "03")},
        _all(_MIMII_2020, "01", "03", "05") | {"ToyCar": ("05", "06", "07"), "ToyConveyor": ("04", "05", "06")},
    ),
    2021: Year(10.0, _all(_TYPES_2021, "00", "01", "02"), _all(_TYPES_2021, "03", "04", "05")),
    2022: Year(10.0, _all(_TYPES_2022, "00", "01", "02"), _all(_TYPES_2022, "03", "04", "05")),
    2023: Year(18.0, _all(_TYPES_2022, "00"), _all(_EVAL_2023, "00")),
    2024: Year(12.0, _all(_TYPES_2022, "00"), _all(_EVAL_2024, "00")),
    2025: Year(12.0, _all(_TYPES_2022, "00"), _all(_EVAL_2025, "00")),
}


def unknown_machines(year: int, parts: Collection[Part], machines: Collection[str]) -> tuple[list[str], list[str]]:
    """Return those of the given machine types that the year does not have, and all that it has in these parts."""
    known = {machine for part in parts for machine in YEARS[year].part(part)}
    return sorted(set(machines) - known), sorted(known)
