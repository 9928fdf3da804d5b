"""What is fetched for a year: compared with published tables and with copies of the published files."""

import re

import pytest

from asdpipe.data.dcase.archives import archives, ground_truth_files
from asdpipe.data.dcase.years import YEARS
from tests.conftest import SHARED

BOTH = ("dev", "eval")
SPEC = SHARED.parent / "spec/dcase.md"
COPIES = SHARED / "dcase_ground_truth"
COPIED = {
    2020: "nttcslab_baseline",
    2021: "y-kawagu_evaluator",
    2022: "Kota-Dohi_evaluator",
    2023: "nttcslab_evaluator",
    2024: "nttcslab_evaluator",
    2025: "nttcslab_baseline",
}


@pytest.mark.parametrize(
    ("year", "dev", "evaluation"),
    [(2020, 6, 12), (2021, 7, 14), (2022, 7, 14), (2023, 7, 14), (2024, 7, 18), (2025, 7, 16)],
)
def test_every_year_has_an_archive_per_development_and_two_per_evaluation_machine_type(year, dev, evaluation):
    found = archives(year, BOTH)
    assert [sum(archive.part == part for archive in found) for part in BOTH] == [dev, evaluation]
    assert len({archive.url_path for archive in found}) == len({archive.name for archive in found}) == dev + evaluation
    assert archives(year, ("dev",)) == [archive for archive in found if archive.part == "dev"]
    assert archives(year, ("eval",)) == [archive for archive in found if archive.part == "eval"]


def test_years_do_not_share_a_record():
    records = [{archive.record for archive in archives(year, BOTH)} for year in YEARS]
    assert [len(of_year) for of_year in records] == [3] * 6
    assert len(set.union(*records)) == 18


@pytest.mark.parametrize(
    ("year", "machine", "expected"),
    [
        (
            2020,
            "ToyConveyor",
            [
                "3678171/files/dev_data_ToyConveyor.zip",
                "3727685/files/eval_data_train_ToyConveyor.zip",
                "3841772/files/eval_data_test_ToyConveyor.zip",
            ],
        ),
        (
            2021,
            "pump",
            [
                "4562016/files/dev_data_pump.zip",
                "4660992/files/eval_data_pump_train.zip",
                "4884786/files/eval_data_pump_test.zip",
            ],
        ),
        (
            2022,
            "bearing",
            [
                "6355122/files/dev_bearing.zip",
                "6462969/files/eval_data_bearing_train.zip",
                "6586456/files/eval_data_bearing_test.zip",
            ],
        ),
        (2023, "ToyCar", ["7882613/files/dev_ToyCar.zip"]),
        (2023, "Vacuum", ["7830345/files/eval_data_Vacuum_train.zip", "7860847/files/eval_data_Vacuum_test.zip"]),
        (2024, "valve", ["10902294/files/dev_valve.zip"]),
        (
            2024,
            "3DPrinter",
            ["11259435/files/eval_data_3DPrinter_train_r2.zip", "11363076/files/eval_data_3DPrinter_test.zip"],
        ),
        (
            2024,
            "RoboticArm",
            ["11259435/files/eval_data_RoboticArm_train_r2.zip", "11363076/files/eval_data_RoboticArm_test.zip"],
        ),
        (2024, "Scanner", ["11259435/files/eval_data_Scanner_train.zip", "11363076/files/eval_data_Scanner_test.zip"]),
        (2025, "bearing", ["15097779/files/dev_bearing.zip"]),
        (2025, "ToyPet", ["15392814/files/eval_data_ToyPet_train.zip", "15519362/files/eval_data_ToyPet_test.zip"]),
    ],
)
def test_archives_have_their_published_addresses(year, machine, expected):
    assert [archive.url_path for archive in archives(year, BOTH, [machine])] == [
        f"/records/{path}" for path in expected
    ]


def test_published_checksums_are_all_used_and_no_others():
    counts = {year: sum(archive.md5 is not None for archive in archives(year, BOTH)) for year in YEARS}
    assert counts == {2020: 18, 2021: 0, 2022: 0, 2023: 21, 2024: 0, 2025: 0}


def test_checksums_are_those_of_the_published_table():
    if not SPEC.is_file():
        pytest.skip(f"{SPEC} is not there")
    table = SPEC.read_text().partition("MD5 (2020 and 2023 only")[2].partition("2021, 2022, 2024, 2025 md5")[0]
    published = re.findall(r"(\w+\.zip) \| ([0-9a-f]{32})", table)
    assert len(published) == 39
    assert sorted(published) == sorted(
        (archive.name, archive.md5) for year in (2020, 2023) for archive in archives(year, BOTH)
    )


@pytest.mark.parametrize(
    ("year", "count"),
    [(2020, 1), (2021, 42), (2022, 7 * 3 * 2 + 5 * 3), (2023, 21), (2024, 27 + 6 + 7), (2025, 1 + 14)],
)
def test_every_file_of_the_ground_truth_was_published(year, count):
    files = ground_truth_files(year, None, BOTH, True)
    assert len({file.path for file in files}) == len({file.url_path for file in files}) == len(files) == count
    if not COPIES.is_dir():
        pytest.skip(f"{COPIES} is not there")
    copies = COPIES / str(year) / COPIED[year]
    there = {path.relative_to(copies).as_posix() for path in copies.rglob("*.csv")}
    # The copies keep another folder name for what was revealed of 2025.
    listed = {
        file.path.replace("ground_truth_attributes/dcase2025t2", "ground_truth_attributes_dcase2025t2")
        for file in files
    }
    assert listed <= there
    # All that there is, except for what contradicts itself.
    assert all(re.match(r"ground_truth_attributes/Toy(Car|Train)/", path) for path in there - listed)
    assert len(there - listed) == (6 if year == 2022 else 0)


def test_ground_truth_is_pinned_to_a_commit():
    for year in YEARS:
        for file in ground_truth_files(year, None, BOTH, True):
            if year == 2020:
                assert (file.base, file.url_path) == ("zenodo", "/records/3951620/files/eval_data_list.csv")
            else:
                assert file.base == "github"
                owner, repository, commit, path = file.url_path.lstrip("/").split("/", 3)
                assert "/" not in owner + repository and re.fullmatch("[0-9a-f]{40}", commit)
                assert path.removeprefix("datasets/") == file.path


def test_only_what_the_machine_types_and_parts_need_is_fetched():
    def paths(*arguments) -> list[str]:
        return [file.path for file in ground_truth_files(*arguments)]

    assert paths(2020, ["fan"], ("dev",), True) == []
    assert paths(2025, ["fan"], BOTH, True) == []
    assert paths(2025, ["ToyPet", "HomeCamera", "slider"], BOTH, False) == ["eval_data_list_2025.csv"]
    revealed = paths(2024, ["BrushlessMotor", "slider"], BOTH, True)
    assert [path for path in revealed if "_all/" in path] == [
        "ground_truth_attributes_all/dev_data/slider/attributes_00_train_correspondence.csv",
        "ground_truth_attributes_all/dev_data/slider/attributes_00_test_correspondence.csv",
        "ground_truth_attributes_all/eval_data/BrushlessMotor/attributes_00_train_correspondence.csv",
    ]
    assert paths(2021, ["fan"], ("eval",), True)[0] == "ground_truth_data/ground_truth_fan_section_03_source_test.csv"
    assert not any("attributes" in path for path in paths(2022, ["ToyCar", "ToyTrain"], BOTH, True))
    assert not any("eval_data_list_2022" in file.url_path for file in ground_truth_files(2022, None, BOTH, True))
