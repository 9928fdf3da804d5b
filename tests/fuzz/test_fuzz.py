"""Broken and hostile input ends in success, a listed skip, or a paragraph that names the file and the reason."""

from pathlib import Path

import pandas as pd
import pytest
from pydantic import TypeAdapter

from asdpipe.artifacts.tables import read_table
from asdpipe.config.base import as_json
from asdpipe.config.pools import Pool
from tests.conftest import run_asdpipe
from tests.fuzz import audio, tables
from tests.fuzz.harness import check, outcomes

# Inputs of each family, in every run and in the long one.
SIZES = {"audio": (60, 600), "tables": (29, 290), "configs": (60, 180), "csvs": (24, 240), "models": (24, 100)}


def ends_well(family: str, count: int, folder: Path) -> None:
    found = outcomes(family, count, folder)
    check(found)
    assert len({each.name for each in found}) == count
    # Where all inputs end alike, nothing was changed, or nothing is read.
    assert len({each.kind for each in found}) > 1


@pytest.mark.parametrize("family", SIZES)
def test_bad_input_ends_well(family, tmp_path):
    ends_well(family, SIZES[family][0], tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("family", SIZES)
def test_much_bad_input_ends_well(family, tmp_path, capsys):
    # The counts are shown.
    with capsys.disabled():
        ends_well(family, SIZES[family][1], tmp_path)


def test_the_command_line_lists_every_bad_file_of_a_pool_with_its_reason(tmp_path):
    ended = {case.name: case.run() for case in audio.cases(0, 0, 36, tmp_path / "pool")}
    assert set(ended.values()) == {"success", "skip"}
    labels = pd.DataFrame({"file": list(ended), "label": "noise"})
    labels.to_csv(tmp_path / "pool/labels.csv", index=False)
    clips, index, skipped = tmp_path / "clips.parquet", tmp_path / "index.parquet", tmp_path / "skipped.csv"
    pool = TypeAdapter[Pool](Pool).validate_python(
        {"format": "folder", "root": str(tmp_path / "pool"), "on_bad_clip": "skip", "min_seconds": 0.1, "shards": 1}
    )
    options = ("--name", "p", "--root", tmp_path / "pool", "--settings", as_json(pool.listing), "--clips", clips)
    outputs = ("--shards", tmp_path / "shards.json", "--left-out", tmp_path / "left_out.csv")
    done = run_asdpipe("step", "list-pool-clips", *options, *outputs)
    assert done.returncode == 0, done.stderr
    options = ("--shard", 0, "--clips", clips, "--samples", tmp_path / "samples", "--index", index)
    done = run_asdpipe("step", "pack-pool", "--settings", as_json(pool.decoding), *options, "--skipped", skipped)
    assert done.returncode == 0, done.stderr
    bad = pd.read_csv(skipped)
    assert bad.reason.notna().all()
    assert {Path(path).name for path in bad.path} == {name for name, how in ended.items() if how == "skip"}
    assert set(read_table("waveforms", index).clip_id) == {name for name, how in ended.items() if how == "success"}


def test_the_command_line_names_a_damaged_table_without_a_traceback(tmp_path):
    tables.make(tmp_path)
    damaged = tmp_path / "embeddings.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    options = ("--settings", tables.settings("represent"), "--seed", 0, "--representatives", tmp_path / "new")
    inputs = ("--clips", tmp_path / "train_clips.parquet", "--embeddings", damaged)
    done = run_asdpipe("step", "represent", *options, *inputs)
    assert done.returncode == 1
    assert f"{damaged}: cannot be read as parquet" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()
