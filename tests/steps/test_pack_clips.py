"""Packing: what is decoded, what is left out, and when it stops."""

import json

import numpy as np
import pandas as pd
import pytest
import soundfile

from asdpipe.artifacts.tables import write_table
from asdpipe.data.waveforms import Waveforms
from asdpipe.errors import UserError
from asdpipe.steps.pack_clips import pack_clips
from tests.conftest import read_facts


def settings(**changes) -> str:
    return json.dumps({"channel": "mix", "min_seconds": 0.1, "on_bad_clip": "fail"} | changes)


SKIP = settings(on_bad_clip="skip")


@pytest.fixture
def out(tmp_path) -> dict:
    return {name: tmp_path / f"out/{name}" for name in ("samples", "index", "skipped")}


def packed(out: dict) -> Waveforms:
    return Waveforms([(out["index"], out["samples"])])


def write_clips(path, rows: list[tuple], split: str = "train") -> None:
    frame = pd.DataFrame(rows, columns=["clip_id", "path", "machine"]).assign(split=split)
    frame = frame.assign(dataset="set", section="00", domain="source", part="dev", is_normal=True, attributes=None)
    for column in ("sample_rate", "num_frames"):
        frame[column] = pd.array([None] * len(frame), dtype="Int64")
    write_table("clips", frame, path)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_clips_of_a_split_are_packed_in_the_manifests_order(tmp_path, write_clip, out, split):
    rows = [(name, str(write_clip(tmp_path / f"{name}.wav", seed=ord(name))), "fan") for name in "bac"]
    write_clips(tmp_path / "clips", rows, split)
    pack_clips(settings(), split, tmp_path / "clips", **out)
    assert packed(out).clip_ids.tolist() == ["b", "a", "c"]
    for name, samples in zip("bac", packed(out), strict=True):
        assert np.array_equal(samples, soundfile.read(tmp_path / f"{name}.wav", dtype="int16")[0])
    assert pd.read_csv(out["skipped"]).empty
    assert read_facts(out["index"]) == {}


def test_a_data_set_without_training_clips_has_nothing_to_train_on(tmp_path, out):
    write_clips(tmp_path / "clips", [])
    with pytest.raises(UserError, match="clips: there are no training clips; add some"):
        pack_clips(settings(), "train", tmp_path / "clips", **out)


def test_a_data_set_without_test_clips_has_an_empty_pack(tmp_path, out):
    write_clips(tmp_path / "clips", [], "test")
    pack_clips(settings(), "test", tmp_path / "clips", **out)
    assert (len(packed(out)), out["samples"].stat().st_size) == (0, 0)


def test_a_machine_type_whose_training_clips_are_all_bad_is_named(tmp_path, write_clip, out):
    rows = [("a", str(write_clip(tmp_path / "good.wav")), "fan"), ("b", "none.wav", "pump")]
    write_clips(tmp_path / "clips", rows)
    with pytest.raises(UserError, match=r"^pump: every training clip is bad, see .*skipped"):
        pack_clips(SKIP, "train", tmp_path / "clips", **out)
    # Of a machine type without good test clips the training clips are scored.
    write_clips(tmp_path / "clips", rows, "test")
    pack_clips(SKIP, "test", tmp_path / "clips", **out)
    assert packed(out).clip_ids.tolist() == ["a"]
    assert pd.read_csv(out["skipped"]).path.tolist() == ["none.wav"]


@pytest.mark.parametrize(("channel", "expected"), [("mix", [3000, 1000]), (0, [1000, -2000]), (1, [5000, 4000])])
def test_one_channel_or_the_mean_is_packed(tmp_path, out, channel, expected):
    samples = np.tile(np.array([[1000, 5000], [-2000, 4000]], dtype=np.int16), (8000, 1))
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="PCM_16")
    write_clips(tmp_path / "clips.parquet", [("a", str(tmp_path / "a.wav"), "fan")])
    pack_clips(settings(channel=channel), "train", tmp_path / "clips.parquet", **out)
    assert packed(out)[0][:2].tolist() == expected
    assert len(packed(out)[0]) == 16_000


def test_a_channel_that_is_not_there_is_a_bad_clip(tmp_path, write_clip, out):
    stereo, mono = write_clip(tmp_path / "stereo.wav", channels=2), write_clip(tmp_path / "mono.wav")
    write_clips(tmp_path / "clips.parquet", [("s", str(stereo), "fan"), ("m", str(mono), "fan")])
    with pytest.raises(UserError, match=r"1 of 2 clips cannot be used:\n.*mono.wav: has 1 channel\(s\), but channel 1"):
        pack_clips(settings(channel=1), "train", tmp_path / "clips.parquet", **out)
    pack_clips(settings(channel=1, on_bad_clip="skip"), "train", tmp_path / "clips.parquet", **out)
    assert packed(out).clip_ids.tolist() == ["s"]
