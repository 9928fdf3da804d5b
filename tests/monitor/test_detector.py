"""A detector gives new recordings the scores that the workflow gives them."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr

import asdpipe
from asdpipe.artifacts.tables import read_table
from asdpipe.errors import UserError
from asdpipe.monitor.detector import Detector
from asdpipe.monitor.rows import Result
from tests.monitor.conftest import KINDS, clips_of_test, stage


@pytest.fixture(scope="module")
def detector(ran) -> Detector:
    return asdpipe.load(ran / stage("ba"), "cpu")


@pytest.fixture(scope="module")
def clip(ran) -> Path:
    return next(iter(clips_of_test(ran, "fan").values()))


@pytest.fixture
def copy(ran, tmp_path) -> Path:
    """A copy of the results of ba, to be damaged."""
    for place in ("results/data/tiny", "results/tiny/ba"):
        shutil.copytree(ran / place, tmp_path / place)
    return tmp_path


def expected(ran: Path, kind: str) -> pd.DataFrame:
    return read_table("scores", ran / stage(kind) / "scores.parquet").set_index("clip_id")


@pytest.mark.parametrize("kind", KINDS)
def test_scores_and_nearest_clips_are_those_of_the_workflow(ran, kind):
    detector = asdpipe.load(ran / stage(kind), "cpu")
    clips, fans, known = clips_of_test(ran), clips_of_test(ran, "fan"), expected(ran, kind)
    limits = read_table("thresholds", ran / stage(kind) / "thresholds.parquet").set_index("machine").decision_threshold
    rows = dict(zip(clips, detector.score_files(clips.values()), strict=True))
    assert len(rows) == 16
    assert detector.machines == ["fan", "valve"]
    for name, row in rows.items():
        assert row.reason == ""
        assert row.file == clips[name]
        result = row.result
        # Distances of the autoencoder and of log-mel statistics are far from 1.
        assert result.score == pytest.approx(known.score[name], rel=1e-6, abs=1e-6)
        nearest = known.nearest_clip_id[name]
        assert result.nearest_clip == (None if pd.isna(nearest) else nearest)
        assert result.machine == row.machine == ("fan" if name in fans else "valve")
        assert result.limit == limits[result.machine]
        assert result.anomalous is bool(known.score[name] > result.limit)
    # Not all the same.
    assert known.score.std() > 1e-4
    # In a batch of one, embeddings are rounded differently, which the scale of a fusion of few clips magnifies.
    for name in list(clips)[:2]:
        alone = detector.score_file(clips[name])
        assert alone.score == pytest.approx(known.score[name], rel=1e-6, abs=1e-3 if kind == "mix" else 1e-6)


@pytest.mark.parametrize("kind", ["ba", "autoencoder", "tiny_beats"])
def test_embeddings_are_those_of_the_workflow(ran, clip, kind):
    detector = asdpipe.load(ran / stage(kind), "cpu")
    samples, rate = soundfile.read(clip, dtype="int16")
    table = read_table("embeddings", ran / stage(kind) / "embeddings/test.parquet").set_index("clip_id")
    (name,) = (name for name, file in clips_of_test(ran).items() if file == clip)
    known = np.stack(table.embedding[name])
    machine = "fan" if kind == "autoencoder" else None
    np.testing.assert_allclose(detector.embed(samples, rate, machine), known, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(detector.embed(samples / 32768, rate, machine), known, rtol=1e-5, atol=1e-6)
    if machine is not None:
        with pytest.raises(UserError, match="say which machine type it is: fan, valve"):
            detector.embed(samples, rate)


def test_the_folder_of_a_method_with_another_ones_model_has_its_scores(ran, clip, detector):
    assert not (ran / stage("ba_ps") / "scores.parquet").exists()
    assert asdpipe.load(str(ran / stage("ba_ps"))).score_file(clip) == detector.score_file(clip)


def test_a_moved_or_linked_folder_of_results_is_found(copy, clip, detector, tmp_path, monkeypatch):
    link = tmp_path / "link"
    link.symlink_to(copy / stage("ba"))
    monkeypatch.chdir(copy)
    for folder in (copy / stage("ba"), link, stage("ba")):
        assert asdpipe.load(folder).score_file(clip) == detector.score_file(clip)


def test_a_waveform_has_the_score_of_its_file_at_any_rate(detector, clip, tmp_path):
    samples, rate = soundfile.read(clip, dtype="int16")
    by_file = detector.score_file(clip)
    assert detector.score(samples, rate, machine="fan") == by_file
    assert detector.score(samples / 32768, rate, machine="fan") == by_file
    other = soxr.resample(samples / 32768, rate, 44_100)
    soundfile.write(tmp_path / "44.wav", other, 44_100, subtype="DOUBLE")
    assert detector.score(other, 44_100, "fan") == detector.score_file(tmp_path / "44.wav", "fan")


def test_windows_cover_the_recording_and_the_highest_score_counts(detector, ran, tmp_path):
    files = list(clips_of_test(ran, "fan").values())[:3]
    size = round(detector.seconds * 16_000)
    parts = [np.resize(soundfile.read(file, dtype="int16")[0], size) for file in files]
    # Three clips, and a rest that only a window at the end covers.
    joined = np.concatenate([*parts, parts[0][:1600]])
    soundfile.write(tmp_path / "long.wav", joined, 16_000)
    starts = [0, detector.seconds, 2 * detector.seconds, 2 * detector.seconds + 0.1]
    scores = [detector.score(joined[round(at * 16_000) :][:size], 16_000, "fan").score for at in starts]
    found = detector.score_file(tmp_path / "long.wav", "fan", hop=detector.seconds)
    assert found.score == pytest.approx(max(scores), abs=1e-6)
    assert found.start == pytest.approx(starts[int(np.argmax(scores))])
    assert detector.score_file(tmp_path / "long.wav", "fan").score == pytest.approx(scores[0], abs=1e-6)
    assert detector.score_file(files[0], hop=0.5).start == 0
    for hop in (0, -1, np.nan, np.inf):
        with pytest.raises(UserError, match="hop"):
            detector.score_file(files[0], hop=hop)


def test_files_keep_their_order_across_batches_and_bad_ones_have_a_reason(detector, ran, tmp_path):
    good = list(clips_of_test(ran).values())
    (tmp_path / "fan").mkdir()
    bad = tmp_path / "fan/empty.wav"
    bad.touch()
    files = [bad, *good, bad, tmp_path / "fan/missing.wav", *good, *good, good[0].parent]
    rows = list(detector.score_files(files))
    assert [row.file for row in rows] == files
    reasons = [(row.file, row.reason) for row in rows if row.result is None]
    assert [file for file, _ in reasons] == [bad, bad, tmp_path / "fan/missing.wav", good[0].parent]
    assert [reason for _, reason in reasons[:2]] == ["the file is empty"] * 2
    assert "No such file" in reasons[2][1]
    scores = [row.result.score for row in rows if row.result]
    assert scores[:16] == pytest.approx(scores[16:32], abs=1e-6)
    assert list(detector.score_files([])) == []


def test_the_machine_type_is_given_or_that_of_the_nearest_folder(detector, ran, clip, tmp_path, monkeypatch):
    place = tmp_path / "valve/fan/new/x.wav"
    place.parent.mkdir(parents=True)
    shutil.copy(clip, place)
    assert detector.score_file(place).machine == "fan"
    assert detector.score_file(place, "valve").machine == "valve"
    monkeypatch.chdir(place.parent)
    assert detector.score_file("x.wav").machine == "fan"
    shutil.copy(clip, tmp_path / "x.wav")
    with pytest.raises(UserError, match=r"x\.wav: no folder above it .* say which machine type it is: fan, valve"):
        detector.score_file(tmp_path / "x.wav")
    for score in (detector.score_files, detector.score_file):
        with pytest.raises(UserError, match="no machine type 'pump' in this model, only fan, valve"):
            score([place] if score == detector.score_files else place, "pump")


@pytest.mark.parametrize(
    ("waveform", "rate", "words"),
    [
        (np.ones((4, 2), dtype=np.int16), 16_000, r"shape \(4, 2\)"),
        (np.ones(4, dtype=np.int32), 16_000, "int32"),
        ([True], 16_000, "bool"),
        ([], 16_000, "too few"),
        (np.zeros(16_000), 16_000, "zero"),
        (np.full(16_000, np.nan), 16_000, "not finite"),
        (np.full(16_000, 1e300), 16_000, r"must be in \[-1, 1\]"),
        (np.linspace(-3000, 3000, 16_000), 16_000, r"must be in \[-1, 1\]"),
        (np.ones(16_000), 0, "whole number of Hz"),
        (np.ones(16_000), 16_000.5, "whole number of Hz"),
        (np.ones(10), 16_000, "too few"),
    ],
)
def test_waveforms_that_cannot_be_used_are_refused(detector, waveform, rate, words):
    with pytest.raises(UserError, match=words):
        detector.score(waveform, rate, "fan")


def test_a_fusion_has_no_embedding(ran):
    with pytest.raises(UserError, match="a fusion of several methods has no embedding"):
        asdpipe.load(ran / stage("mix")).embed(np.ones(16_000), 16_000)


def test_the_users_random_numbers_are_left_alone_and_results_are_plain(ran, clip, detector):
    import torch

    before = torch.get_rng_state()
    asdpipe.load(ran / stage("raw_logmel"))
    assert torch.equal(torch.get_rng_state(), before)
    result = detector.score_file(clip)
    assert isinstance(result, Result)
    assert type(result.score) is type(result.limit) is float


def test_folders_that_are_no_stage_are_refused_with_those_that_are(ran, tmp_path):
    folder = ran / "results/tiny"
    with pytest.raises(UserError, match=rf"{folder}: is not the folder of a stage; give one of .*{ran / stage('ba')}"):
        asdpipe.load(folder)
    with pytest.raises(UserError, match="is a file"):
        asdpipe.load(ran / stage("ba") / "scores.parquet")
    with pytest.raises(UserError, match="does not exist"):
        asdpipe.load(tmp_path / "no")
    with pytest.raises(UserError, match=r"is not the folder of a stage: it has no scores\.parquet"):
        asdpipe.load(tmp_path)
    (tmp_path / "logs").mkdir()
    with pytest.raises(UserError, match="let the workflow finish"):
        asdpipe.load(tmp_path)


def test_what_does_not_fit_together_is_refused(copy):
    folder = copy / stage("ba")

    def refuses(words: str) -> None:
        with pytest.raises(UserError, match=words):
            asdpipe.load(folder)

    model = folder / "model.safetensors"
    model.rename(folder / "aside")
    refuses("model.safetensors: is missing")
    # A training that has run again, without its scores.
    other = (folder / "aside").read_bytes()
    model.write_bytes(other[:-4] + bytes(4))
    refuses("model.safetensors: has changed since .* run the workflow again")
    (folder / "aside").replace(model)
    asdpipe.load(folder)

    (copy / "results").rename(copy / "elsewhere")
    with pytest.raises(UserError, match="move or copy the whole folder results/, and keep its name"):
        asdpipe.load(copy / "elsewhere" / stage("ba").relative_to("results"))
    (copy / "elsewhere").rename(copy / "results")

    (folder / "provenance/scores.parquet.json").unlink()
    refuses("has no record of how it was made")
