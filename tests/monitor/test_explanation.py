"""Why a recording has its score: the parts that raise it, in words, pictures and numbers."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.functional import melscale_fbanks
from typer.testing import CliRunner, Result

import asdpipe
from asdpipe.artifacts.tables import read_table
from asdpipe.cli import app
from asdpipe.errors import UserError
from asdpipe.method.occlusion import Occlusion
from asdpipe.monitor.detector import Detector
from asdpipe.monitor.explanation import Region
from benchmarks.explained import EVENTS, measure, overlap, tone, with_event
from tests.monitor.conftest import clips_of_test, stage

RATE = 16_000


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["explain-clip", *map(str, arguments)])


@pytest.fixture(scope="module")
def detector(ran) -> Detector:
    return asdpipe.load(ran / stage("raw_logmel"), "cpu")


@pytest.fixture(scope="module")
def clip(ran) -> Path:
    return next(iter(clips_of_test(ran, "fan").values()))


def audio(ran: Path, clip_id: str) -> np.ndarray:
    """Return a training clip's samples from its file."""
    clips = read_table("clips", ran / "results/data/tiny/train/clips.parquet").set_index("clip_id")
    return soundfile.read(ran / clips.path[clip_id], dtype="int16")[0]


def test_the_largest_region_is_where_a_sound_was_added(ran, detector):
    normal = {
        machine: [file for name, file in clips_of_test(ran, machine).items() if "normal" in name]
        for machine in ("fan", "valve")
    }
    clips = [(machine, soundfile.read(file, dtype="int16")[0]) for machine in normal for file in normal[machine]]
    found = measure(detector, iter(clips * 6), 20)
    assert len(found) == 20
    assert set(found.kind) == EVENTS.keys()
    assert found.hit.mean() >= 0.9
    # Not because regions are large.
    assert found.chance.mean() < 0.4


def statistics(samples: np.ndarray) -> np.ndarray:
    """Return mean and deviation of the log-mel spectrogram, computed without the extractor."""
    padded = np.pad(samples / 32768, 512, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 1024)[::512] * np.hanning(1025)[:-1]
    power = np.abs(np.fft.rfft(frames)) ** 2
    mel = melscale_fbanks(513, 0, 8000, 64, RATE).numpy().astype(float)
    decibel = 10 * np.log10(power @ mel + 1e-10)
    return np.concatenate([decibel.mean(axis=0), decibel.std(axis=0)])


def test_the_map_of_log_mel_statistics_is_exact(ran, detector, clip):
    found = detector.explain_file(clip)
    assert found.map.shape == (16, 10)
    clips = read_table("clips", ran / "results/data/tiny/train/clips.parquet")
    size = round(detector.seconds * RATE)
    known = np.stack([statistics(np.resize(audio(ran, each), size)) for each in clips.clip_id[clips.machine == "fan"]])

    def score(samples: np.ndarray) -> float:
        distance = np.abs(statistics(np.resize(samples, size)) - known) / (known.std(axis=0) + 1e-9)
        return distance.sum(axis=1).min()

    samples = soundfile.read(clip, dtype="int16")[0][:size]
    assert found.score == pytest.approx(score(samples), rel=1e-4)
    occlusion = Occlusion(samples, np.resize(audio(ran, found.normal_clip), len(samples)))
    for band, span in ((0, 0), (5, 9), (15, 4), (9, 3)):
        changed = occlusion.without(slice(band, band + 1), slice(span, span + 1))
        assert found.map[band, span] == pytest.approx(score(samples) - score(changed), abs=2e-3)
        # A file of it has that score, too.
        assert detector.score(changed, RATE, "fan").score == pytest.approx(
            found.score - found.map[band, span], abs=1e-6
        )
    other = np.resize(audio(ran, found.normal_clip), len(samples))
    assert found.scale == pytest.approx(score(samples) - score(other), abs=2e-3)
    for region in found.regions:
        rows = slice(*np.searchsorted(found.grid.frequency, [region.low, region.high]))
        columns = slice(*np.searchsorted(found.grid.time, [region.start, region.end]))
        assert region.fall == pytest.approx(score(samples) - score(occlusion.without(rows, columns)), abs=2e-3)


@pytest.mark.parametrize("kind", ["ba", "autoencoder", "tiny_beats", "mix"])
def test_every_extractor_and_scorer_has_a_map(ran, detector, clip, kind):
    model = asdpipe.load(ran / stage(kind), "cpu")
    found, result = model.explain_file(clip), model.score_file(clip)
    assert found.score == result.score
    assert np.isfinite(found.map).all()
    assert found.map.std() > 0
    # Scores that compare with no clip: the nearest by log-mel statistics, as the baseline has it.
    assert found.normal_clip == (result.nearest_clip or detector.score_file(clip).nearest_clip)
    normal = np.resize(audio(ran, found.normal_clip), len(found.samples))
    # A fusion of few clips magnifies how batches round.
    tolerance = 1e-3 if kind == "mix" else 1e-5
    assert found.scale == pytest.approx(result.score - model.score(normal, RATE, "fan").score, abs=tolerance)
    assert [region.fall for region in found.regions] == sorted((region.fall for region in found.regions), reverse=True)


def test_regions_are_said_with_units():
    assert str(Region(1800, 2200, 3.1, 3.4, 1)) == "1.8\N{EN DASH}2.2 kHz, from 3.1 s to 3.4 s"
    assert str(Region(0, 259, 0, 0.125, 1)) == "0\N{EN DASH}259 Hz, from 0 s to 0.12 s"
    assert str(Region(423, 8000, 10, 18, 1)) == "0.42\N{EN DASH}8 kHz, from 10 s to 18 s"


def test_words_pictures_and_numbers_are_written_for_every_recording(ran, detector, clip, tmp_path):
    normal = soundfile.read(clip, dtype="int16")[0]
    event = tone(len(normal), np.random.default_rng(1))
    samples, place = with_event(normal, event, 12), event.place
    for day in ("1", "2"):
        (tmp_path / day / "fan").mkdir(parents=True)
        soundfile.write(tmp_path / day / "fan/a $x$.wav", samples, RATE)
    (tmp_path / "1/fan/bad.wav").write_bytes(b"no audio")
    done = run(ran / stage("raw_logmel"), tmp_path / "1", tmp_path / "2", "--output", tmp_path / "why")
    assert done.exit_code == 0, done.exception
    names = ["a $x$", "a $x$-2"]
    assert {file.name for file in (tmp_path / "why").iterdir()} == {
        f"{name}.{end}" for name in names for end in ("npz", "png")
    }
    # The same recording at another place has another title.
    first, second = ((tmp_path / f"why/{name}.png").read_bytes() for name in names)
    assert first[:4] == b"\x89PNG"
    assert first != second
    run(ran / stage("raw_logmel"), tmp_path / "1/fan/a $x$.wav", "--output", tmp_path / "again")
    assert (tmp_path / "again/a $x$.png").read_bytes() == first
    explanation = detector.explain(samples, RATE, "fan")
    with np.load(tmp_path / "why/a $x$.npz") as numbers:
        assert numbers["map"].shape == (len(numbers["frequency_edges"]) - 1, len(numbers["time_edges"]) - 1)
        np.testing.assert_array_equal(numbers["map"], explanation.map)
        assert numbers["score"] == explanation.score
        assert numbers["scale"] == explanation.scale
        assert str(numbers["normal_clip"]) == explanation.normal_clip
        assert overlap(Region(*numbers["regions"][0]), place)
    lines = done.stdout.splitlines()
    assert f"1. {explanation.words[0]}" in lines[2]
    assert "without it the score is" in lines[2]
    assert any("bad.wav: the file is not audio" in line for line in lines)


def test_what_cannot_be_explained_is_said(ran, detector, clip, tmp_path):
    error = run(ran / stage("raw_logmel"), clip, "--machine", "pump").exception
    assert isinstance(error, UserError)
    assert "no machine type 'pump'" in str(error)
    for waveform, words in ((np.zeros(RATE), "zero"), (np.ones((2, 2)), "shape")):
        with pytest.raises(UserError, match=words):
            detector.explain(waveform, RATE, "fan")
    noise = np.random.default_rng(0).normal(0, 0.1, 61 * RATE)
    with pytest.raises(UserError, match=r"waveform: lasts 61 s, but only recordings of up to 60 s .*: cut it"):
        asdpipe.load(ran / stage("autoencoder"), "cpu").explain(noise, RATE, "fan")


def test_without_the_audio_of_the_training_clips_recordings_are_scored_but_not_explained(ran, clip, tmp_path):
    for place in ("results/data/tiny", "results/tiny/raw_logmel"):
        shutil.copytree(ran / place, tmp_path / place)
    waveforms = tmp_path / "results/data/tiny/train/waveforms.int16"
    waveforms.unlink()
    detector = asdpipe.load(tmp_path / stage("raw_logmel"), "cpu")
    assert detector.score_file(clip).machine == "fan"
    with pytest.raises(UserError, match=r"audio of the training clips is needed .*waveforms\.int16: is missing, but"):
        detector.explain_file(clip)


def test_the_users_random_numbers_are_left_alone(detector, clip):
    before = torch.get_rng_state()
    detector.explain_file(clip)
    assert torch.equal(torch.get_rng_state(), before)
