"""The published numbers of the Top-M paper: complete, as printed, and in agreement with each other and with DCASE."""

import csv
from collections import Counter
from itertools import product
from statistics import harmonic_mean

import pytest

from asdpipe.data.dcase.years import YEARS
from asdpipe.errors import UserError
from asdpipe.paper import top_m as paper
from asdpipe.paper.top_m import BACKBONES, MACHINES, MISPRINTS, Place
from tests.conftest import ROOT

PRINTED_M = {"audio_mae": (1, 3, 15), "beats": (1, 7, 15)}
ROWS = [(backbone, m) for backbone, values in PRINTED_M.items() for m in values]
# Two decimals are printed.
ROUNDING = 0.0051


def corrected(backbone: str) -> dict[Place, float]:
    """Return the numbers with the misprint replaced by what the means imply."""
    return dict(paper.published(backbone)) | {place: value for name, place, value in MISPRINTS if name == backbone}


def test_every_row_of_the_csv_is_there_once():
    with (ROOT / "src/asdpipe/paper/top_m.csv").open(newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    assert len(rows) == 240
    found = Counter(
        (name, m, machine, metric, value)
        for backbone, name in BACKBONES.items()
        for (m, machine, metric), value in paper.published(backbone).items()
    )
    assert found == Counter((name, int(m), machine, metric, float(value)) for name, m, machine, metric, value in rows)
    for backbone, values in PRINTED_M.items():
        assert set(paper.published(backbone)) == {
            Place(*each) for each in product(values, [*MACHINES, "hmean"], paper.METRICS)
        }
        assert set(values) <= set(paper.LABELS_PER_CLIP)
    assert set(MACHINES) == set(YEARS[2025].dev)


# Read in the printed tables and the text (§4.4).
@pytest.mark.parametrize(
    ("backbone", "place", "value"),
    [
        ("audio_mae", Place(1, "bearing", "sauc"), 39.18),
        ("audio_mae", Place(3, "valve", "pauc"), 66.37),
        ("audio_mae", Place(15, "ToyTrain", "tauc"), 71.14),
        ("audio_mae", Place(3, "hmean", "hmean"), 59.29),
        ("beats", Place(1, "fan", "sauc"), 68.60),
        ("beats", Place(7, "ToyTrain", "sauc"), 24.94),
        ("beats", Place(15, "ToyCar", "ave"), 64.88),
        ("beats", Place(7, "hmean", "hmean"), 53.43),
    ],
)
def test_a_number_is_the_printed_one(backbone, place, value):
    assert paper.published(backbone)[place] == value


@pytest.mark.parametrize(("backbone", "m"), ROWS)
def test_means_are_those_of_the_printed_numbers(backbone, m):
    numbers = corrected(backbone)
    for machine in MACHINES:
        source, target, pauc = (numbers[m, machine, metric] for metric in ("sauc", "tauc", "pauc"))
        assert numbers[m, machine, "ave"] == pytest.approx((source + target) / 2, abs=ROUNDING)
        assert numbers[m, machine, "hmean"] == pytest.approx(harmonic_mean([source, target, pauc]), abs=2 * ROUNDING)
    for metric in paper.METRICS:
        values = [numbers[m, machine, metric] for machine in MACHINES]
        assert numbers[m, "hmean", metric] == pytest.approx(harmonic_mean(values), abs=2 * ROUNDING)


def test_one_number_is_a_misprint_by_all_three_of_its_means():
    ((backbone, place, implied),) = MISPRINTS
    numbers = paper.published(backbone)
    assert (backbone, place, numbers[place]) == ("beats", Place(15, "slider", "tauc"), 63.70)

    def with_value(value: float) -> list[float]:
        row = {metric: numbers[15, "slider", metric] for metric in ("sauc", "pauc")} | {"tauc": value}
        column = [value if name == "slider" else numbers[15, name, "tauc"] for name in MACHINES]
        return [(row["sauc"] + value) / 2, harmonic_mean(row.values()), harmonic_mean(column)]

    printed = [numbers[15, "slider", "ave"], numbers[15, "slider", "hmean"], numbers[15, "hmean", "tauc"]]
    assert with_value(implied) == pytest.approx(printed, abs=0.02)
    for found, mean in zip(with_value(numbers[place]), printed, strict=True):
        assert abs(found - mean) > 0.3


@pytest.mark.parametrize("metric", ["sauc", "tauc"])
def test_domains_are_against_all_anomalies(metric):
    # The test set has 50 normal and 50 anomalous clips of each domain: with all anomalies an AUC is a multiple of
    # 1 / (50 * 100) = 0.02 %, with those of the domain one of 1 / (50 * 50) = 0.04 %.
    printed = [round(100 * corrected(backbone)[m, name, metric]) for backbone, m in ROWS for name in MACHINES]
    assert len(printed) == 42
    assert all(value % 2 == 0 for value in printed)
    assert sum(value % 4 != 0 for value in printed) > 20


def test_the_partial_auc_is_standardised_over_both_domains():
    # Steps of 1 / (100 * 100) below a false-positive rate of 0.1, whose chance level is 0.1² / 2 = 0.005.
    for backbone, m in ROWS:
        for machine in MACHINES:
            standardised = paper.published(backbone)[m, machine, "pauc"] / 100
            area = 0.005 + (2 * standardised - 1) * (0.1 - 0.005)
            assert 10_000 * area == pytest.approx(round(10_000 * area), abs=0.1)


def test_other_systems_have_a_year_and_a_source():
    systems = {(system.name, system.year, system.split): system.official for system in paper.other_systems()}
    assert len(systems) == len(paper.other_systems()) == 7
    assert systems["frozen CED-tiny", 2025, "dev"] == 62.15
    assert systems["BEATs, LoRA and SCAC", 2024, "eval"] == 61.72
    assert all(system.source and system.year in YEARS for system in paper.other_systems())


def test_another_backbone_is_refused_with_the_names_of_both():
    with pytest.raises(UserError, match=r"topm_ced: the paper has no such backbone; choose audio_mae or beats"):
        paper.methods("ced")
