"""The rules of settings that are auto: the paper's values at the sizes of DCASE, bounds, monotony."""

import re
from collections import defaultdict

import pytest

from asdpipe.data.dcase.counts import published
from asdpipe.data.dcase.years import YEARS
from asdpipe.method import data_size
from asdpipe.method.data_size import Size
from tests.conftest import ROOT

# Of a machine type: rule, paper's value (§5.2), lowest value.
OF_MACHINE = [
    (data_size.centroids, 16, 1),
    (data_size.source_clusters, 16, 2),
    (data_size.target_clusters, 4, 1),
    (data_size.external_clips, 1000, 1),
]
SIZES = [*range(0, 1200), *range(1200, 10_000, 97), 10**6]


def sizes_of(year: int) -> dict[str, Size]:
    """Return the published sizes; without domains, all clips count as source. Those not published are left out."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    unknown = set()
    for part in ("dev", "eval"):
        for machine in YEARS[year].part(part):
            for group in published(year, part, machine):
                if group.split == "train":
                    unknown |= {machine} if group.clips is None else set()
                    found[machine][group.domain == "target"] += group.clips or 0
    return {machine: Size(*clips) for machine, clips in found.items() if machine not in unknown}


@pytest.mark.parametrize("year", [2021, 2022, 2023, 2024, 2025])
def test_the_rules_give_the_papers_values_at_the_sizes_of_dcase(year):
    sizes = sizes_of(year)
    assert sizes.keys() == YEARS[year].dev.keys() | YEARS[year].eval.keys()
    for rule, paper, _ in OF_MACHINE:
        assert {rule(size) for size in sizes.values()} == {paper}
    for parts in (["dev"], ["eval"], ["dev", "eval"]):
        machines = {machine for part in parts for machine in YEARS[year].part(part)}
        # In 2021 and 2022 a machine type has half of its sections in either part.
        share = len(parts) / 2 if year < 2023 else 1
        source = sorted(round(share * sizes[machine].source) for machine in machines)
        assert data_size.subclusters(source[len(source) // 2]) == 16
        batch = data_size.source_per_batch(sum(source))
        assert (batch, data_size.target_per_batch(batch)) == (80, 20)
        assert data_size.epochs(-(-sum(source) // batch)) == 50


def test_2020_has_no_target_clips_and_numbers_of_two_machine_types_only():
    # The task published no numbers of training clips of the others, nor of the evaluation set.
    dev = {"fan": [911, 916, 933, 915], "ToyCar": [1000] * 4}
    for machine, clips in dev.items():
        groups = [each for each in published(2020, "dev", machine) if each.split == "train"]
        assert [(each.clips, each.domain) for each in groups] == [(number, None) for number in clips]
        size = Size(sum(clips), 0)
        assert [rule(size) for rule, _, _ in OF_MACHINE] == [16, 16, 1, 1000]
        assert data_size.subclusters(size.source) == 16


@pytest.mark.parametrize(("rule", "highest", "lowest"), OF_MACHINE)
def test_rules_of_a_machine_type_grow_within_their_bounds_also_without_clips_of_a_domain(rule, highest, lowest):
    for make in (lambda clips: Size(clips, 0), lambda clips: Size(0, clips), lambda clips: Size(clips, clips)):
        values = [rule(make(clips)) for clips in SIZES if clips]
        assert values == sorted(values)
        assert lowest <= values[0]
        assert values[-1] <= highest
    assert rule(Size(10**6, 10**6)) == highest


@pytest.mark.parametrize(
    ("rule", "lowest", "highest"),
    [(data_size.subclusters, 2, 16), (data_size.source_per_batch, 16, 80)],
)
def test_rules_of_the_data_set_grow_within_their_bounds(rule, lowest, highest):
    values = [rule(clips) for clips in SIZES]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (lowest, highest)


def test_a_batch_has_a_quarter_as_many_target_clips_and_at_least_one():
    assert [data_size.target_per_batch(source) for source in (1, 3, 4, 16, 32, 80)] == [1, 1, 1, 4, 8, 20]


def test_a_training_has_fifty_epochs_or_just_as_many_as_make_two_hundred_steps():
    values = [data_size.epochs(steps) for steps in range(1, 500)]
    assert values == sorted(values, reverse=True)
    for steps, epochs in enumerate(values, start=1):
        assert epochs == 50 if 50 * steps >= 200 else (epochs - 1) * steps < 200 <= epochs * steps
    assert (data_size.epochs(1), data_size.epochs(10**6)) == (200, 50)


def test_clips_are_counted_by_machine_type_and_domain():
    machine = ["pump", "fan", "fan", "fan", "pump"]
    domain = ["source", "target", "source", "source", "source"]
    assert data_size.count_clips(machine, domain) == {"fan": Size(2, 1), "pump": Size(2, 0)}


def test_a_centroid_stands_for_about_ten_clips():
    for source in range(16, 150):
        assert 8 <= source / data_size.centroids(Size(source, 0)) <= 12.5
    assert [data_size.centroids(Size(source, 0)) for source in (0, 5, 14, 16, 18, 24, 26)] == [1, 1, 1, 2, 2, 2, 3]


def test_a_stated_number_is_that_of_every_machine_type():
    sizes = {"fan": Size(25, 1), "pump": Size(200, 0)}
    assert data_size.by_machine(7, data_size.centroids, sizes) == {"fan": 7, "pump": 7}
    assert data_size.by_machine("auto", data_size.centroids, sizes) == {"fan": 2, "pump": 16}


def test_the_table_of_examples_in_the_documentation_is_true():
    text = (ROOT / "config/README.md").read_text()
    (header,) = re.findall(r"^\| key \| `auto` is \| (.*) \|$", text, flags=re.M)
    for column, title in enumerate(header.split(" | "), start=2):
        size = Size(*map(int, re.findall(r"\d+", title)))
        total = 6 * size.source
        batch = data_size.source_per_batch(total)
        expected = {
            "inference.k_source": data_size.centroids(size),
            "pseudo_labels.k_source": data_size.source_clusters(size),
            "pseudo_labels.k_target": data_size.target_clusters(size),
            "external.n_max": data_size.external_clips(size),
            "loss.subclusters": data_size.subclusters(size.source),
            "training.source_per_batch": batch,
            "training.target_per_batch": data_size.target_per_batch(batch),
            "training.epochs": data_size.epochs(-(-total // batch)),
        }
        rows = {key: re.search(rf"^\| `{key}` \| .*", text, flags=re.M)[0].split(" | ") for key in expected}
        assert {key: int(cells[column].strip(" |")) for key, cells in rows.items()} == expected
