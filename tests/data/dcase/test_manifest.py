"""Whole trees of each year, in the organisers' layout and as others rename them."""

import os

import pytest
from asdpipe.steps.manifest import manifest

from asdpipe.artifacts.tables import read_table
from asdpipe.data.dcase import manifest as dcase
from asdpipe.errors import UserError
from tests.dcase_trees import GROUND_TRUTH, list_all, same_manifest, write_truth, write_year

YEARS = [2020, 2021, 2022, 2023, 2024, 2025]


@pytest.mark.parametrize("layout", ["official", "merged", "asdkit"])
@pytest.mark.parametrize("year", YEARS)
def test_every_layout_of_every_year_is_read(tmp_path, year, layout):
    expected = write_year(tmp_path / "tree", year, layout=layout, counts=1)
    write_truth(tmp_path / "truth", year, tmp_path / "tree")
    clips = list_all(tmp_path / "tree", "set", year=year, truth=tmp_path / "truth", check_counts=False)
    same_manifest(clips, expected)
    assert (clips.sample_rate == 16_000).all()
    if year == 2020:
        assert clips.domain.isna().all()


@pytest.fixture
def no_headers(monkeypatch):
    """Leave headers out: they are the slowest part of a full tree."""
    monkeypatch.setattr(dcase, "add_headers", lambda frame, paths: frame)


@pytest.mark.parametrize("year", [2023, 2024])
def test_a_full_year_has_the_published_counts_and_one_file_too_few_or_too_many_is_reported(tmp_path, no_headers, year):
    expected = write_year(tmp_path, year, counts="published")
    assert len(expected) == {2023: 16_800, 2024: 19_200}[year]
    clips = list_all(tmp_path, "set", year=year, truth=GROUND_TRUTH, revealed=False)
    same_manifest(clips, expected, "attributes")

    train = tmp_path / "dev_data/raw/valve/train"
    gone = next(train.glob("*_target_*"))
    gone.rename(train / gone.name.replace("target", "source").replace("normal_", "normal_9"))
    with pytest.raises(UserError) as error:
        list_all(tmp_path, "set", year=year, truth=GROUND_TRUTH)
    assert [line.strip() for line in str(error.value).splitlines()[1:]] == [
        "dev valve section 00 train source normal: 991 clips, published are 990",
        "dev valve section 00 train target normal: 9 clips, published are 10",
    ]


def test_real_hidden_attributes_are_revealed_in_a_tree(tmp_path, no_headers):
    # Released and true names of the real clips of one machine type.
    write_year(tmp_path, 2025, machines=["ToyPet"], counts="published")
    folder = tmp_path / "eval_data/raw/ToyPet"
    truth = next(GROUND_TRUTH.glob("2025/*/*/eval_data/ToyPet"))
    names = {}
    for split in ("train", "test"):
        lines = (truth / f"attributes_00_{split}_correspondence.csv").read_text().split()[1:]
        names |= {f"{split}/{line.split(',')[1]}": line.split(",")[0] for line in lines}
    link = next((folder / "train").iterdir())
    link.rename(folder / "wave")
    for file in (folder / "train").iterdir():
        file.unlink()
    for name in names:
        if name.startswith("train"):
            (folder / name).hardlink_to(folder / "wave")
    clips = list_all(tmp_path, "set", ["ToyPet"], year=2025, truth=GROUND_TRUTH)
    clips = clips[clips.split != "supplemental"]
    assert len(clips) == 1200
    for path, domain, is_normal, attributes in zip(
        clips.path, clips.domain, clips.is_normal, clips.attributes, strict=True
    ):
        true_name = names["/".join(path.split("/")[-2:])]
        label = "normal" if is_normal else "anomaly"
        split = path.split("/")[-2]
        assert true_name.startswith(f"section_00_{domain}_{split}_{label}_")
        assert true_name.endswith(f"_{attributes}.wav")


def test_parts_and_machines_limit_every_layout(tmp_path):
    for layout in ("official", "merged", "asdkit"):
        root = tmp_path / layout
        expected = write_year(root, 2023, layout=layout, machines=["fan", "valve", "shaker"], counts=1)
        write_truth(root / "ground_truth", 2023, root)
        clips = list_all(root, "set", ["fan", "shaker"], year=2023, check_counts=False)
        same_manifest(clips, expected[expected.machine != "valve"])
        for part in ("dev", "eval"):
            clips = list_all(root, "set", year=2023, parts=[part], check_counts=False)
            same_manifest(clips, expected[expected.part == part])


def test_the_ids_of_2020_tell_dev_from_eval_in_a_renamed_tree(tmp_path):
    write_year(tmp_path, 2020, layout="asdkit", machines=["fan", "ToyCar"], counts=1)
    clips = list_all(tmp_path, "set", year=2020, check_counts=False)
    ids = clips.groupby(["machine", "part"]).section.unique().map(sorted).to_dict()
    assert ids == {
        ("fan", "dev"): ["00", "02", "04", "06"],
        ("fan", "eval"): ["01", "03", "05"],
        ("ToyCar", "dev"): ["01", "02", "03", "04"],
        ("ToyCar", "eval"): ["05", "06", "07"],
    }


def test_a_file_in_the_folder_of_the_other_part_is_an_error(tmp_path):
    write_year(tmp_path, 2022, machines=["fan"])
    (tmp_path / "ground_truth").mkdir()
    stray = tmp_path / "dev_data/raw/fan/train/section_03_source_train_normal_0099_m-n_A.wav"
    stray.hardlink_to(next(stray.parent.iterdir()))
    for parts in (["dev", "eval"], ["dev"]):
        with pytest.raises(
            UserError, match=r"0099_m-n_A.wav: section 03 of fan is in DCASE 2022's eval set, .*dev_data"
        ):
            list_all(tmp_path, "set", year=2022, parts=parts, check_counts=False)


def test_a_tree_of_another_year_is_an_error(tmp_path):
    write_year(tmp_path, 2024, machines=["fan", "HairDryer"])
    with pytest.raises(UserError, match=r"DCASE 2023 has no section 00 of machine type HairDryer.*year and root"):
        list_all(tmp_path, "set", year=2023, check_counts=False)


def test_a_development_clip_must_have_a_label(tmp_path):
    write_year(tmp_path, 2023, machines=["fan"])
    test = tmp_path / "dev_data/raw/fan/test"
    next(test.iterdir()).rename(test / "section_00_0000.wav")
    with pytest.raises(UserError, match=r"section_00_0000.wav: a development clip without normal or anomaly"):
        list_all(tmp_path, "set", year=2023, check_counts=False)


def test_an_evaluation_set_that_is_not_there_is_reported(tmp_path):
    write_year(tmp_path, 2023, parts=["dev"], counts=1)
    with pytest.raises(UserError, match=r"(?s)eval bandsaw is not there.*eval Vacuum is not there"):
        list_all(tmp_path, "set", year=2023)
    with pytest.raises(UserError, match="has no clips of part eval"):
        list_all(tmp_path, "set", year=2023, parts=["eval"], check_counts=False)
    assert set(list_all(tmp_path, "set", year=2023, check_counts=False).part) == {"dev"}


def test_a_development_set_that_is_not_there_is_reported(tmp_path):
    write_year(tmp_path, 2023, parts=["eval"], counts=1)
    with pytest.raises(UserError, match=r"has only eval_data, no dev_data.*parts: \[eval\]"):
        dcase.machine_folders(tmp_path, parts=["dev"])


def test_folders_are_listed_for_every_layout(tmp_path):
    write_year(tmp_path / "a", 2021, machines=["fan"])
    assert dcase.clip_folders(tmp_path / "a", "test", parts=["dev"]) == [
        str(tmp_path / "a/dev_data/raw/fan" / folder) for folder in ("source_test", "target_test")
    ]
    assert dcase.clip_folders(tmp_path / "a", "train") == [
        str(tmp_path / f"a/{part}_data/raw/fan/train") for part in ("dev", "eval")
    ]
    assert dcase.clip_folders(tmp_path / "a", "supplemental") == []
    write_year(tmp_path / "b", 2025, machines=["fan", "ToyPet"], layout="merged")
    for split in ("train", "test", "supplemental"):
        assert dcase.clip_folders(tmp_path / "b", split, ["fan"]) == [str(tmp_path / "b/dev_data/fan" / split)]
    # The folder of a renamed tree may hold both parts.
    assert [machine for _, machine, _ in dcase.machine_folders(tmp_path / "b", parts=["eval"])] == ["ToyPet", "fan"]


def test_the_step_uses_the_settings_and_writes_the_same_bytes_each_time(tmp_path):
    root = tmp_path / "données 機械 1"
    expected = write_year(root, 2024, machines=["gearbox", "Scanner"])
    write_truth(tmp_path / "labels of 2024", 2024, root)
    settings = '{"format": "dcase", "year": 2024, "machines": ["gearbox", "Scanner"], "check_counts": false'
    for name, more, column in (("a", "}", "revealed"), ("b", ', "revealed_attributes": false}', "attributes")):
        manifest("set", root, settings + more, tmp_path / name, truth=str(tmp_path / "labels of 2024"))
        same_manifest(read_table("clips", tmp_path / name), expected, column)
    manifest("set", root, settings + "}", tmp_path / "again", truth=str(tmp_path / "labels of 2024"))
    assert (tmp_path / "again").read_bytes() == (tmp_path / "a").read_bytes()
    # Without a truth it is looked for below the root; here it is not there.
    manifest("set", root, settings + "}", tmp_path / "c")
    assert read_table("clips", tmp_path / "c").is_normal.isna().sum() == 8
    only_dev = '{"format": "dcase", "year": 2024, "machines": ["gearbox"], "check_counts": false, "parts": ["dev"]}'
    manifest("set", root, only_dev, tmp_path / "d")
    assert set(read_table("clips", tmp_path / "d").part) == {"dev"}
    with pytest.raises(UserError, match="DCASE 2024 published"):
        manifest(
            "set",
            root,
            '{"format": "dcase", "year": 2024}',
            tmp_path / "e",
            truth=str(tmp_path / "labels of 2024"),
        )


def test_file_names_that_are_not_utf_8_are_named(tmp_path, write_dcase):
    root = write_dcase(tmp_path)
    clip = next((root / "fan/train").iterdir())
    clip.rename(os.fsdecode(os.fsencode(clip.with_suffix("")) + b"_\xfc.wav"))
    with pytest.raises(UserError, match=r"the file name 'fan/train/.*_\\udcfc.wav' is not UTF-8; rename the file"):
        list_all(root, "d")
