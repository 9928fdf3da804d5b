"""Ground truth of the evaluation test clips: the real files against published counts, and what may be wrong."""

import logging
from collections import Counter
from pathlib import Path

import pytest

from asdpipe.data.dcase import manifest
from asdpipe.data.dcase.names import Clip, parse_clip
from asdpipe.data.dcase.truth import hide_attributes, label_evaluation, reveal_attributes
from asdpipe.errors import UserError
from tests.dcase_trees import GROUND_TRUTH, list_all, real_eval_test, same_manifest, write_truth, write_year

needs_truth = pytest.mark.skipif(not GROUND_TRUTH.is_dir(), reason=f"no shared ground truth ({GROUND_TRUTH})")
SQUARE = (50, 50, 50, 50)


def clip(machine: str, folder: str, stem: str, year: int, part: str = "eval") -> Clip:
    return parse_clip(Path(f"{part}_data/raw/{machine}/{folder}/{stem}.wav"), machine, part, year)


def released(year: int) -> list[Clip]:
    """Return the real evaluation test clips of a year under the names they were released with."""
    found = []
    for row in real_eval_test(year):
        folder = "test" if year != 2021 else f"{row['domain']}_test"
        found.append(clip(row["machine"], folder, row["released"], year))
    return found


def counts(clips: list[Clip]) -> dict[tuple[str, str], tuple[int, ...]]:
    """Return source normal, source anomalous, target normal, target anomalous by machine type and section."""
    tally = Counter((each.machine, each.section, each.domain, each.is_normal) for each in clips)
    keys = {(machine, section) for machine, section, _, _ in tally}
    kinds = [("source", True), ("source", False), ("target", True), ("target", False)]
    return {key: tuple(tally[*key, *kind] for kind in kinds) for key in sorted(keys)}


@needs_truth
def test_real_2020_gives_the_published_counts():
    clips = released(2020)
    label_evaluation(clips, GROUND_TRUTH, 2020)
    found = Counter((each.machine, each.section, each.is_normal) for each in clips)
    assert len(clips) == 7103
    assert all(each.domain is None and each.attributes is None for each in clips)
    published = {
        "fan": {"01": (100, 326), "03": (100, 358), "05": (109, 349)},
        "pump": {"01": (100, 116), "03": (100, 113), "05": (100, 248)},
        "slider": dict.fromkeys(("01", "03", "05"), (100, 178)),
        "valve": {"01": (100, 120), "03": (100, 120), "05": (100, 400)},
        "ToyCar": dict.fromkeys(("05", "06", "07"), (250, 265)),
        "ToyConveyor": dict.fromkeys(("04", "05", "06"), (200, 355)),
    }
    for machine, ids in published.items():
        for section, expected in ids.items():
            assert (found[machine, section, True], found[machine, section, False]) == expected, (machine, section)


@needs_truth
def test_real_2021_gives_the_published_counts():
    clips = released(2021)
    label_evaluation(clips, GROUND_TRUTH, 2021)
    assert len(clips) == 8635
    others = {
        ("gearbox", "03"): (130, 104, 104, 182),
        ("gearbox", "04"): (144, 108, 104, 130),
        ("gearbox", "05"): (108, 102, 110, 102),
        ("slider", "05"): (103, 101, 103, 100),
    }
    found = counts(clips)
    assert len(found) == 21
    for key, numbers in found.items():
        assert numbers == others.get(key, (100, 100, 100, 100)), key


@needs_truth
@pytest.mark.parametrize("year", [2022, 2023, 2024, 2025])
def test_real_later_years_give_the_published_counts(year):
    clips = released(year)
    label_evaluation(clips, GROUND_TRUTH, year)
    others = {"bandsaw": (67, 40, 60, 33), "grinder": (107, 27, 36, 30), "shaker": (49, 53, 52, 46)}
    found = counts(clips)
    assert len(found) == {2022: 21, 2023: 7, 2024: 9, 2025: 8}[year]
    for (machine, section), numbers in found.items():
        assert numbers == others.get(machine, SQUARE), (machine, section)


@needs_truth
@pytest.mark.parametrize("year", [2020, 2021, 2022, 2023, 2024, 2025])
def test_real_clips_get_what_the_organisers_list_of_new_names_says(year):
    # For 2021 to 2024 the list is another source than the evaluators' files that are read.
    clips = released(year)
    label_evaluation(clips, GROUND_TRUTH, year)
    hide_attributes(clips, year)
    hidden = {2024: ("BrushlessMotor",), 2025: ("AutoTrash", "Polisher", "ScrewFeeder", "ToyPet")}.get(year, ())
    for each, row in zip(clips, real_eval_test(year), strict=True):
        assert (each.is_normal, each.domain) == (row["is_normal"], row["domain"]), each.path
        unknown = each.machine in hidden or (year == 2022 and each.machine.startswith("Toy"))
        assert each.attributes == (None if unknown else row["true"]), each.path


@needs_truth
def test_toycar_of_2022_follows_the_evaluator_and_not_the_contradictory_list():
    clips = [each for each in released(2022) if each.machine == "ToyCar"]
    label_evaluation(clips, GROUND_TRUTH, 2022)
    renamed = [row["renamed"].split("_") for row in real_eval_test(2022) if row["machine"] == "ToyCar"]
    pairs = list(zip(clips, renamed, strict=True))
    assert sum(each.is_normal != (words[4] == "normal") for each, words in pairs) == 296
    assert sum(each.domain != words[2] for each, words in pairs) == 292
    assert all(each.attributes is None for each in clips)
    assert set(counts(clips).values()) == {SQUARE}


@needs_truth
def test_hidden_attributes_of_2024_are_revealed_by_the_third_column():
    clips = [each for each in released(2024) if each.machine == "AirCompressor"]
    label_evaluation(clips, GROUND_TRUTH, 2024)
    first = next(each for each in clips if each.path.stem == "section_00_0001")
    assert (first.is_normal, first.domain, first.attributes) == (True, "source", "fl_2_nos_3")
    hide_attributes(clips, 2024)
    assert all(each.attributes is None for each in clips)


@needs_truth
@pytest.mark.parametrize(
    ("year", "part", "machine", "stem", "attributes"),
    [
        # The true numbers of the first three are 0990, 0990 and 0010.
        (2024, "eval", "HoveringDrone", "section_00_source_train_normal_0000", "id_B2_spd_2_mic_1"),
        (2025, "dev", "ToyTrain", "section_00_source_train_normal_0000", "car_D2_spd_10_mic_1"),
        (2025, "eval", "AutoTrash", "section_00_target_train_normal_0000", "id_C1_spd_2_mic_2"),
        (2025, "eval", "Polisher", "section_00_source_train_normal_0001", "pow_5_n_A"),
        (2025, "dev", "ToyTrain", "section_00_source_test_anomaly_0021", "car_B1_spd_7_mic_1"),
    ],
)
def test_real_revealed_attributes_are_joined_by_the_released_name(year, part, machine, stem, attributes):
    each = clip(machine, stem.split("_")[3], f"{stem}_noAttribute", year, part)
    reveal_attributes([each], GROUND_TRUTH, year)
    assert each.attributes == attributes


@needs_truth
def test_all_real_hidden_train_clips_are_revealed():
    for year in (2024, 2025):
        clips = []
        for file in sorted(GROUND_TRUTH.glob(f"{year}/*/*/*_data/*/attributes_00_train_correspondence.csv")):
            part, machine = file.parts[-3].removesuffix("_data"), file.parts[-2]
            for line in file.read_text().split()[1:]:
                clips.append(clip(machine, "train", line.partition(",")[2].removesuffix(".wav"), year, part))
        assert len(clips) == 7000
        reveal_attributes(clips, GROUND_TRUTH, year)
        assert all(each.attributes for each in clips)


@pytest.mark.parametrize("year", [2020, 2021, 2022, 2023, 2024, 2025])
@pytest.mark.parametrize(
    "place", ["truth", "truth/{year}", "truth/someone/{year}/repository-main", "tree/ground_truth"]
)
def test_ground_truth_is_found_wherever_it_lies(tmp_path, year, place):
    machines = {2020: ["fan"], 2021: ["fan"], 2022: ["fan", "ToyCar"], 2023: ["bandsaw"]}.get(
        year, {2024: ["AirCompressor", "RoboticArm", "slider"], 2025: ["ToyPet", "CoffeeGrinder", "slider"]}.get(year)
    )
    expected = write_year(tmp_path / "tree", year, machines=machines)
    write_truth(tmp_path / place.format(year=year), year, tmp_path / "tree")
    truth = None if place.startswith("tree") else tmp_path / "truth"
    clips = list_all(tmp_path / "tree", "set", year=year, truth=truth, check_counts=False)
    same_manifest(clips, expected)


def test_several_years_may_share_a_folder(tmp_path):
    for year in (2024, 2025):
        expected = write_year(tmp_path / f"tree{year}", year, machines=["slider"], parts=["dev"])
        for other in (2024, 2025):
            source = tmp_path / f"tree{year}"
            if other != year:
                source = tmp_path / f"other{other}"
                write_year(source, other, machines=["slider", "bearing"], parts=["dev"], counts=4)
            write_truth(tmp_path / f"truth{year}/dcase2023_baseline/attributes/dcase{other}t2", other, source)
        clips = list_all(
            tmp_path / f"tree{year}", "set", year=year, truth=tmp_path / f"truth{year}", check_counts=False
        )
        same_manifest(clips, expected)


@pytest.mark.parametrize("year", [2020, 2025])
def test_a_list_lies_in_a_repository_that_is_named_after_another_year(tmp_path, year):
    expected = write_year(tmp_path / "tree", year, machines=["fan", "ToyPet"])
    write_truth(tmp_path / "dcase2023_task2_baseline_ae/datasets", year, tmp_path / "tree")
    clips = list_all(tmp_path / "tree", "set", year=year, truth=tmp_path, check_counts=False)
    same_manifest(clips, expected)


def test_two_files_that_differ_are_named_and_copies_are_fine(tmp_path):
    write_year(tmp_path / "tree", 2023, machines=["bandsaw"], parts=["eval"])
    for folder in ("one", "two"):
        write_truth(tmp_path / "truth" / folder, 2023, tmp_path / "tree")
    list_all(tmp_path / "tree", "set", year=2023, truth=tmp_path / "truth", check_counts=False)
    file = tmp_path / "truth/two/ground_truth_data/ground_truth_bandsaw_section_00_test.csv"
    file.write_text(file.read_text().replace(",1", ",0", 1))
    with pytest.raises(UserError, match=r"one/.* and .*two/.*bandsaw.* differ"):
        list_all(tmp_path / "tree", "set", year=2023, truth=tmp_path / "truth", check_counts=False)


def test_without_ground_truth_labels_stay_unknown(tmp_path, caplog):
    write_year(tmp_path / "tree", 2023, machines=["bandsaw", "fan"])
    clips = list_all(tmp_path / "tree", "set", year=2023, check_counts=False)
    eval_test = (clips.part == "eval") & (clips.split == "test")
    assert clips.is_normal.isna().tolist() == eval_test.tolist()
    assert clips.domain.isna().tolist() == eval_test.tolist()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "no ground truth for the evaluation test clips of bandsaw" in warnings[0]


@pytest.fixture
def bandsaw(tmp_path):
    """A tree of one machine type with its ground truth: eight test clips, 0001 to 0008."""
    write_year(tmp_path / "tree", 2023, machines=["bandsaw"])
    write_truth(tmp_path / "truth", 2023, tmp_path / "tree")
    return tmp_path


def list_bandsaw(folder: Path, **options):
    return list_all(folder / "tree", "set", ["bandsaw"], year=2023, truth=folder / "truth", **options)


def edit(folder: Path, kind: str, change) -> Path:
    file = folder / f"truth/ground_truth_{kind}/ground_truth_bandsaw_section_00_test.csv"
    file.write_text(change(file.read_text()))
    return file


def test_a_needed_file_that_is_missing_is_named(bandsaw):
    edit(bandsaw, "domain", str).unlink()
    with pytest.raises(UserError, match=r"ground_truth_domain/ground_truth_bandsaw_section_00_test.csv is missing"):
        list_bandsaw(bandsaw, check_counts=False)
    with pytest.raises(UserError, match="none: there is no such folder"):
        list_all(bandsaw / "tree", "set", year=2023, truth=bandsaw / "none", check_counts=False)


def test_without_an_attributes_file_only_attributes_are_unknown(bandsaw):
    edit(bandsaw, "attributes", str).unlink()
    clips = list_bandsaw(bandsaw, check_counts=False)
    assert clips.is_normal.notna().all()
    assert clips.attributes.isna().sum() == 8


def test_a_clip_without_a_row_is_an_error_even_in_a_part_of_the_data(bandsaw):
    for kind in ("data", "domain"):
        edit(bandsaw, kind, lambda text: "".join(text.splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match=r"bandsaw section 00: section_00_0008.wav has no row$"):
        list_bandsaw(bandsaw, check_counts=False)


def test_a_row_without_a_clip_is_an_error_unless_the_data_are_a_part(bandsaw):
    clips = list_bandsaw(bandsaw, check_counts=False)
    gone = bandsaw / "tree/eval_data/raw/bandsaw/test/section_00_0003.wav"
    gone.unlink()
    fewer = list_bandsaw(bandsaw, check_counts=False)
    unlabelled = manifest.list_clips(bandsaw / "tree", "set", "test", ["bandsaw"], year=2023, check_counts=False)
    with pytest.raises(UserError, match=r"bandsaw section 00: section_00_0003 has no clip$"):
        manifest.label_clips(unlabelled, bandsaw / "tree", year=2023, truth=bandsaw / "truth")
    assert fewer.equals(clips[clips.path != str(gone)].reset_index(drop=True))


def test_the_readmes_form_of_a_name_is_the_same_clip(bandsaw):
    clips = list_bandsaw(bandsaw, check_counts=False)
    test = bandsaw / "tree/eval_data/raw/bandsaw/test"
    for file in test.iterdir():
        file.rename(test / file.name.replace("section_00_", "section_00_test_"))
    same = list_bandsaw(bandsaw, check_counts=False)
    for column in ("is_normal", "domain", "attributes"):
        assert same[column].tolist() == clips[column].tolist()
    (test / "section_00_0002.wav").hardlink_to(test / "section_00_test_0001.wav")
    (test / "section_00_0001.wav").hardlink_to(test / "section_00_test_0001.wav")
    with pytest.raises(UserError, match=r"section_00_test_0001.wav is section_00_0001.wav again, .*0002.* again$"):
        list_bandsaw(bandsaw, check_counts=False)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("data", lambda text: text.replace("0003.wav,0", "0003.wav,2").replace("0003.wav,1", "0003.wav,2"), "0 or 1"),
        ("data", lambda text: "<html>\n<body>not found</body>\n</html>\n", "line 1: <html> is not the name"),
        ("data", lambda text: text + text.splitlines()[0] + "\n", "line 9: a second row for the same clip"),
        ("domain", lambda text: text.replace("_0003", "_0033"), "list different clips"),
        ("attributes", lambda text: text.replace("_normal_", "_"), "is not a full name with label and domain"),
    ],
)
def test_damaged_ground_truth_is_named(bandsaw, kind, change, words):
    file = edit(bandsaw, kind, change)
    with pytest.raises(UserError, match=words) as error:
        list_bandsaw(bandsaw, check_counts=False)
    assert str(file) in str(error.value)


def test_ground_truth_may_have_a_byte_order_mark(bandsaw):
    clips = list_bandsaw(bandsaw, check_counts=False)
    for kind in ("data", "domain", "attributes"):
        edit(bandsaw, kind, lambda text: "\ufeff" + text)
    assert list_bandsaw(bandsaw, check_counts=False).equals(clips)


def test_the_order_of_rows_means_nothing(bandsaw):
    clips = list_bandsaw(bandsaw, check_counts=False)
    edit(bandsaw, "data", lambda text: "\n".join(sorted(text.split(), reverse=True)))
    edit(bandsaw, "domain", lambda text: "\n".join(sorted(text.split(), key=lambda line: line[-1])))
    assert list_bandsaw(bandsaw, check_counts=False).equals(clips)


def test_renamed_toys_of_2022_lose_their_labels_with_a_warning(tmp_path, caplog):
    expected = write_year(tmp_path, 2022, layout="merged", machines=["ToyCar", "fan"])
    clips = list_all(tmp_path, "set", year=2022, check_counts=False)
    same_manifest(clips, expected)
    unknown = clips[clips.is_normal.isna()]
    assert set(zip(unknown.machine, unknown.part, unknown.split, strict=True)) == {("ToyCar", "eval", "test")}
    assert len(unknown) == 24
    assert unknown.domain.isna().all()
    assert "evaluation test clips of ToyCar: labels and domains in their new names" in caplog.text
    assert "ground_truth_data and ground_truth_domain" in caplog.text


def test_contradictory_attributes_beside_the_clips_are_not_used_either(tmp_path):
    expected = write_year(tmp_path / "tree", 2022, machines=["ToyCar"])
    write_truth(tmp_path / "truth", 2022, tmp_path / "tree")
    (tmp_path / "tree/eval_data/raw/ToyCar/attributes_03.csv").write_text(
        "file_name,d1p,d1v,file_name_with_attributes\n"
        "ToyCar/test/section_03_0001.wav,car,G2,ToyCar/test/section_03_target_test_normal_0021_car_G2.wav\n"
    )
    clips = list_all(tmp_path / "tree", "set", year=2022, truth=tmp_path / "truth", check_counts=False)
    same_manifest(clips, expected)


def test_the_list_of_2022_is_never_read(tmp_path):
    write_year(tmp_path / "tree", 2022, machines=["ToyCar"])
    (tmp_path / "tree/ground_truth").mkdir()
    (tmp_path / "tree/ground_truth/eval_data_list_2022.csv").write_text(
        "ToyCar\nsection_03_0000.wav,section_03_source_test_normal_0000_car_A1.wav\n"
    )
    with pytest.raises(UserError, match=r"ground_truth_data/ground_truth_ToyCar_section_03_test.csv is missing"):
        list_all(tmp_path / "tree", "set", year=2022, check_counts=False)


@pytest.mark.parametrize("year", [2024, 2025])
@pytest.mark.parametrize("layout", ["official", "merged", "asdkit"])
def test_hidden_attributes_are_revealed_or_stay_hidden(tmp_path, year, layout):
    machines = {2024: ["gearbox", "HoveringDrone", "BrushlessMotor"], 2025: ["ToyTrain", "AutoTrash"]}[year]
    expected = write_year(tmp_path / "tree", year, layout=layout, machines=machines)
    assert expected.attributes.isna().sum() > expected.revealed.isna().sum() == 0
    write_truth(tmp_path / "truth", year, tmp_path / "tree")
    for revealed, column in ((True, "revealed"), (False, "attributes")):
        clips = list_all(
            tmp_path / "tree",
            "set",
            year=year,
            truth=tmp_path / "truth",
            check_counts=False,
            revealed_attributes=revealed,
        )
        same_manifest(clips, expected, column)


def test_without_correspondence_files_nothing_happens(tmp_path, caplog):
    expected = write_year(tmp_path, 2024, machines=["gearbox"])
    with caplog.at_level(logging.INFO):
        clips = list_all(tmp_path, "set", year=2024, check_counts=False)
    same_manifest(clips, expected, "attributes")
    assert "gearbox: attributes of 0 train clips revealed, 4 unknown" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_ground_truth_needs_a_year(tmp_path, write_dcase):
    with pytest.raises(UserError, match="set the data set's year"):
        list_all(write_dcase(tmp_path), "set", truth=tmp_path)
