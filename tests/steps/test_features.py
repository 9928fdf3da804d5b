"""Packing: what is decoded, what is left out, and when it stops."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from asdpipe.steps.features import features, features_pool, features_selected

from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.data.waveforms import Waveforms
from asdpipe.errors import UserError


@pytest.fixture
def out(tmp_path) -> dict:
    return {name: tmp_path / f"out/{name}" for name in ("samples", "index", "skipped")}


def packed(out: dict) -> Waveforms:
    return Waveforms([(out["index"], out["samples"])])


def write_clips(path, rows: list[tuple]) -> None:
    frame = pd.DataFrame(rows, columns=["clip_id", "path", "machine", "split"])
    frame = frame.assign(dataset="set", section="00", domain="source", part="dev", is_normal=True, attributes=None)
    for column in ("sample_rate", "num_frames"):
        frame[column] = pd.array([None] * len(frame), dtype="Int64")
    write_table("clips", frame, path)


def test_supplemental_clips_are_not_decoded(tmp_path, write_clip, out):
    clips = tmp_path / "clips.parquet"
    rows = [(split, str(write_clip(tmp_path / f"{split}.wav")), "fan", split) for split in ("train", "test")]
    write_clips(clips, [*rows, ("noise", str(tmp_path / "not there.wav"), "fan", "supplemental")])
    features("{}", clips, **out)
    assert packed(out).clip_ids.tolist() == ["train", "test"]
    assert pd.read_csv(out["skipped"]).empty


def test_a_machine_type_without_training_clips_stops_before_anything_is_decoded(tmp_path, out):
    clips = tmp_path / "clips.parquet"
    missing = str(tmp_path / "not there.wav")
    write_clips(
        clips,
        [("a", missing, "fan", "train"), ("b", missing, "pump", "test"), ("c", missing, "pump", "supplemental")],
    )
    with pytest.raises(UserError, match="pump: has no training clips"):
        features("{}", clips, **out)
    assert not out["samples"].parent.exists()


def test_a_machine_type_whose_training_clips_are_all_bad_is_named(tmp_path, write_clip, out):
    clips = tmp_path / "clips.parquet"
    good = str(write_clip(tmp_path / "good.wav"))
    write_clips(clips, [("a", good, "fan", "train"), ("b", "none.wav", "pump", "train"), ("c", good, "pump", "test")])
    with pytest.raises(UserError, match="pump: every training clip is bad"):
        features('{"on_bad_clip": "skip"}', clips, **out)


@pytest.mark.parametrize(("channel", "expected"), [("mix", [3000, 1000]), (0, [1000, -2000]), (1, [5000, 4000])])
def test_one_channel_or_the_mean_is_packed(tmp_path, out, channel, expected):
    samples = np.tile(np.array([[1000, 5000], [-2000, 4000]], dtype=np.int16), (8000, 1))
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="PCM_16")
    write_clips(tmp_path / "clips.parquet", [("a", str(tmp_path / "a.wav"), "fan", "train")])
    features(json.dumps({"channel": channel}), tmp_path / "clips.parquet", **out)
    assert packed(out)[0][:2].tolist() == expected
    assert len(packed(out)[0]) == 16_000


def test_a_channel_that_is_not_there_is_a_bad_clip(tmp_path, write_clip, out):
    stereo, mono = write_clip(tmp_path / "stereo.wav", channels=2), write_clip(tmp_path / "mono.wav")
    write_clips(tmp_path / "clips.parquet", [("s", str(stereo), "fan", "train"), ("m", str(mono), "fan", "train")])
    with pytest.raises(UserError, match=r"1 of 2 clips cannot be used:\n.*mono.wav: has 1 channel\(s\), but channel 1"):
        features('{"channel": 1}', tmp_path / "clips.parquet", **out)
    features('{"channel": 1, "on_bad_clip": "skip"}', tmp_path / "clips.parquet", **out)
    assert packed(out).clip_ids.tolist() == ["s"]


@pytest.fixture
def pool(tmp_path, write_clip):
    """A pool of two shards: rows of a parquet file, of them one that is no audio, and a file."""
    contents = [write_clip(tmp_path / "x.wav", seed=seed, rate=44_100).read_bytes() for seed in range(3)]
    file = tmp_path / "clips of bal_train.parquet"
    pq.write_table(pa.table({"video_id": list("abcd"), "audio": [*contents[:2], b"no", contents[2]]}), file)
    write_clip(tmp_path / "e.wav", seconds=0.5, channels=2, seed=9)
    frame = pd.DataFrame(
        {
            "clip_id": ["a", "b", "c", "d", "e"],
            "path": [str(file)] * 4 + [str(tmp_path / "e.wav")],
            "dataset": "pool",
            "shard": [0, 0, 0, 1, 1],
            "mids": [["/m/1"]] * 5,
            "display_names": [["One"]] * 5,
            "row": pd.array([0, 1, 2, 3, None], dtype="Int32"),
        }
    )
    write_table("pool_clips", frame, tmp_path / "pool.parquet", groups="shard")
    return tmp_path / "pool.parquet"


def test_shards_of_a_pool_are_packed_apart(pool, out):
    features_pool('{"on_bad_clip": "skip"}', 0, pool, **out)
    assert packed(out).clip_ids.tolist() == ["a", "b"]
    skipped = pd.read_csv(out["skipped"])
    assert skipped.path.str.endswith("bal_train.parquet row 2").tolist() == [True]
    assert skipped.reason.str.contains("not audio").all()
    features_pool('{"on_bad_clip": "skip"}', 1, pool, **out)
    assert packed(out).clip_ids.tolist() == ["d", "e"]
    assert packed(out).lengths.tolist() == [16_000, 8000]


def selection(tmp_path, clip_ids: list[str]):
    columns = {"path": "x", "mid": "/m/1", "display_name": "One", "machine": "fan", "score": -0.9, "shard": 0}
    frame = pd.DataFrame({"clip_id": pd.Series(clip_ids, dtype="str")}).assign(**columns)
    write_table("selected", frame.assign(rank=range(1, len(frame) + 1)), tmp_path / "selected.parquet")
    return tmp_path / "selected.parquet"


def test_selected_clips_are_packed_as_their_shards_would_be(pool, out, tmp_path):
    everything = {}
    for shard in (0, 1):
        features_pool('{"on_bad_clip": "skip"}', shard, pool, **out)
        everything |= dict(zip(packed(out).clip_ids, [each.copy() for each in packed(out)], strict=True))
    # Selected by score, so in another order than the manifest's; c is bad.
    features_selected('{"on_bad_clip": "skip"}', selection(tmp_path, ["e", "c", "b"]), pool, **out)
    assert packed(out).clip_ids.tolist() == ["b", "e"]
    for clip_id, samples in zip(packed(out).clip_ids, packed(out), strict=True):
        assert np.array_equal(samples, everything[clip_id])
    assert len(pd.read_csv(out["skipped"])) == 1
    features_selected("{}", selection(tmp_path, []), pool, **out)
    assert len(read_table("waveforms", out["index"])) == 0
    with pytest.raises(UserError, match="1 of 1 clips cannot be used"):
        features_selected("{}", selection(tmp_path, ["c"]), pool, **out)
