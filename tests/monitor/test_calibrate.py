"""``asdpipe calibrate``: limits that keep a rate, conditions, references, drift, and models that have changed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from typer.testing import CliRunner

import asdpipe
from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.cli import app
from asdpipe.errors import UserError
from asdpipe.monitor.calibrate import calibrate
from asdpipe.monitor.calibration import Calibrated, digest, read
from asdpipe.monitor.command import score
from asdpipe.monitor.export import export
from asdpipe.monitor.manifest import MANIFEST, write_manifest
from asdpipe.monitor.origin import run_scores
from tests.monitor.conftest import clips_of_test, stage

NORMALS = 12


@pytest.fixture
def place(ran, tmp_path) -> Path:
    """A copy of the results, to write to."""
    shutil.copytree(
        ran / "results", tmp_path / "results", ignore=shutil.ignore_patterns("external", "logs", "benchmarks")
    )
    return tmp_path


def write_normals(ran: Path, folder: Path, machine: str = "fan", count: int = NORMALS, noise: float = 0.01) -> Path:
    """Write recordings that are similar to the test clips of a machine type."""
    (folder / machine).mkdir(parents=True)
    rng, files = np.random.default_rng(0), list(clips_of_test(ran, machine).values())
    for number in range(count):
        samples, rate = soundfile.read(files[number % len(files)])
        samples = samples * rng.uniform(0.8, 1) + noise * samples.std() * rng.normal(size=len(samples))
        soundfile.write(folder / machine / f"{number:02d}.wav", samples, rate)
    return folder


@pytest.fixture(scope="module")
def normals(ran, tmp_path_factory) -> Path:
    return write_normals(ran, tmp_path_factory.mktemp("normals"))


@pytest.fixture(scope="module")
def others(ran, tmp_path_factory) -> Path:
    return write_normals(ran, tmp_path_factory.mktemp("others"), count=4, noise=0.5)


@pytest.mark.parametrize("kind", ["ba", "mix"])
def test_limits_p_values_and_alarms_follow_from_the_scores_of_the_normals(ran, place, normals, others, kind, caplog):
    model = place / stage(kind)
    before = asdpipe.load(model)
    known = sorted(row.result.score for row in before.score_files(sorted(normals.rglob("*.wav"))))
    folder, limits = calibrate(model, [normals])
    assert folder == model / "monitor"
    assert sorted(path.name for path in folder.iterdir()) == ["calibration.parquet", "limits.csv"]
    # At 10 %, twelve clips: the highest score.
    assert limits.limit.tolist() == pytest.approx([known[-1]], abs=1e-6)
    written = pd.read_csv(folder / "limits.csv")
    assert written.limit.tolist() == limits.limit.tolist()
    assert (written.clips[0], written.smallest_rate[0]) == (NORMALS, pytest.approx(1 / 13))
    after = asdpipe.load(model)
    assert after.limits == {"fan": limits.limit[0], "valve": before.limits["valve"]}
    fans = [*sorted(others.rglob("*.wav")), *clips_of_test(ran, "fan").values()]
    for row in after.score_files(fans):
        result = row.result
        expected = (1 + sum(value >= result.score for value in known)) / 13
        assert result.p_value == pytest.approx(expected, abs=1.01 / 13)
        assert result.anomalous == (result.p_value <= 0.1) == bool(result.score > limits.limit[0])
    valve = after.score_file(next(iter(clips_of_test(ran, "valve").values())))
    assert (valve.p_value, valve.limit) == (None, before.limits["valve"])
    caplog.clear()
    score(model, [others])
    assert "promises no rate" not in caplog.text
    score(model, [*clips_of_test(ran, "valve").values()])
    assert "valve: its limit promises no rate of false alarms: no normal clips have calibrated it" in caplog.text


def test_a_run_of_several_seeds_has_limits_of_its_mean_scores(ran, place, normals, others):
    run = place / "results/tiny/autoencoder"
    means = [row.result.score for row in asdpipe.load(run).score_files(sorted(normals.rglob("*.wav")))]
    folder, limits = calibrate(run, [normals])
    assert folder == run / "monitor/stage1"
    assert limits.limit[0] == asdpipe.load(run).limits["fan"] == pytest.approx(max(means))
    clip = next(iter(clips_of_test(ran, "fan").values()))
    assert asdpipe.load(run).score_file(clip).p_value is not None
    assert asdpipe.load(run / "seed0").score_file(clip).p_value is None
    with pytest.raises(UserError, match="has several seeds"):
        calibrate(run, [normals], references=[others])


def test_commands_print_limits_and_p_values(place, normals, others):
    model = place / stage("ba")
    done = CliRunner().invoke(app, ["calibrate", str(model), str(normals), "--false-alarms", "0.2"])
    assert done.exit_code == 0, done.output
    header, line = (text.split("\t") for text in done.stdout.splitlines())
    row = dict(zip(header, line, strict=True))
    assert (row["machine"], row["condition"], row["clips"], row["false_alarms"]) == ("fan", "", "12", "0.2")
    done = CliRunner().invoke(app, ["score", str(model), str(others), str(normals)])
    header, *lines = (text.split("\t") for text in done.stdout.splitlines())
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    assert len(rows) == 16
    p_values = [float(row["p_value"]) for row in rows]
    assert p_values == sorted(p_values)
    assert [row["alarm"] for row in rows] == ["yes" if p_value <= 0.2 else "no" for p_value in p_values]
    assert CliRunner().invoke(app, ["calibrate", str(model), str(normals), "--false-alarms", "0.5"]).exit_code == 2


def test_conditions_have_limits_of_their_own_and_a_recording_of_none_has_the_highest(
    ran, place, normals, others, caplog
):
    model = place / stage("ba")
    calibrate(model, [normals], condition="day", false_alarms=0.2)
    _, limits = calibrate(model, [others], condition="night")
    limits = limits.set_index("condition")
    assert limits.clips.to_dict() == {"day": 12, "night": 4}
    assert (limits.false_alarms == 0.2).all()
    detector, clip = asdpipe.load(model), next(iter(clips_of_test(ran, "fan").values()))
    found = {name: detector.score_file(clip, condition=name) for name in ("day", "night", None)}
    for name in ("day", "night"):
        assert found[name].limit == limits.limit[name]
    assert found[None].limit == detector.limits["fan"] == limits.limit.max()
    assert found[None].p_value == max(found["day"].p_value, found["night"].p_value)
    score(model, [clip], condition="noon")
    assert "fan: its limit promises no rate of false alarms: no normal clips of condition 'noon'" in caplog.text
    # One limit for all replaces them.
    _, limits = calibrate(model, [normals])
    assert limits.condition.tolist() == [""]


def test_with_too_few_clips_the_decision_threshold_stays(place, others, caplog):
    model = place / stage("ba")
    before = asdpipe.load(model).limits
    _, limits = calibrate(model, [others])
    assert limits.note.tolist() == ["needs 5 more normal clips; with 4 the smallest honest rate is 20%"]
    assert asdpipe.load(model).limits == before
    score(model, [others])
    assert "promises no rate of false alarms: needs 5 more normal clips" in caplog.text


def test_windows_have_limits_of_their_own(place, normals, caplog):
    model = place / stage("ba")
    calibrate(model, [normals], hop=0.5)
    (file, *_) = normals.rglob("*.wav")
    detector = asdpipe.load(model)
    assert detector.score_file(file, hop=0.5).p_value is not None
    assert detector.score_file(file).p_value is None
    score(model, [file])
    assert "it was calibrated with --hop 0.5" in caplog.text


def test_recordings_that_say_nothing_of_new_ones_are_refused(ran, place, normals, tmp_path):
    model = place / stage("ba")
    trained = read_table("clips", place / "results/data/tiny/train/clips.parquet").path
    files = [place / path for path in trained if "fan" in path]
    with pytest.raises(UserError, match=r"the model was trained on it \(and on 6 more\)"):
        calibrate(model, [*files, normals])
    with pytest.raises(UserError, match="is given as a reference and for calibration"):
        calibrate(model, [normals], references=[normals])
    (tmp_path / "fan").mkdir()
    (tmp_path / "fan/bad.wav").write_bytes(b"no audio")
    with pytest.raises(UserError, match=r"none of 1 recordings can be used, e\.g\. .*bad\.wav: "):
        calibrate(model, [tmp_path / "fan"])
    with pytest.raises(UserError, match="say which machine type it is: fan, valve"):
        shutil.copy(next(iter(clips_of_test(ran, "fan").values())), tmp_path / "a.wav")
        calibrate(model, [tmp_path / "a.wav"])
    assert not (model / "monitor").exists()


def test_new_normals_that_do_not_score_like_the_old_are_noticed(ran, place, normals, tmp_path, caplog):
    model = place / stage("raw_logmel")
    calibrate(model, [normals])
    calibrate(model, [write_normals(ran, tmp_path / "same")])
    assert "do not score like" not in caplog.text
    calibrate(model, [write_normals(ran, tmp_path / "worn", noise=0.5)])
    assert (
        "fan: the new normal clips do not score like the 12 earlier ones (two-sample Kolmogorov-Smirnov" in caplog.text
    )


@pytest.mark.parametrize("kind", ["ba", "smote", "tiny_beats"])
def test_references_lower_the_scores_of_clips_like_them_and_limits_are_of_the_new_scores(
    ran, place, normals, others, kind
):
    model = place / stage(kind)
    before, files = asdpipe.load(model), sorted(others.rglob("*.wav"))
    old = np.array([row.result.score for row in before.score_files(files)])
    _, limits = calibrate(model, [normals], references=[files[0]])
    after = asdpipe.load(model)
    rows = list(after.score_files(files))
    new = np.array([row.result.score for row in rows])
    # Minus the cosine of a clip with itself.
    assert new[0] == pytest.approx(-1, abs=1e-5)
    assert rows[0].result.nearest_clip == str(files[0])
    assert (new <= old + 1e-5).all()
    scores = [row.result.score for row in after.score_files(sorted(normals.rglob("*.wav")))]
    assert limits.limit[0] == pytest.approx(max(scores), abs=1e-6)
    # Other machine types are as before.
    valve = next(iter(clips_of_test(ran, "valve").values()))
    assert after.score_file(valve).score == pytest.approx(before.score_file(valve).score, abs=1e-6)
    # They stay when limits are calibrated again, and more can be added.
    calibrate(model, [normals])
    calibrate(model, [normals], references=[files[1]])
    final = [row.result.score for row in asdpipe.load(model).score_files(files)]
    assert final[:2] == pytest.approx([-1, -1], abs=1e-5)


@pytest.mark.parametrize("kind", ["autoencoder", "mix"])
def test_models_that_compare_with_no_clip_take_no_references(place, normals, others, kind):
    with pytest.raises(UserError, match="does not compare recordings with normal clips, so that none can be added"):
        calibrate(place / stage(kind), [normals], references=[others])


def test_a_bundle_takes_over_limits_and_references(ran, place, normals, others, tmp_path):
    model, bundle = place / stage("raw_logmel"), tmp_path / "bundle"
    files, added = sorted(normals.rglob("*.wav")), sorted(others.rglob("*.wav"))
    calibrate(model, [normals], condition="day", references=[others])
    # The limit is the score of a calibration clip, which is among those that are compared.
    export(model, bundle, [(file, "fan") for file in [*files, *added]])
    trained, bundled = asdpipe.load(model, "cpu"), asdpipe.load(bundle)
    assert bundled.limits == trained.limits
    for condition in (None, "day", "night"):
        rows = [
            list(each.score_files([added[0], clips_of_test(ran, "fan").popitem()[1]], "fan", None, condition))
            for each in (trained, bundled)
        ]
        for one, other in zip(*rows, strict=True):
            assert one.result.score == pytest.approx(other.result.score, rel=1e-4, abs=1e-4)
            assert one.result.limit == other.result.limit
            assert one.result.p_value == other.result.p_value
            assert (one.result.p_value is None) is (condition == "night")
            assert one.result.nearest_clip == other.result.nearest_clip
    assert rows[0][0].result.nearest_clip == str(added[0])
    with pytest.raises(UserError, match="is a bundle; calibrate the folder of the stage, and export it again"):
        calibrate(bundle, [normals])
    with pytest.raises(UserError, match="a bundle has no audio of normal clips"):
        bundled.explain_file(files[0], "fan")
    # The reference is the most similar clip, but the workflow does not have it.
    known = set(read_table("clips", place / "results/data/tiny/train/clips.parquet").clip_id)
    assert trained.explain_file(added[0], "fan").normal_clip in known
    content = json.loads((bundle / MANIFEST).read_text())
    del content["manifest_sha256"]
    content["calibration"]["false_alarms"] = 2.0
    write_manifest(bundle, content)
    with pytest.raises(UserError, match="false_alarms is 2, not between 0 and 1"):
        asdpipe.load(bundle)


def test_after_a_new_training_a_calibration_is_not_used(place, normals, others, caplog):
    model = place / stage("smote")
    before = asdpipe.load(model)
    calibrate(model, [normals], references=[others])
    assert asdpipe.load(model).promises.groups is not None
    for name in ("calibration", "references"):
        file = model / f"monitor/{name}.parquet"
        table = read_table(name, file)
        write_table(name, table, file, {"model": "another", "false_alarms": 0.1, "conditions": {}})
    again = asdpipe.load(model)
    for name in ("calibration", "references"):
        assert f"{name}.parquet: is not used, as it was made with another model" in caplog.text
    assert again.limits == before.limits
    assert read(run_scores(model)) == Calibrated()
    # Only the first of two files was written: limits promise nothing.
    calibrate(model, [normals], references=[others])
    (model / "monitor/calibration.parquet").unlink()
    assert asdpipe.load(model).limits == before.limits


def test_other_scores_of_test_clips_are_no_other_model(place):
    made = run_scores(place / stage("ba"))
    clips = read_table("clips", made[0].input("train_clips")).clip_id
    scores, before = read_table("scores", made[0].file), digest(made)
    is_training = scores.clip_id.isin(clips)
    for changed, same in ((~is_training, True), (is_training & (scores.index == scores.index[is_training][0]), False)):
        write_table("scores", scores.assign(score=scores.score + 1e-9 * changed), made[0].file)
        assert (digest(made) == before) is same


def test_the_workflow_sees_nothing_of_it(ran, place, normals):
    model = place / stage("ba")
    before = {path: path.read_bytes() for path in (place / "results/tiny").rglob("*") if path.is_file()}
    calibrate(model, [normals])
    after = {path: path.read_bytes() for path in (place / "results/tiny").rglob("*") if path.is_file()}
    assert {path.relative_to(model) for path in after.keys() - before.keys()} == {
        Path("monitor/calibration.parquet"),
        Path("monitor/limits.csv"),
    }
    assert all(after[path] == content for path, content in before.items())
