"""Packing a pool, shard by shard or only the selected clips of it."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asdpipe.artifacts.tables import read_arrow, read_table, write_table
from asdpipe.data.pools.files import shard_digests
from asdpipe.errors import UserError
from asdpipe.steps.pack_pool import pack_pool
from asdpipe.steps.pack_selected import pack_selected
from tests.conftest import read_facts
from tests.steps.test_pack_clips import SKIP, out, packed, settings

__all__ = ["out"]


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
    digests = shard_digests(read_arrow("pool_clips", pool), 2)
    pack_pool(SKIP, 0, pool, **out)
    assert packed(out).clip_ids.tolist() == ["a", "b"]
    assert read_facts(out["index"]) == {"contents": digests[0]}
    skipped = pd.read_csv(out["skipped"])
    assert skipped.path.str.endswith("bal_train.parquet row 2").tolist() == [True]
    assert skipped.reason.str.contains("not audio").all()
    pack_pool(SKIP, 1, pool, **out)
    assert packed(out).clip_ids.tolist() == ["d", "e"]
    assert packed(out).lengths.tolist() == [16_000, 8000]
    assert read_facts(out["index"]) == {"contents": digests[1]}


def selection(tmp_path, clip_ids: list[str]):
    columns = {"path": "x", "mid": "/m/1", "display_name": "One", "machine": "fan", "score": -0.9, "shard": 0}
    frame = pd.DataFrame({"clip_id": pd.Series(clip_ids, dtype="str")}).assign(**columns)
    write_table("selected", frame.assign(rank=range(1, len(frame) + 1)), tmp_path / "selected.parquet")
    return tmp_path / "selected.parquet"


def test_selected_clips_are_packed_as_their_shards_would_be(pool, out, tmp_path):
    everything = {}
    for shard in (0, 1):
        pack_pool(SKIP, shard, pool, **out)
        everything |= dict(zip(packed(out).clip_ids, [each.copy() for each in packed(out)], strict=True))
    # Selected by score, so in another order than the manifest's; c is bad.
    pack_selected(SKIP, selection(tmp_path, ["e", "c", "b"]), pool, **out)
    assert packed(out).clip_ids.tolist() == ["b", "e"]
    for clip_id, samples in zip(packed(out).clip_ids, packed(out), strict=True):
        assert np.array_equal(samples, everything[clip_id])
    assert len(pd.read_csv(out["skipped"])) == 1
    pack_selected(settings(), selection(tmp_path, []), pool, **out)
    assert len(read_table("waveforms", out["index"])) == 0
    with pytest.raises(UserError, match="1 of 1 clips cannot be used"):
        pack_selected(settings(), selection(tmp_path, ["c"]), pool, **out)
