"""Artifacts are written whole or not at all, and damaged ones are named."""

import pandas as pd
import pytest

from asdpipe.artifacts import read_table, write_table, written
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
