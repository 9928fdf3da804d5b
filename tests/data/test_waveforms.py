"""Reading and packing: what real files do wrong, and that nothing changes what is right."""

import io
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr

from asdpipe.artifacts.tables import write_table
from asdpipe.data import reading
from asdpipe.data.audio import to_float, to_int16
from asdpipe.data.decoding import Decoded, decoded
from asdpipe.data.reading import BadClip, promised_wav_frames, read_clip
from asdpipe.data.sources import sources
from asdpipe.data.waveforms import Waveforms, pack
from asdpipe.errors import UserError

RATE = 16_000
T = np.arange(RATE) / RATE


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_16_bit_recordings_survive_packing_bit_for_bit(tmp_path, suffix):
    samples = np.random.default_rng(0).integers(-32768, 32768, RATE, dtype=np.int16)
    path = tmp_path / f"clip.{suffix}"
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    assert np.array_equal(read_clip(path), samples)
    assert np.array_equal(to_float(read_clip(path)), samples / 32768)


def test_stereo_is_mixed_or_one_channel_is_taken(tmp_path):
    left, right = 0.5 * np.sin(2 * np.pi * 440 * T), 0.25 * np.cos(2 * np.pi * 990 * T)
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    for source in (path, path.read_bytes()):
        for samples, expected in (
            (read_clip(source), (left + right) / 2),
            (read_clip(source, channel=0), left),
            (read_clip(source, channel=1), right),
        ):
            assert np.allclose(samples / 32768, expected, atol=0.51 / 32768)
        with pytest.raises(BadClip, match=r"has 2 channel\(s\), but channel 2"):
            read_clip(source, channel=2)


@pytest.mark.parametrize(("suffix", "subtype"), [("wav", "PCM_16"), ("flac", "PCM_16"), ("wav", "PCM_24")])
@pytest.mark.parametrize("channels", [1, 3])
def test_samples_are_the_floats_of_libsndfile(tmp_path, suffix, subtype, channels):
    file = tmp_path / f"a.{suffix}"
    whole_range = np.random.default_rng(0).uniform(-1, 1, (4000, channels))
    whole_range[:2] = [[-1], [1]]
    soundfile.write(file, whole_range, 16_000, subtype)
    floats = soundfile.read(file, dtype="float32", always_2d=True)[0]
    assert np.array_equal(read_clip(file), to_int16(floats.mean(axis=1)))
    assert np.array_equal(read_clip(file, channels - 1), to_int16(floats[:, channels - 1]))


def test_44100_hz_becomes_16000_hz_with_the_same_tone(tmp_path):
    time = np.arange(2 * 44_100) / 44_100
    path = tmp_path / "clip.wav"
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 1000 * time), 44_100, subtype="FLOAT")
    samples = to_float(read_clip(path))
    assert abs(len(samples) - 2 * RATE) <= 1
    middle = np.arange(len(samples))[2000:-2000]
    assert np.allclose(samples[2000:-2000], 0.5 * np.sin(2 * np.pi * 1000 * middle / RATE), atol=1e-3)


def test_two_minutes_are_read_whole(tmp_path, write_clip):
    assert len(read_clip(write_clip(tmp_path / "long.wav", seconds=120))) == 120 * RATE


def broken(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / f"{kind}.wav"
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("not audio at all\n" * 100)
    elif kind == "truncated":
        soundfile.write(path, noise, RATE, subtype="PCM_16")
        path.write_bytes(path.read_bytes()[:9000])
    elif kind == "truncated_flac":
        path = tmp_path / "truncated.flac"
        soundfile.write(path, noise, RATE, subtype="PCM_16")
        path.write_bytes(path.read_bytes()[:9000])
    elif kind == "header_only":
        soundfile.write(path, noise[:0], RATE, subtype="PCM_16")
    elif kind == "nan":
        noise[77] = np.nan
        soundfile.write(path, noise, RATE, subtype="FLOAT")
    elif kind == "silent":
        soundfile.write(path, 0 * noise, RATE, subtype="PCM_16")
    elif kind == "one_sample":
        soundfile.write(path, noise[:1], RATE, subtype="PCM_16")
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "the file is empty"),
        ("text", "not audio"),
        ("truncated", "truncated: its header promises 16000 frames"),
        ("truncated_flac", "truncated|damaged"),
        ("header_only", "too few"),
        ("nan", "not finite"),
        ("silent", "every sample is zero"),
        ("one_sample", "1 samples are too few"),
        ("missing", "cannot be opened"),
    ],
)
def test_bad_clips_say_why(tmp_path, kind, reason):
    path = broken(tmp_path, kind)
    with pytest.raises(BadClip, match=reason) as first:
        read_clip(path, min_seconds=0.1)
    if kind != "missing":
        with pytest.raises(BadClip) as second:
            read_clip(path.read_bytes(), min_seconds=0.1)
        assert str(second.value) == str(first.value)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_the_contents_of_a_file_are_read_like_the_file(tmp_path, suffix):
    path = tmp_path / f"clip.{suffix}"
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100), 44_100)
    assert np.array_equal(read_clip(path.read_bytes()), read_clip(path))


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_long_clips_are_read_in_blocks_as_they_are_at_once(tmp_path, monkeypatch, suffix, rate):
    path = tmp_path / f"clip.{suffix}"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((rate, 2)), rate)
    samples, _ = soundfile.read(path, dtype="float32")
    mono = samples.mean(axis=1)
    expected = mono if rate == RATE else soxr.resample(mono, rate, RATE)
    monkeypatch.setattr(reading, "BLOCK", 5000)
    assert np.array_equal(read_clip(path), to_int16(expected))


def flac_that_promises(rate: int, channels: int, frames: int) -> bytes:
    """Return a flac of a tenth of a second whose header says otherwise."""
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.1 * np.random.default_rng(0).standard_normal(1600), RATE, format="FLAC")
    data = buffer.getvalue()
    # Stream info: 20 bits sample rate, 3 bits channels - 1, 5 bits bits - 1, 36 bits frames.
    said = rate << 44 | (channels - 1) << 41 | 15 << 36 | frames
    return data[:18] + said.to_bytes(8, "big") + data[26:]


@pytest.mark.parametrize(
    ("rate", "channels", "frames", "reason"),
    [
        (RATE, 1, 1600, None),
        (655_350, 8, 2**31, "2147483648 frames of 8 channels, more than 536870912 samples in all: cut it"),
        (655_350, 1, 2**28, r"truncated: its header promises 268435456 frames, it holds 1600|decoding failed"),
        (1, 1, 2**20, "lasts 1048576 s, longer than an hour"),
    ],
)
def test_what_a_header_promises_takes_no_memory(rate, channels, frames, reason):
    data = flac_that_promises(rate, channels, frames)
    tracemalloc.start()
    try:
        if reason is None:
            assert len(read_clip(data)) == frames
        else:
            with pytest.raises(BadClip, match=reason):
                read_clip(data)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_what_rounds_to_silence_is_silent(tmp_path):
    path = tmp_path / "quiet.wav"
    for loudest, usable in ((0.4, False), (0.6, True)):
        soundfile.write(path, loudest / 32768 * np.sin(2 * np.pi * 440 * T), RATE, subtype="FLOAT")
        if usable:
            assert read_clip(path).any()
        else:
            with pytest.raises(BadClip, match="below half a step of 16 bits"):
                read_clip(path)


@pytest.mark.filterwarnings("error")
def test_numbers_that_overflow_are_not_finite(tmp_path):
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.full((RATE, 2), 3e38, dtype=np.float32), RATE, subtype="FLOAT")
    with pytest.raises(BadClip, match="not finite"):
        read_clip(path)


def test_names_need_not_be_utf_8(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/L\xfcfter.wav"))
    soundfile.write(os.fsencode(path), 0.1 * np.ones(RATE), RATE, format="WAV")
    assert len(read_clip(path)) == RATE


def test_promised_frames_of_a_format_that_is_cut_short_are_unknown():
    assert promised_wav_frames(b"RIFF\xff\0\0\0WAVEfmt \3\0\0\0\1\0\1\0data\x10\0\0\0") == 0


def test_promised_frames_skips_other_chunks(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.zeros((100, 2)), RATE, subtype="PCM_16")
    head, data = path.read_bytes().split(b"data")
    path.write_bytes(head + b"LIST" + (3).to_bytes(4, "little") + b"abc\0" + b"data" + data)
    assert promised_wav_frames(path) == promised_wav_frames(path.read_bytes()) == 100
    assert promised_wav_frames(broken(tmp_path, "text")) == 0


def test_packs_are_read_at_random(tmp_path):
    rng = np.random.default_rng(1)
    clips = {name: rng.integers(-99, 99, length, dtype=np.int16) for name, length in (("a", 5), ("b", 9), ("c", 2))}
    decoded = [Decoded(name, f"{name}.wav", clips.get(name, BadClip("because"))) for name in ("a", "x", "b", "c")]
    buffer = io.BytesIO()
    counted = []
    packed, bad = pack(decoded, buffer, counted.append)
    assert bad.to_dict("records") == [{"path": "x.wav", "reason": "because"}]
    assert sum(counted) == 4
    (tmp_path / "samples").write_bytes(buffer.getvalue())
    write_table("waveforms", packed, tmp_path / "index.parquet")
    both = [(tmp_path / "index.parquet", tmp_path / "samples")] * 2
    waveforms = Waveforms(both)
    assert waveforms.clip_ids.tolist() == ["a", "b", "c"] * 2
    for row in rng.permutation(6):
        assert np.array_equal(waveforms[row], clips[waveforms.clip_ids[row]])
    assert [samples.tolist() for samples in waveforms] == [waveforms[row].tolist() for row in range(6)]
    # Equal names in the data set and in the pool are different clips.
    assert waveforms.rows(["b", "b"], [True, False]).tolist() == [1, 4]
    assert waveforms.in_pool.tolist() == [False] * 3 + [True] * 3
    # A stage takes few clips of a pool of millions: it knows of these only, and of the whole data set.
    few = Waveforms([*both, both[0]], ["c", "not packed"])
    assert few.clip_ids.tolist() == ["a", "b", "c", "c", "c"]
    assert few.rows(["b", "c"], [True, False]).tolist() == [1, 4]
    assert np.array_equal(few[4], clips["c"])
    with pytest.raises(KeyError):
        few.rows(["b"], [False])
    assert len(Waveforms(both, [])) == 3


def test_an_index_that_does_not_fit_its_samples_is_refused(tmp_path):
    packed, _ = pack([Decoded("a", "a.wav", np.ones(4, dtype=np.int16))], io.BytesIO(), lambda _: None)
    write_table("waveforms", packed, tmp_path / "index.parquet")
    (tmp_path / "samples").write_bytes(b"\0" * 7)
    with pytest.raises(UserError, match="has 7 bytes"):
        Waveforms([(tmp_path / "index.parquet", tmp_path / "samples")])
    (tmp_path / "samples").write_bytes(b"\0" * 8)
    for change in ({"offset": 1}, {"offset": -1}, {"num_samples": 0}):
        write_table("waveforms", packed.assign(**change), tmp_path / "index.parquet")
        with pytest.raises(UserError, match=r"has 8 bytes|clips do not follow one another"):
            Waveforms([(tmp_path / "index.parquet", tmp_path / "samples")])


def test_an_empty_shard_is_packed_and_read(tmp_path):
    # By their ids, the clips of a small pool may leave a shard empty.
    table = pd.DataFrame({"clip_id": [], "path": [], "row": pd.array([], dtype="Int32")})
    with (tmp_path / "samples").open("wb") as file:
        packed, bad = pack(decoded(sources(table), read_clip), file, lambda _: None)
    assert bad.empty
    write_table("waveforms", packed, tmp_path / "index")
    assert len(Waveforms([(tmp_path / "index", tmp_path / "samples")])) == 0
