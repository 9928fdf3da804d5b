"""Published numbers of clips: they add up to the published totals, and what differs is listed."""

from collections import Counter
from pathlib import Path

import pytest

from asdpipe.data.dcase.counts import check_published, published
from asdpipe.data.dcase.names import Clip
from asdpipe.data.dcase.years import YEARS
from asdpipe.errors import UserError
from tests.dcase_trees import machine_types, real_eval_test, sections, sizes

# Totals of the years from another source than the numbers per machine type (2020: 7103 evaluation test clips).
TOTALS = {2021: 59_504, 2022: 50_400, 2023: 16_800, 2024: 19_200, 2025: 18_000}


def groups(year: int) -> list:
    return [
        group
        for part in ("dev", "eval")
        for machine in YEARS[year].part(part)
        for group in published(year, part, machine)
    ]


@pytest.mark.parametrize("year", TOTALS)
def test_the_numbers_add_up_to_the_published_total(year):
    # Gearbox section 00 of 2021 is published beside the sum that it is part of.
    within = 195 + 105 if year == 2021 else 0
    assert sum(group.clips for group in groups(year)) - within == TOTALS[year]


def test_the_evaluation_test_clips_of_2020_and_2021_add_up():
    for year, total in ((2020, 7103), (2021, 8635)):
        found = [group for machine in YEARS[year].eval for group in published(year, "eval", machine)]
        assert sum(group.clips for group in found if group.split == "test") == total


@pytest.mark.parametrize("year", YEARS)
def test_the_numbers_of_evaluation_test_clips_are_those_of_the_real_lists(year):
    real = Counter((row["machine"], row["section"], row["domain"], row["is_normal"]) for row in real_eval_test(year))
    numbers = {
        (machine, *group.sections, group.domain, group.is_normal): group.clips
        for machine in YEARS[year].eval
        for group in published(year, "eval", machine)
        if group.split == "test"
    }
    assert numbers == dict(real)


@pytest.mark.parametrize("year", YEARS)
def test_a_whole_year_of_published_size_passes(year):
    clips = []
    for part in ("dev", "eval"):
        for machine in machine_types(year, part):
            for section in sections(year, part, machine):
                for (split, domain, is_normal), size in sizes(year, part, machine, section, "published").items():
                    about = (machine, part, section, split, domain, is_normal, None, "")
                    clips += [Clip(Path(f"{split}{number}"), *about) for number in range(size)]
    for row in real_eval_test(year):
        about = (row["machine"], "eval", row["section"], "test", row["domain"], row["is_normal"], None, "")
        clips.append(Clip(Path(row["released"]), *about))
    check_published(Path("root"), clips, year, ["dev", "eval"])


def clips_of(year: int, machine: str, part: str = "dev", **change: int) -> list[Clip]:
    """Return nominal clips of one section: change counts by keyword, as source_train or target_test_anomaly."""
    train = (1000, 3) if year == 2021 else (990, 10)
    each = 100 if year == 2021 else 50
    nominal = {"source_train": train[0], "target_train": train[1]}
    nominal |= {f"{domain}_test_{label}": each for domain in ("source", "target") for label in ("normal", "anomaly")}
    found = []
    for section in sections(year, part, machine):
        for kind, size in (nominal | (change if section == sections(year, part, machine)[0] else {})).items():
            domain, split, *label = kind.split("_")
            about = (split, domain, label != ["anomaly"], None)
            found += [Clip(Path(f"{kind}{n}"), machine, part, section, *about, str(n)) for n in range(size)]
    return found


@pytest.mark.parametrize("year", [2021, 2022, 2023, 2024, 2025])
def test_nominal_clips_pass(year):
    check_published(Path("root"), clips_of(year, "fan"), year, ["dev"], ["fan"])


def test_every_group_that_differs_is_listed_and_no_other():
    clips = clips_of(2022, "fan", source_train=989, target_test_anomaly=51)
    with pytest.raises(UserError) as error:
        check_published(Path("root"), clips, 2022, ["dev", "eval"], ["fan", "ToyCar"])
    first, *lines = str(error.value).splitlines()
    assert [line.strip() for line in lines] == [
        "dev fan section 00 train source normal: 989 clips, published are 990",
        "dev fan section 00 test target anomaly: 51 clips, published are 50",
        "dev ToyCar is not there",
        "eval fan is not there",
        "eval ToyCar is not there",
    ]
    assert first.startswith("root: these are not the clips that DCASE 2022 published.")
    assert "parts: [dev]" in first
    assert "check_counts: false" in first


def test_a_missing_section_is_listed():
    clips = [clip for clip in clips_of(2022, "fan") if clip.section != "02"]
    with pytest.raises(UserError, match="dev fan section 02 train source normal: 0 clips, published are 990"):
        check_published(Path("root"), clips, 2022, ["dev"], ["fan"])


def test_without_labels_the_totals_are_compared():
    clips = clips_of(2023, "bandsaw", "eval")
    for clip in clips:
        if clip.split == "test":
            clip.is_normal = clip.domain = None
    check_published(Path("root"), clips, 2023, ["eval"], ["bandsaw"])
    with pytest.raises(UserError, match="eval bandsaw section 00 test: 199 clips, published are 200"):
        check_published(Path("root"), clips[:-1], 2023, ["eval"], ["bandsaw"])


def test_domains_that_are_known_are_compared_without_labels():
    clips = clips_of(2021, "fan", "eval")
    for clip in clips:
        if clip.split == "test":
            clip.is_normal = None
    check_published(Path("root"), clips, 2021, ["eval"], ["fan"])
    with pytest.raises(UserError, match="eval fan section 05 test target: 199 clips, published are 200"):
        check_published(Path("root"), clips[:-1], 2021, ["eval"], ["fan"])


def test_numbers_of_one_year_are_not_those_of_another():
    with pytest.raises(UserError, match="section 00 test source normal: 50 clips, published are 67"):
        check_published(Path("root"), clips_of(2023, "bandsaw", "eval"), 2023, ["eval"], ["bandsaw"])


def clips_of_2020(machine: str, part: str, train: int, normal: int, anomaly: int) -> list[Clip]:
    wanted = {("train", True): train, ("test", True): normal, ("test", False): anomaly}
    return [
        Clip(Path(f"{split}{n}"), machine, part, section, split, None, is_normal, None, str(n))
        for section in sections(2020, part, machine)
        for (split, is_normal), size in wanted.items()
        for n in range(size)
    ]


def test_what_is_not_published_must_only_be_there():
    check_published(Path("root"), clips_of_2020("pump", "dev", 17, 3, 4), 2020, ["dev"], ["pump"])
    with pytest.raises(UserError, match="dev pump section 00 test anomaly: 0 clips, published are some"):
        check_published(Path("root"), clips_of_2020("pump", "dev", 17, 3, 0), 2020, ["dev"], ["pump"])
    with pytest.raises(UserError, match=r"ToyCar section 01 test anomaly: 265 .* 264\n$|ToyCar section 01 .* 264$"):
        check_published(Path("root"), clips_of_2020("ToyCar", "dev", 1000, 350, 265), 2020, ["dev"], ["ToyCar"])


def test_the_total_of_2020_is_checked_when_the_whole_year_is_asked_for():
    clips = [
        clip
        for part in ("dev", "eval")
        for machine in machine_types(2020, part)
        for clip in clips_of_2020(machine, part, 3, 3, 3)
    ]
    with pytest.raises(UserError, match=f"the whole year: {len(clips)} clips, published are 54254"):
        check_published(Path("root"), clips, 2020, ["dev", "eval"])
    with pytest.raises(UserError) as error:
        check_published(Path("root"), clips, 2020, ["dev"])
    assert "the whole year" not in str(error.value)


def test_supplemental_clips_of_2025_may_be_missing_but_not_be_fewer():
    clips = clips_of(2025, "fan")
    extra = [Clip(Path(f"s{n}"), "fan", "dev", "00", "supplemental", None, None, "noise", "") for n in range(100)]
    check_published(Path("root"), clips + extra, 2025, ["dev"], ["fan"])
    with pytest.raises(UserError, match="dev fan supplemental: 99 clips, published are 100"):
        check_published(Path("root"), clips + extra[1:], 2025, ["dev"], ["fan"])
