"""Manifests of DCASE trees and of AudioSet-like pools."""

import pytest

from asdpipe.data import audioset, dcase
from asdpipe.errors import UserError


def test_a_plain_tree_is_read(tmp_path, write_dcase):
    clips = dcase.list_clips(write_dcase(tmp_path / "set"), "set")
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
    clips = dcase.list_clips(tmp_path / "set", "set")
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
    clips = dcase.list_clips(tmp_path, "set")
    assert clips.attributes.fillna("unknown").tolist() == ["vel_8_loc_E", "spd_3", "unknown"]


def test_machines_can_be_limited(tmp_path, write_dcase):
    write_dcase(tmp_path)
    assert set(dcase.list_clips(tmp_path, "set", ["pump"]).machine) == {"pump"}
    with pytest.raises(UserError, match="machine type valve is not there; there are: fan, pump"):
        dcase.list_clips(tmp_path, "set", ["valve"])


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
        dcase.list_clips(tmp_path, "set")
    assert name in str(error.value)


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="there is no such folder"):
        dcase.list_clips(tmp_path / "none", "set")
    with pytest.raises(UserError, match="has no <machine>/train folder"):
        dcase.list_clips(tmp_path, "set")
    (tmp_path / "fan/train").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no audio file"):
        dcase.list_clips(tmp_path, "set")


@pytest.fixture
def pool(tmp_path, write_clip):
    for name in ("YaaaaaaaaaaA", "Y-bbbbbbbbbB", "Yccccccccccc", "Ywithoutlabel"):
        write_clip(tmp_path / f"audios/balanced_train_segments/{name}.wav")
    metadata = tmp_path / "metadata"
    metadata.mkdir()
    (metadata / "balanced_train_segments.csv").write_text(
        "# Segments csv created today\n"
        "# num_ytids=4, num_segs=4, num_unique_labels=3, num_positive_labels=5\n"
        "# YTID, start_seconds, end_seconds, positive_labels\n"
        'aaaaaaaaaaA, 0.000, 10.000, "/m/068hy,/m/07q6cd_"\n'
        '-bbbbbbbbbB, 30.000, 40.000, "/m/03l9g"\n'
        'ccccccccccc, 30.000, 40.000, "/m/068hy"\n'
        'not_on_disk, 30.000, 40.000, "/m/068hy"\n'
    )
    (metadata / "class_labels_indices.csv").write_text(
        'index,mid,display_name\n0,/m/068hy,"Domestic animals, pets"\n1,/m/03l9g,"Hammer"\n'
    )
    return tmp_path


def test_a_pool_joins_audio_labels_and_names(pool):
    clips, remarks = audioset.list_clips(pool, "pool", shards=2)
    by_id = clips.set_index("clip_id")
    assert [clip_id.rpartition("/")[2] for clip_id in by_id.index] == [
        "Y-bbbbbbbbbB.wav",
        "YaaaaaaaaaaA.wav",
        "Yccccccccccc.wav",
    ]
    first = by_id.loc["audios/balanced_train_segments/YaaaaaaaaaaA.wav"]
    assert first.mids == ["/m/068hy", "/m/07q6cd_"]
    # A mid without a name keeps its mid.
    assert first.display_names == ["Domestic animals, pets", "/m/07q6cd_"]
    assert sorted(clips.shard) == [0, 0, 1]
    assert any("1 of 4 audio files have no segment" in remark for remark in remarks)
    assert any("1 of 4 segments have no audio file" in remark for remark in remarks)


def test_an_empty_pool_says_how_to_do_without(pool):
    for clip in (pool / "audios").rglob("*.wav"):
        clip.unlink()
    with pytest.raises(UserError, match=r"the external pool is empty.*set the data set's pool to null"):
        audioset.list_clips(pool, "pool", shards=1)


def test_pool_folders_and_csvs_that_are_missing_or_damaged_are_named(pool, tmp_path):
    with pytest.raises(UserError, match="there is no such folder"):
        audioset.list_clips(tmp_path / "none", "pool", shards=1)
    segments = pool / "metadata/balanced_train_segments.csv"
    text = segments.read_text()
    segments.write_text(text + "only_a_name\n")
    with pytest.raises(UserError, match="line 8: expected YTID, start, end"):
        audioset.list_clips(pool, "pool", shards=1)
    segments.unlink()
    with pytest.raises(UserError, match=r"holds no \*_segments.csv"):
        audioset.list_clips(pool, "pool", shards=1)
