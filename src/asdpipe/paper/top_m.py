"""The published numbers of the second paper (Top-M pseudo-labels) and of other systems, and our run of each."""

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from asdpipe.errors import UserError

# By the name in our files: the paper's name.
BACKBONES = {"audio_mae": "AudioMAE", "beats": "BEATs"}
TABLES = {"audio_mae": "Top-M paper, Table 2", "beats": "Top-M paper, Table 3"}
# Labels per clip (§3.2). The paper prints three values of M for each backbone.
LABELS_PER_CLIP = (1, 3, 5, 7, 10, 13, 15)
# Of the development set of this year of DCASE.
YEAR, SPLIT = 2025, "dev"
MACHINES = ("bearing", "fan", "gearbox", "slider", "ToyCar", "ToyTrain", "valve")
METRICS = {"sauc": "sAUC", "tauc": "tAUC", "ave": "ave. AUC", "pauc": "pAUC", "hmean": "H. Mean"}
# The mean over the machine types, the paper's last column.
MEAN = "hmean"
# Systems of ours beside the paper's.
BASELINES = ("raw_logmel", "autoencoder", "autoencoder_mahalanobis")


class Place(NamedTuple):
    """A cell of Tables 2 and 3."""

    m: int
    machine: str
    """One of MACHINES, or MEAN."""
    metric: str
    """A key of METRICS."""


class System(NamedTuple):
    """The official score of another system, in percent."""

    name: str
    year: int
    split: str
    official: float
    source: str


# Printed values that contradict the means of their row: backbone, place, and the value that the means imply.
MISPRINTS = (("beats", Place(15, "slider", "tauc"), 61.36),)


def published(backbone: str) -> Mapping[Place, float]:
    """Return the numbers of a backbone as printed, in percent, in the paper's order.

    Raises:
        UserError: no such backbone.
    """
    check_backbone(backbone)
    return _numbers()[BACKBONES[backbone]]


def check_backbone(backbone: str) -> None:
    """Refuse a backbone that the paper does not have.

    Raises:
        UserError: names those that it has.
    """
    if backbone not in BACKBONES:
        raise UserError(f"table topm_{backbone}: the paper has no such backbone; choose {' or '.join(BACKBONES)}")


def method_name(backbone: str, m: int) -> str:
    """Return our method of a backbone and M."""
    return f"topm_{backbone}_m{m}"


def others(backbone: str) -> list[str]:
    """Return our other systems of a table: baselines, and extractors that are not fine-tuned.

    Raises:
        UserError: no such backbone.
    """
    check_backbone(backbone)
    return [*BASELINES, f"{backbone}_frozen", "ced_frozen"]


def methods(backbone: str) -> list[str]:
    """Return our methods of a table: those of the paper, then the others.

    Raises:
        UserError: no such backbone.
    """
    return [*(method_name(backbone, m) for m in LABELS_PER_CLIP), *others(backbone)]


@cache
def other_systems() -> Sequence[System]:
    """Return what other systems reached by their authors' account."""
    text = files("asdpipe").joinpath("paper/other_systems.csv").read_text(encoding="utf-8")
    return [
        System(row["system"], int(row["year"]), row["split"], float(row["official"]), row["source"])
        for row in csv.DictReader(text.splitlines())
    ]


@cache
def _numbers() -> dict[str, dict[Place, float]]:
    numbers: dict[str, dict[Place, float]] = {name: {} for name in BACKBONES.values()}
    text = files("asdpipe").joinpath("paper/top_m.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        numbers[row["backbone"]][Place(int(row["m"]), row["machine"], row["metric"])] = float(row["value"])
    return numbers
