"""Whole trees of each year, in the organisers' layout and as others rename them."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.listings import DcaseListing
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
    monkeypatch.setattr(dcase, "add_headers", lambda frame, paths: frame.assign(sample_rate=16_000, num_frames=160))


@pytest.mark.parametrize("year", [2023, 2024])
def test_a_full_year_has_the_published_counts_and_one_file_too_few_or_too_many_is_reported(tmp_path, no_headers, year):
    expected = write_year(tmp_path, year, counts="published")
    assert len(expected) == {2023: 16_800, 2024: 19_200}[year]
    clips = list_all(tmp_path, "set", year=year, truth=GROUND_TRUTH, revealed_attributes=False)
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


def test_the_additional_training_set_joins_the_development_set_before_the_evaluation_set_is_out(tmp_path):
    # DCASE 2025 published eight machine types with training clips first; their test clips came later.
    expected = write_year(tmp_path, 2025, counts=1)
    additional = expected.machine[expected.part == "eval"].unique()
    for machine in additional:
        shutil.rmtree(tmp_path / f"eval_data/raw/{machine}/test")
    expected = expected[(expected.part == "dev") | (expected.split != "test")]
    clips = list_all(tmp_path, "set", year=2025, check_counts=False, revealed_attributes=False)
    same_manifest(clips, expected.reset_index(drop=True), "attributes")
    train, test = (clips[clips.split == split] for split in ("train", "test"))
    assert len(additional) == 8
    assert set(train.machine) == {*additional, *test.machine}
    assert len(set(test.machine)) == 7
    assert set(test.part) == {"dev"}
    # Attributes that the challenge hid are unknown, those that it gave are there.
    known = train[train.attributes.notna()]
    assert {"fan", "CoffeeGrinder", "BandSealer"} <= set(known.machine)
    assert not {"bearing", "slider", "ToyTrain", "AutoTrash", "ToyPet"} & set(known.machine)


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
    with pytest.raises(UserError, match=r"(?s)eval bandsaw has no train clips.*eval Vacuum has no train clips"):
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


def listed_by(listing: DcaseListing, root: Path, truth: Path | None, file: Path) -> pd.DataFrame:
    """List a data set as the workflow does, with an artifact in between, and return the manifest as it is written."""
    for split in ("train", "test", "supplemental"):
        write_table("clips", listing.list_clips(root, "set", split, truth), file.with_suffix(f".{split}"))
    splits = [read_table("clips", file.with_suffix(f".{split}")) for split in ("train", "test", "supplemental")]
    clips = pd.concat([each for each in splits if len(each)])
    write_table("clips", listing.label_clips(clips, root, truth), file)
    return read_table("clips", file)


def test_the_format_uses_its_settings_and_gives_the_same_bytes_each_time(tmp_path):
    root, truth = tmp_path / "données 機械 1", tmp_path / "labels of 2024"
    expected = write_year(root, 2024, machines=["gearbox", "Scanner"])
    write_truth(truth, 2024, root)
    settings = {"format": "dcase", "year": 2024, "machines": ["gearbox", "Scanner"], "check_counts": False}
    listing = DcaseListing(**settings)
    same_manifest(listed_by(listing, root, truth, tmp_path / "a"), expected, "revealed")
    hiding = DcaseListing(**settings, revealed_attributes=False)
    same_manifest(listed_by(hiding, root, truth, tmp_path / "b"), expected, "attributes")
    listed_by(listing, root, truth, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "a").read_bytes()
    # The same as without artifacts in between.
    write_table("clips", list_all(root, "set", year=2024, truth=truth, check_counts=False), tmp_path / "direct")
    assert (tmp_path / "direct").read_bytes() == (tmp_path / "a").read_bytes()
    # Without a truth it is looked for below the root; here it is not there.
    assert listed_by(listing, root, None, tmp_path / "c").is_normal.isna().sum() == 8
    assert listing.truth_files(root, None) == []
    only_dev = DcaseListing(**settings | {"machines": ["gearbox"], "parts": ["dev"]})
    assert set(listed_by(only_dev, root, truth, tmp_path / "d").part) == {"dev"}
    with pytest.raises(UserError, match="DCASE 2024 published"):
        listed_by(DcaseListing(format="dcase", year=2024), root, truth, tmp_path / "e")


@pytest.mark.parametrize("layout", ["official", "merged", "asdkit"])
@pytest.mark.parametrize("year", [2020, 2021, 2025])
def test_splits_are_joined_machine_folder_by_machine_folder(tmp_path, year, layout):
    write_year(tmp_path, year, layout=layout, machines=["fan", "ToyCar", "ToyPet"])
    bad = next((tmp_path / "dev_data" if layout != "asdkit" else tmp_path / "raw").rglob("*.wav"))
    bad.unlink()
    bad.write_bytes(b"no audio")
    clips = listed_by(DcaseListing(format="dcase", year=year, check_counts=False), tmp_path, None, tmp_path / "clips")
    expected = []
    for machine in sorted(tmp_path.glob("*_data/raw/*" if layout == "official" else "*/*")):
        for split in ("train", "source_test", "target_test", "test", "supplemental"):
            expected += sorted((machine / split).glob("*.wav"))
    assert clips.path.tolist() == [str(path) for path in expected]
    assert clips.path[clips.num_frames.isna()].tolist() == [str(bad)]


@pytest.mark.parametrize("layout", ["official", "merged", "asdkit"])
def test_the_listing_of_one_split_does_not_look_at_another(tmp_path, layout):
    write_year(tmp_path / "tree", 2025, layout=layout, machines=["slider", "ToyPet"])
    write_truth(tmp_path / "truth", 2025, tmp_path / "tree")
    listing = DcaseListing(format="dcase", year=2025, check_counts=False)
    root, truth = tmp_path / "tree", tmp_path / "truth"
    # Older than any clock tick that a change may fall into.
    for path in root.rglob("*"):
        os.utime(path, ns=(10**18, 10**18))

    def known(split: str) -> tuple:
        times = {path: Path(path).stat().st_mtime_ns for path in listing.watched(root, split)}
        return times, listing.facts(root, split, truth), listing.list_clips(root, "set", split, truth).to_csv()

    def differing(before: dict[str, tuple]) -> list[str]:
        return [split for split, value in before.items() if known(split) != value]

    for split in ("train", "test", "supplemental"):
        before = {each: known(each) for each in ("train", "test", "supplemental")}
        folder = next(path for path in root.rglob(split) if path.is_dir() and "ToyPet" in path.parts)
        clip = next(folder.iterdir())
        clip.rename(clip.with_suffix(".flac"))
        assert differing(before) == [split]
    before = {each: known(each) for each in ("train", "test", "supplemental")}
    for file in truth.rglob("*"):
        if file.is_file() and "train" not in file.name:
            file.unlink()
    assert differing(before) == []
    file = next(truth.rglob("slider/attributes_00_train_correspondence.csv"))
    text = file.read_bytes()
    file.write_bytes(text.replace(b"vel_A1", b"vel_Z9").replace(b"vel_B2", b"vel_Z9").replace(b"vel_C", b"vel_Z9"))
    assert differing(before) == ["train"]
    # Of equal content.
    file.write_bytes(text.replace(b"\r", b""))
    assert differing(before) == []


def test_rows_of_attributes_csvs_concern_their_split(tmp_path, write_dcase):
    root = write_dcase(tmp_path)
    listing = DcaseListing(format="dcase")
    assert {listing.facts(root, split) for split in ("train", "test", "supplemental")} == {""}

    def facts(*rows: str) -> list[str]:
        (root / "fan/attributes_00.csv").write_text("\n".join(["file_name,d1p,d1v", *rows]))
        return [listing.facts(root, split) for split in ("train", "test", "supplemental")]

    train, test = "section_00_source_train_normal_0000,vel,8", "fan/test/section_00_0001.wav,vel,9"
    first = facts(train, test)
    assert len(set(first)) == 3
    assert first[2] == ""
    assert facts(test, train) == first
    assert facts(train, test.replace("9", "7"))[0] == first[0]
    assert facts(train, test.replace("9", "7"))[1] != first[1]
    assert facts(train.replace("8", "7"), test)[1] == first[1]
    assert facts(train.replace("8", "7"), test)[0] != first[0]
    # Neither name nor folder tells: all splits may be concerned.
    assert all(now != before for now, before in zip(facts(train, test, "noise_1.wav,vel,1"), first, strict=True))
    assert listing.facts(root, "train") == DcaseListing(format="dcase", machines=["fan"]).facts(root, "train")
    assert DcaseListing(format="dcase", machines=["pump"]).facts(root, "train") == ""


def test_a_label_of_the_ground_truth_changes_labels_only(tmp_path):
    root, truth = tmp_path / "tree", tmp_path / "truth"
    write_year(root, 2023, machines=["bandsaw", "fan"])
    write_truth(truth, 2023, root)
    listing = DcaseListing(format="dcase", year=2023, check_counts=False)

    def state() -> dict:
        splits = {split: listing.list_clips(root, "set", split, truth) for split in ("train", "test", "supplemental")}
        facts = [listing.facts(root, split, truth) for split in splits]
        watched = [listing.watched(root, split) for split in splits]
        return {"splits": {name: each.to_csv() for name, each in splits.items()}, "facts": facts, "watched": watched}

    before, labelled = state(), listed_by(listing, root, truth, tmp_path / "a")
    file = truth / "ground_truth_data/ground_truth_bandsaw_section_00_test.csv"
    assert str(file) in listing.truth_files(root, truth)
    lines = file.read_text().splitlines()
    lines[0] = lines[0][:-1] + str(1 - int(lines[0][-1]))
    file.write_text("\n".join(lines))
    assert state() == before
    relabelled = listed_by(listing, root, truth, tmp_path / "b")
    changed = relabelled[relabelled.is_normal.astype(object) != labelled.is_normal.astype(object)]
    assert [Path(path).name for path in changed.path] == [lines[0].split(",")[0]]
    others = [name for name in labelled if name != "is_normal"]
    pd.testing.assert_frame_equal(relabelled[others], labelled[others])


def test_the_files_of_the_ground_truth_are_those_of_the_year_for_test_clips(tmp_path):
    for year in (2024, 2025):
        write_year(tmp_path / f"tree{year}", year, machines=["slider", "ToyPet", "Scanner"])
        write_truth(tmp_path / f"truth/dcase{year}", year, tmp_path / f"tree{year}")
    found = DcaseListing(format="dcase", year=2025).truth_files(tmp_path, tmp_path / "truth")
    base = tmp_path / "truth/dcase2025"
    attributes = base / "ground_truth_attributes/dcase2025t2"
    assert found == [
        str(base / "eval_data_list_2025.csv"),
        str(attributes / "dev_data/slider/attributes_00_test_correspondence.csv"),
        str(attributes / "eval_data/ToyPet/attributes_00_test_correspondence.csv"),
    ]
    with pytest.raises(UserError, match="none: there is no such folder"):
        DcaseListing(format="dcase", year=2025).truth_files(tmp_path, tmp_path / "none")


def test_files_that_are_not_read_are_counted(tmp_path, write_dcase, caplog):
    root = write_dcase(tmp_path)
    for name in ("train/a.m4a", "test/b.aiff", "test/c.AIFF", "test/.d.aiff"):
        (root / "fan" / name).touch()
    dcase.list_clips(root, "set", "test")
    (message,) = caplog.messages
    assert f"test files that are not read: 2 .aiff, such as {root / 'fan/test/b.aiff'}; only .flac" in message
    for clip in (root / "fan/train").glob("*.wav"):
        clip.rename(clip.with_suffix(".m4a"))
    with pytest.raises(UserError, match=r"fan/train: holds no audio file.*not read: 6 .m4a, such as"):
        dcase.list_clips(root, "set", "train")


def test_file_names_that_are_not_utf_8_are_named(tmp_path, write_dcase):
    root = write_dcase(tmp_path)
    clip = next((root / "fan/train").iterdir())
    clip.rename(os.fsdecode(os.fsencode(clip.with_suffix("")) + b"_\xfc.wav"))
    with pytest.raises(UserError, match=r"the file name 'fan/train/.*_\\udcfc.wav' is not UTF-8; rename the file"):
        list_all(root, "d")
