"""Manifests of DCASE trees."""

import pytest

from asdpipe.errors import UserError
from tests.dcase_trees import list_all


def test_a_plain_tree_is_read(tmp_path, write_dcase):
    clips = list_all(write_dcase(tmp_path / "set"), "set")
    assert sorted(set(clips.machine)) == ["fan", "pump"]
    assert (clips.part == "dev").all()
    assert clips.groupby(["machine", "split"]).size().to_dict() == {
        ("fan", "train"): 5,
        ("fan", "test"): 8,
        ("pump", "train"): 5,
        ("pump", "test"): 8,
    }
    first = clips.set_index("clip_id").loc["fan/test/section_00_target_test_anomaly_0001_spd_1.wav"]
    assert (first.section, first.domain, first.is_normal, first.attributes) == ("00", "target", False, "spd_1")
    assert (first.sample_rate, first.num_frames) == (16_000, 16_000)


def test_the_official_tree_has_dev_and_eval_parts(tmp_path, write_dcase):
    write_dcase(tmp_path / "set/dev_data/raw", machines=("fan",))
    write_dcase(tmp_path / "set/eval_data/raw", machines=("pump",))
    clips = list_all(tmp_path / "set", "set")
    assert set(zip(clips.part, clips.machine, strict=True)) == {("dev", "fan"), ("eval", "pump")}
    assert clips.clip_id.is_unique


def test_attributes_come_from_the_name_or_else_from_the_csv(tmp_path, write_clip):
    write_clip(tmp_path / "fan/train/section_00_source_train_normal_0000.wav")
    write_clip(tmp_path / "fan/train/section_00_source_train_normal_0001_spd_3.wav")
    write_clip(tmp_path / "fan/train/section_00_source_train_normal_0002_noAttribute.wav")
    (tmp_path / "fan/attributes_00.csv").write_bytes(
        b"\xef\xbb\xbffile_name,d1p,d1v,d2p,d2v\r\n"
        b"fan/train/section_00_source_train_normal_0000.wav,vel,8,loc,E\r\n"
        b"fan/train/section_00_source_train_normal_0001_spd_3.wav,spd,3\r\n"
    )
    clips = list_all(tmp_path, "set")
    assert clips.attributes.fillna("unknown").tolist() == ["vel_8_loc_E", "spd_3", "unknown"]


@pytest.mark.parametrize(
    ("rows", "attributes"),
    [
        # Rows are ragged; evaluators' copies end with the full name, under two headings.
        (
            "file_name,d1p,d1v,d2p,d2v\nvalve/train/{0}.wav,v1pat,05\nvalve/train/{1}.wav,v1pat,05,v2pat,06\n",
            "v1pat_05",
        ),
        ("file_name,d1p,d1v,file_name_with_full_attributes\nx/{0}.wav,vel,8,x/{0}_vel_8.wav\n", "vel_8"),
        ("file_name,d1p,d1v,d2p,d2v,file_name_with_attributes\nx/{0}.wav,car,A,x/{0}_car_A.wav\n", "car_A"),
        ("file_name,d1p,d1v,d2p,d2v\nx/{0}.wav,vel,8,,\n", "vel_8"),
        # 2025: names without folder and suffix, and names only.
        ("file_name,d1p,d1v\n{0},car,A1\n{1},car,A2\n", "car_A1"),
        ("file_name\nfan/train/{0}.wav\n", None),
        ("file_name,d1p\n{0},noAttribute\n", None),
    ],
)
def test_all_forms_of_the_attributes_csv_are_read(tmp_path, write_clip, rows, attributes):
    stems = [f"section_00_source_train_normal_000{number}" for number in range(2)]
    for stem in stems:
        write_clip(tmp_path / f"valve/train/{stem}.wav")
    text = rows.format(*stems)
    for form in (text, text.replace("\n", "\r\n"), "\ufeff" + text):
        (tmp_path / "valve/attributes_00.csv").write_text(form, encoding="utf-8", newline="")
        found = list_all(tmp_path, "set").attributes
        assert found.where(found.notna(), None)[0] == attributes


def test_an_attributes_csv_that_cannot_be_read_is_named(tmp_path, write_dcase):
    write_dcase(tmp_path)
    (tmp_path / "fan/attributes_00.csv").write_bytes(b"file_name\n\xff\xfe\n")
    with pytest.raises(UserError, match=r"fan/attributes_00.csv: cannot be read as csv"):
        list_all(tmp_path, "set")


def test_the_csv_fills_names_whose_number_has_a_point(tmp_path, write_clip):
    # The suffix of such a name must not be cut off: it is no suffix.
    write_clip(tmp_path / "slider/supplemental/section_00_machine_0001_ac_0.11.wav")
    write_clip(tmp_path / "slider/train/section_00_source_train_normal_0001.wav")
    (tmp_path / "slider/attributes_00.csv").write_text(
        "file_name,d1p,d1v\nsection_00_source_train_normal_0001,ac,0.11\n"
    )
    clips = list_all(tmp_path, "set")
    assert clips.attributes.tolist() == ["ac_0.11", "machine"]
    assert clips.split.tolist() == ["train", "supplemental"]


def test_the_same_clip_twice_is_an_error(tmp_path, write_dcase, write_clip):
    write_dcase(tmp_path / "dev_data/raw")
    name = "section_00_source_train_normal_0000_spd_1"
    again = write_clip(tmp_path / f"dev_data/raw/fan/train/{name}.flac")
    with pytest.raises(UserError, match=rf"{name}.flac and .*{name}.wav: the same clip twice"):
        list_all(tmp_path, "set")
    again.unlink()
    write_dcase(tmp_path / "dev_data", machines=("fan",))
    with pytest.raises(UserError, match=r"dev_data/fan/.* and .*dev_data/raw/fan/.*: the same clip twice"):
        list_all(tmp_path, "set")


def test_a_machine_type_without_training_clips_stops_unless_a_part_will_do(tmp_path, write_dcase, caplog):
    write_dcase(tmp_path)
    for file in (tmp_path / "fan/train").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"fan/train: holds no audio file"):
        list_all(tmp_path, "set")
    clips = list_all(tmp_path, "set", check_counts=False)
    assert set(zip(clips.machine, clips.split, strict=True)) == {("fan", "test"), ("pump", "train"), ("pump", "test")}
    assert "fan/train: holds no audio file" in caplog.text


def test_test_clips_without_a_label_are_reported(tmp_path, write_dcase, write_clip, caplog):
    write_dcase(tmp_path)
    write_clip(tmp_path / "fan/test/section_00_0000.wav")
    clips = list_all(tmp_path, "set").set_index("clip_id")
    assert clips.is_normal.isna().sum() == 1
    assert clips.loc["fan/test/section_00_0000.wav"].isna().sum() == 3
    assert "test clips of fan have no label in their names" in caplog.text


def test_headers_stand_beside_their_clips(tmp_path, write_clip):
    # Read by several threads: the order must stay.
    for number in range(40):
        write_clip(tmp_path / f"fan/train/section_00_source_train_normal_{number:04d}.wav", seconds=0.01 * (number + 1))
    (tmp_path / "fan/train/section_00_source_train_normal_0007.wav").write_bytes(b"no audio")
    clips = list_all(tmp_path, "set")
    expected = [160 * (number + 1) for number in range(40)]
    assert clips.num_frames.drop(7).tolist() == expected[:7] + expected[8:]
    assert clips[["sample_rate", "num_frames"]].loc[7].isna().all()


def test_machines_can_be_limited(tmp_path, write_dcase):
    write_dcase(tmp_path)
    assert set(list_all(tmp_path, "set", ["pump"]).machine) == {"pump"}
    with pytest.raises(UserError, match="machine type valve is not there; there are: fan, pump"):
        list_all(tmp_path, "set", ["valve"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train/noise.wav", "does not follow DCASE's pattern"),
        ("train/section_00_source_test_normal_0009.wav", "the name says test, the folder says train"),
        ("train/section_00_source_train_anomaly_0009.wav", "an anomaly among the training clips"),
    ],
)
def test_names_that_do_not_fit_are_named(tmp_path, write_dcase, write_clip, name, words):
    write_dcase(tmp_path)
    write_clip(tmp_path / "fan" / name)
    with pytest.raises(UserError, match=words) as error:
        list_all(tmp_path, "set")
    assert name in str(error.value)


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="there is no such folder"):
        list_all(tmp_path / "none", "set")
    with pytest.raises(UserError, match="has no <machine>/train folder"):
        list_all(tmp_path, "set")
    (tmp_path / "fan/train").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no audio file"):
        list_all(tmp_path, "set")


def test_a_tree_of_test_clips_only_is_listed_with_a_warning(tmp_path, write_clip, caplog):
    write_clip(tmp_path / "fan/test/anomaly_id_06_00000002.wav")
    clips = list_all(tmp_path, "set")
    assert clips[["section", "split", "is_normal"]].to_numpy().tolist() == [["06", "test", False]]
    assert "needs normal training clips" in caplog.text
