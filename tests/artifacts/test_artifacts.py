"""Artifacts are written whole or not at all, and damaged ones are named."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asdpipe.artifacts.files import written
from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.errors import UserError
from tests.conftest import read_facts

FRAME = pd.DataFrame({"machine": ["fan"], "threshold": [-0.5], "decision_threshold": [-0.6]})


def test_a_table_comes_back_with_its_facts(tmp_path):
    write_table("thresholds", FRAME, tmp_path / "t.parquet", {"n_out": {"fan": 3}})
    pd.testing.assert_frame_equal(read_table("thresholds", tmp_path / "t.parquet"), FRAME)
    assert read_facts(tmp_path / "t.parquet") == {"n_out": {"fan": 3}}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "result.txt"
    file.write_text("old")

    def fail() -> None:
        with written(file) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert file.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["result.txt"]


def test_damaged_and_foreign_tables_are_named(tmp_path):
    file = tmp_path / "t.parquet"
    file.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match="cannot be read as parquet"):
        read_table("thresholds", file)
    write_table("thresholds", FRAME, file)
    with pytest.raises(UserError, match=r"is not a table of scores: column clip_id"):
        read_table("scores", file)


CLIPS = pd.DataFrame(
    {
        "clip_id": ["a", "b"],
        **{"path": "x", "dataset": "d", "machine": "fan", "section": "00", "domain": [None, "source"]},
        **{"split": ["test", "train"], "part": "dev", "is_normal": [None, True], "attributes": None},
        **{"sample_rate": [16_000, None], "num_frames": [None, 1]},
    }
)

CANDIDATES = pd.DataFrame({"clip_id": "a", "machine": "fan", "domain": "source", "rank": [1, 2], "label": ["x", "y"]})
CANDIDATES = CANDIDATES.assign(confidence=[None, -0.5])


def test_a_flipped_bit_is_no_other_number(tmp_path):
    file = tmp_path / "t.parquet"
    write_table("embeddings", pd.DataFrame({"clip_id": ["a"], "embedding": [np.arange(1000.0)]}), file)
    data = bytearray(file.read_bytes())
    read = 0
    for place in range(4, len(data) // 2, 7):
        data[place] ^= 16
        file.write_bytes(data)
        try:
            table = read_table("embeddings", file)
        except UserError as error:
            assert str(file) in str(error)
        else:
            assert np.array_equal(table.embedding[0], np.arange(1000.0))
            read += 1
        data[place] ^= 16
    assert read < 10


@pytest.mark.parametrize(
    ("table", "frame", "said"),
    [
        ("clips", CLIPS, None),
        ("clips", CLIPS.assign(clip_id=["a", None]), "1 rows have no clip_id"),
        ("clips", CLIPS.assign(clip_id="a"), "a clip_id is there twice"),
        ("clips", CLIPS.assign(split="trian"), "split is 'trian', not train or test or supplemental"),
        ("clips", CLIPS.assign(split="x" * 9999), f"split is '{'x' * 100}...', not train or test or supplemental"),
        ("clips", CLIPS.assign(domain="here"), "domain is 'here', not source or target"),
        ("clips", CLIPS.assign(machine=None), "2 rows have no machine"),
        ("thresholds", FRAME.assign(threshold=np.inf), None),
        ("thresholds", FRAME.assign(threshold=np.nan), "1 rows have no threshold"),
        ("thresholds", pd.concat([FRAME, FRAME]), "a machine is there twice"),
        ("pseudo_labels", CANDIDATES, None),
        ("pseudo_labels", CANDIDATES.assign(rank=1), "a clip_id with the same rank is there twice"),
        ("pseudo_labels", CANDIDATES.assign(label=None), "2 rows have no label"),
        ("embeddings", pd.DataFrame({"clip_id": ["a"], "embedding": [[]]}), "a list of embedding is empty"),
    ],
)
def test_tables_that_no_step_writes_are_refused(tmp_path, table, frame, said):
    file = tmp_path / "t.parquet"
    write_table(table, frame, file)
    if said is None:
        assert len(read_table(table, file)) == len(frame)
    else:
        with pytest.raises(UserError, match=rf"t.parquet: is damaged: {said}; delete it and run again"):
            read_table(table, file)


def test_other_types_text_that_is_no_text_and_nan_are_refused(tmp_path):
    file = tmp_path / "t.parquet"
    write_table("thresholds", FRAME, file)
    whole = pq.read_table(file)
    text = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")])
    for column, values, said in (
        ("threshold", pa.array([1], pa.int64()), "is not a table of thresholds: threshold is int64, not double"),
        ("threshold", pa.array([np.nan]), "a threshold is not a number"),
        ("machine", text, "cannot be read as parquet .*UTF8"),
    ):
        pq.write_table(whole.set_column(whole.column_names.index(column), column, values), file)
        with pytest.raises(UserError, match=said):
            read_table("thresholds", file)
