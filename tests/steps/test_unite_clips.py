"""Lists of several data sets as one: names, and types that cannot be told apart."""

import json
from pathlib import Path

import pandas as pd
import pytest

from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.errors import UserError
from asdpipe.steps.unite_clips import unite_clips


def clips(dataset: str, *rows: str) -> pd.DataFrame:
    """Return a list of clips, by "machine split section attributes"."""
    words = pd.DataFrame([row.split() for row in rows], columns=["machine", "split", "section", "attributes"])
    name = words.machine + "/" + words.split + "/" + words.index.astype(str) + ".wav"
    return words.assign(
        clip_id=name,
        path=f"/{dataset}/" + name,
        dataset=dataset,
        domain="source",
        part="dev",
        is_normal=[None if split == "supplemental" else split == "train" for split in words.split],
        attributes=words.attributes.where(words.attributes != "-", None),
        sample_rate=16_000,
        num_frames=16_000,
    )


def unite(folder: Path, *lists: pd.DataFrame, joined: bool = False) -> pd.DataFrame:
    files = [folder / f"{number}.parquet" for number in range(len(lists))]
    for file, frame in zip(files, lists, strict=True):
        write_table("clips", frame, file)
    unite_clips(json.dumps({"joined": joined}), files, folder / "all.parquet")
    return read_table("clips", folder / "all.parquet")


OLD = clips("old", "fan train 00 vel_1", "fan test 00 vel_1", "pump train 00 -", "fan supplemental 00 -")
NEW = clips("new", "fan train 00 -", "fan train 01 -", "valve train 00 spd_2")


@pytest.mark.parametrize("joined", [False, True])
def test_clips_stay_in_order_and_are_told_apart_by_the_name_of_their_data_set(tmp_path, joined):
    found = unite(tmp_path, OLD, NEW, joined=joined)
    both = pd.concat([OLD, NEW], ignore_index=True)
    assert found.clip_id.tolist() == [
        *("old/fan/train/0.wav", "old/fan/test/1.wav", "old/pump/train/2.wav", "old/fan/supplemental/3.wav"),
        *("new/fan/train/0.wav", "new/fan/train/1.wav", "new/valve/train/2.wav"),
    ]
    names = both.machine if joined else both.dataset + "_" + both.machine
    assert found.machine.tolist() == names.tolist()
    same = ["path", "dataset", "section", "domain", "split", "part", "is_normal", "attributes", "num_frames"]
    # Attributes that one of them lacks stay unknown.
    pd.testing.assert_frame_equal(
        found[same].astype(object).where(found[same].notna(), None),
        both[same].astype(object).where(both[same].notna(), None),
    )


def test_a_list_without_clips_adds_none(tmp_path):
    assert len(unite(tmp_path, OLD, NEW.iloc[:0])) == len(OLD)
    assert len(unite(tmp_path, NEW.iloc[:0])) == 0


def test_joined_types_that_are_tested_in_two_data_sets_are_refused(tmp_path):
    tested = clips("new", "fan train 00 -", "fan test 00 -")
    with pytest.raises(UserError, match=r"^fan dev 00: has test clips of new and old.*name one .* in tested"):
        unite(tmp_path, OLD, tested, joined=True)
    assert not (tmp_path / "all.parquet").exists()
    # Another section is evaluated by itself; without joining, so is each type.
    unite(tmp_path, OLD, clips("new", "fan test 01 -"), joined=True)
    unite(tmp_path, OLD, tested)


def test_names_that_are_the_same_by_chance_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"^a_b_fan: is the name of machine types of a and a_b; rename one"):
        unite(tmp_path, clips("a", "b_fan train 00 -"), clips("a_b", "fan train 00 -"))
