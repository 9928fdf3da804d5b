"""The list of each split, and the labelled manifest that joins them."""

import json
import logging
import shutil
from pathlib import Path

import pandas as pd
import pytest

from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.base import as_json
from asdpipe.config.listings import DcaseListing, FolderListing, LabelSettings
from asdpipe.errors import UserError
from asdpipe.steps.label_clips import label_clips
from asdpipe.steps.list_clips import list_clips
from tests.conftest import run_asdpipe

SPLITS = ("train", "test")
# Places of the files, and rows of clips.csv.
CLIPS = ["fan/train/a.wav", "fan/train/b.wav", "fan/test/c.wav", "pump/train/d.wav", "pump/test/e.wav"]
LABELS = "file,label,domain\nfan/test/c.wav,anomaly,target\npump/test/e.wav,normal,source\nfan/train/b.wav,,target\n"


def listing(machines: list[str] | None = None) -> FolderListing:
    return FolderListing(format="folder", machines=machines)


@pytest.fixture
def root(tmp_path, write_clip) -> Path:
    for number, name in enumerate(CLIPS):
        write_clip(tmp_path / "recordings" / name, seed=number)
    (tmp_path / "recordings/clips.csv").write_text(LABELS)
    return tmp_path / "recordings"


def listed(root: Path, folder: Path) -> list[Path]:
    for split in SPLITS:
        list_clips("own", root, split, as_json(listing()), folder / split)
    return [folder / split for split in SPLITS]


def labelled(root: Path, lists: list[Path], clips: Path) -> None:
    label_clips(root, as_json(LabelSettings(listing=listing())), lists, clips)


def test_a_split_lists_its_own_clips_and_the_manifest_has_them_all(root, tmp_path):
    lists = listed(root, tmp_path)
    found = {split: read_table("clips", tmp_path / split) for split in SPLITS}
    for split, table in found.items():
        assert table.clip_id.tolist() == [name for name in CLIPS if f"/{split}/" in name]
        assert set(table.split) == {split}
    labelled(root, lists, tmp_path / "all")
    table = read_table("clips", tmp_path / "all").set_index("clip_id")
    assert sorted(table.index) == sorted(CLIPS)
    assert table.is_normal[["fan/test/c.wav", "pump/test/e.wav"]].tolist() == [False, True]
    assert table.domain["fan/train/b.wav"] == "target"


def test_the_summary_is_shown_although_there_is_a_log(root, tmp_path):
    lists = [option for file in listed(root, tmp_path) for option in ("--lists", file)]
    settings = as_json(LabelSettings(listing=listing()))
    options = ("--root", root, "--settings", settings, *lists, "--clips", tmp_path / "all")
    done = run_asdpipe("--log", tmp_path / "log", "step", "label-clips", *options)
    assert done.returncode == 0, done.stderr
    for text in (done.stderr, (tmp_path / "log").read_text()):
        assert "5 clips of 2 machine types" in text
        lines = [line.split() for line in text.splitlines()]
        assert ["dev", "fan", "1", "0", "2"] in lines
    # Nothing else of the level INFO is.
    options = ("--name", "own", "--root", root, "--split", "test", "--settings", as_json(listing()))
    done = run_asdpipe("--log", tmp_path / "log", "step", "list-clips", *options, "--clips", tmp_path / "test")
    assert "2 test clips of 2 machine types" in (tmp_path / "log").read_text()
    assert done.stderr == ""


def test_a_machine_type_without_training_clips_is_named_before_anything_is_trained(write_dcase, tmp_path):
    root = write_dcase(tmp_path / "set")
    shutil.rmtree(root / "pump/train")
    used = DcaseListing(format="dcase")
    for split in SPLITS:
        list_clips("set", root, split, as_json(used), tmp_path / split)
    assert set(read_table("clips", tmp_path / "train").machine) == {"fan"}
    with pytest.raises(UserError, match=r"^pump: has test clips but no training clips; add some, or leave it out"):
        settings = as_json(LabelSettings(listing=used))
        label_clips(root, settings, [tmp_path / split for split in SPLITS], tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_a_machine_type_without_test_clips_is_no_problem(root, tmp_path, caplog):
    (root / "pump/test/e.wav").unlink()
    (root / "clips.csv").write_text("file,label\nfan/test/c.wav,anomaly\n")
    with caplog.at_level(logging.INFO):
        labelled(root, listed(root, tmp_path), tmp_path / "all")
    assert set(read_table("clips", tmp_path / "all").machine) == {"fan", "pump"}


def test_lists_of_other_tables_are_refused(root, tmp_path):
    lists = listed(root, tmp_path)
    write_table("skipped", pd.DataFrame({"path": ["x"], "reason": ["y"]}), tmp_path / "other")
    with pytest.raises(UserError, match="other: is not a table of clips"):
        labelled(root, [*lists, tmp_path / "other"], tmp_path / "all")
    with pytest.raises(UserError, match="machines"):
        list_clips("own", root, "train", json.dumps({"format": "folder", "table": None}), tmp_path / "train")
