"""The selection step on tables: labels, ranks, random selection, nothing selected."""

import pandas as pd
import pytest

from asdpipe.artifacts import write_table
from asdpipe.steps.select import select
from tests.conftest import read_facts

POOL = pd.DataFrame(
    {
        "clip_id": [f"c{number}" for number in range(6)],
        "path": [f"audio/c{number}.wav" for number in range(6)],
        "dataset": "pool",
        "shard": [0, 0, 0, 1, 1, 1],
        "mids": [["/m/1", "/m/2"], ["/m/2"], ["/m/3", "/m/1"], ["/m/1"], ["/m/1"], ["/m/2"]],
        "display_names": [["One", "Two"], ["Two"], ["Three", "One"], ["One"], ["One"], ["Two"]],
        "sample_rate": 16_000,
        "num_frames": 16_000,
    }
)


@pytest.fixture
def files(tmp_path):
    write_table("pool_clips", POOL, tmp_path / "pool.parquet")
    indices, scores = [], []
    rows = {
        0: [("c0", "fan", -0.9), ("c0", "valve", -0.95), ("c1", "fan", -0.99), ("c2", "fan", -0.8)],
        1: [("c3", "fan", -0.9), ("c4", "valve", -0.7)],
    }
    for shard, listed in rows.items():
        # c5 could not be decoded: it is in the manifest, but not packed.
        packed = POOL[(POOL.shard == shard) & (POOL.clip_id != "c5")].assign(offset=0, num_samples=1)
        indices.append(tmp_path / f"index{shard}.parquet")
        write_table("waveforms", packed, indices[-1])
        scores.append(tmp_path / f"scores{shard}.parquet")
        write_table("external_scores", pd.DataFrame(listed, columns=["clip_id", "machine", "score"]), scores[-1])
    limits = pd.DataFrame({"machine": ["fan", "pump", "valve"], "threshold": -0.5, "decision_threshold": -0.6})
    write_table("thresholds", limits, tmp_path / "thresholds.parquet")
    return {
        "pool_clips": tmp_path / "pool.parquet",
        "pool_index": indices,
        "thresholds": tmp_path / "thresholds.parquet",
        "selected": tmp_path / "selected.parquet",
    }, scores


def test_the_first_label_counts_and_ranks_follow_the_scores(files):
    paths, scores = files
    select('{"external": {"n_max": 2}}', 1, 0, **paths, scores=scores)
    selected = pd.read_parquet(paths["selected"])
    rows = selected[["clip_id", "machine", "mid", "display_name", "rank", "shard"]].to_numpy().tolist()
    assert rows == [
        ["c1", "fan", "/m/2", "Two", 1, 0],
        ["c3", "fan", "/m/1", "One", 2, 1],
        ["c0", "valve", "/m/1", "One", 1, 0],
        ["c4", "valve", "/m/1", "One", 2, 1],
    ]
    assert read_facts(paths["selected"])["n_out"] == {"fan": 3, "valve": 2}


def test_random_selection_draws_packed_clips_by_seed_and_stage(files):
    paths, _ = files
    drawn = []
    for stage, seed in ((1, 0), (1, 0), (2, 0), (1, 1)):
        select('{"external": {"n_max": 1, "selection": "random"}}', stage, seed, **paths)
        selected = pd.read_parquet(paths["selected"])
        assert selected.machine.tolist() == ["fan", "pump", "valve"]
        assert selected.clip_id.is_unique
        assert "c5" not in set(selected.clip_id)
        assert selected.score.isna().all()
        drawn.append(tuple(selected.clip_id))
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_an_empty_selection_is_written_and_mentioned(files, caplog):
    paths, _ = files
    empty = paths["selected"].with_name("empty.parquet")
    write_table("external_scores", pd.DataFrame({"clip_id": [], "machine": [], "score": []}), empty)
    select('{"external": {}}', 1, 0, **paths, scores=[empty])
    assert pd.read_parquet(paths["selected"]).empty
    assert "trains without external clips" in caplog.text
