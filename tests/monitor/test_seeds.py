"""A run of several seeds is one detector: the mean of their scores, and its spread."""

import json
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import asdpipe
from asdpipe.artifacts.tables import read_table
from asdpipe.cli import app
from asdpipe.errors import UserError
from tests.monitor.conftest import clips_of_test, stage

RUN = Path("results/tiny/autoencoder")


@pytest.fixture
def copy(ran, tmp_path) -> Path:
    """The run, to be damaged."""
    for place in ("results/data/tiny", RUN):
        shutil.copytree(ran / place, tmp_path / place)
    return tmp_path / RUN


def test_a_run_has_the_mean_and_the_spread_of_its_seeds(ran):
    detector, clips = asdpipe.load(ran / RUN, "cpu"), clips_of_test(ran)
    seeds = [ran / stage("autoencoder", seed) for seed in (0, 1)]
    known = [read_table("scores", place / "scores.parquet").set_index("clip_id") for place in seeds]
    limits = [read_table("thresholds", place / "thresholds.parquet").set_index("machine") for place in seeds]
    for name, row in zip(clips, detector.score_files(clips.values()), strict=True):
        scores = [float(table.score[name]) for table in known]
        assert row.result.score == pytest.approx(statistics.mean(scores), rel=1e-6)
        assert row.result.spread == pytest.approx(statistics.stdev(scores), abs=1e-6 * scores[0])
        assert row.result.limit == pytest.approx(
            statistics.mean(table.decision_threshold[row.machine] for table in limits)
        )
    # Not all the same.
    assert abs(known[0].score - known[1].score).max() > 5e-5 * known[0].score.mean()
    assert asdpipe.load(ran / RUN / "seed1").score_file(clips[name]).spread is None
    with pytest.raises(UserError, match="no common embedding"):
        detector.embed(np.ones(16_000), 16_000)


def test_the_command_shows_the_spread(ran):
    clip = next(iter(clips_of_test(ran).values()))
    done = CliRunner().invoke(app, ["score", str(ran / RUN), str(clip), "--stage", "1", "--machine", "fan"])
    header, values = (line.split("\t") for line in done.stdout.splitlines())
    assert header[:4] == ["file", "machine", "score", "spread"]
    assert float(values[3]) > 0


def test_the_last_stage_that_all_seeds_have_is_used(ran, copy):
    clip = clips_of_test(ran, "fan").popitem()[1]
    # Whether it is finished is seen before anything is read.
    unfinished = copy / "seed0/stage2"
    unfinished.mkdir()
    (unfinished / "auc.csv").touch()
    assert asdpipe.load(copy).score_file(clip) == asdpipe.load(ran / RUN, stage=1).score_file(clip)
    for chosen, words in ((2, "seed0: 1, 2; seed1: 1"), (0, "not all seeds have finished stage 0")):
        with pytest.raises(UserError, match=words):
            asdpipe.load(copy, stage=chosen)
    (copy / "seed2/stage1").mkdir(parents=True)
    with pytest.raises(UserError, match=r"not all seeds have finished the same stage; .*seed2: none"):
        asdpipe.load(copy)
    with pytest.raises(UserError, match="no stage can be chosen"):
        asdpipe.load(copy / "seed1/stage1", stage=1)


def test_seeds_of_other_settings_are_refused(copy):
    file = copy / "seed1/stage1/provenance/scores.parquet.json"
    record = json.loads(file.read_text())
    record["config"]["train"][0]["training"]["epochs"] = 2
    file.write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"seed1/stage1/scores\.parquet: was made with other settings than .*seed0"):
        asdpipe.load(copy)
