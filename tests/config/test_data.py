"""Data sets and pools: unions on the format, what each format has, and what can be asked of it when planning."""

import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from asdpipe.config.base import canonical_json, read_settings
from asdpipe.config.data import Dataset
from asdpipe.config.listings import DcaseListing, FolderListing, Listing
from asdpipe.config.pools import Pool, PoolListing
from asdpipe.data.demo.machines import DEV_MACHINES, EVAL_MACHINES, write_dataset
from asdpipe.data.demo.names import DEV, EVAL


def dataset(**values):
    return TypeAdapter(Dataset).validate_python(values)


def pool(**values):
    return TypeAdapter(Pool).validate_python(values)


@pytest.mark.parametrize("values", [{"format": "demo"}, {"format": "dcase", "year": 2024}, {"format": "folder"}])
def test_the_listing_of_a_data_set_travels_as_json(values):
    known = dataset(**values, machines=["valve", "fan"], clip_seconds=3, min_seconds=0.2)
    assert read_settings(Listing, canonical_json(known.listing.model_dump(mode="json"))) == known.listing
    assert not {"clip_seconds", "pool", "scoring", "root", "channel"} & set(type(known.listing).model_fields)
    assert known.listing.machines == ("fan", "valve")
    assert (known.decoding.min_seconds, known.num_samples) == (0.2, 48_000)


def test_a_union_takes_test_clips_of_some_members_in_whatever_order_they_are_named():
    known = dataset(format="union", datasets=["b", "a", "b"], tested=["b"], clip_seconds=2)
    assert [known.members(split) for split in ("train", "test")] == [("a", "b"), ("b",)]
    assert known == dataset(format="union", datasets=["a", "b"], tested=["b"], clip_seconds=2)
    assert dataset(format="union", datasets=["a", "b"]).members("test") == ("a", "b")
    assert (known.num_samples, known.decoding.channel, known.joined) == (32_000, "mix", False)


@pytest.mark.parametrize("form", ["demo", "audioset", "folder"])
def test_the_listing_of_a_pool_travels_as_json(form):
    known = pool(format=form, shards=7, packed=False)
    assert read_settings(PoolListing, canonical_json(known.listing.model_dump(mode="json"))) == known.listing
    assert known.listing.shards == 7
    assert known.decoding.on_bad_clip == "skip"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"format": "folder", "year": 2023}, "year is for format: dcase, not folder"),
        ({"format": "demo", "ground_truth": "x"}, "ground_truth is for format: dcase, not demo"),
        ({"format": "demo", "root": "x"}, "root is for format: dcase and folder, not demo"),
        ({"format": "folder", "check_counts": False}, "check_counts is for format: dcase, not folder"),
        ({"format": "dcase", "table": "clips.csv"}, "table is for format: folder, not dcase"),
        ({"format": "dcase", "download": True}, "download needs the year"),
        ({"format": "dcase", "rot": "x"}, "Extra inputs are not permitted"),
        ({"format": "disk"}, "'demo', 'dcase', 'folder', 'union'"),
        ({"format": "union", "datasets": ["a", "b"], "root": "x"}, "root is for format: dcase and folder, not union"),
        (
            {"format": "union", "datasets": ["a", "b"], "machines": ["fan"]},
            "machines is for format: demo and dcase and",
        ),
        ({"format": "union", "datasets": ["a"]}, "at least 2 items"),
        ({"format": "union", "datasets": ["a", "b"], "tested": []}, "at least 1 item"),
        ({"format": "folder", "joined": True}, "joined is for format: union, not folder"),
        ({}, "format"),
    ],
)
def test_keys_of_another_format_are_refused(values, words):
    with pytest.raises(ValidationError, match=words):
        dataset(**values)


def test_null_unsets_a_key_of_another_format():
    assert dataset(format="folder", root="x", year=None).num_samples == 18 * 16_000


def test_keys_of_another_format_of_pool_are_refused():
    with pytest.raises(ValidationError, match="table is for format: folder, not audioset"):
        pool(format="audioset", table={"file": "x.csv"})
    assert pool(format="folder", table={"file": "x.csv"}).listing.table.file == "x.csv"


def test_a_generated_data_set_is_known_before_it_is_there(tmp_path):
    known = dataset(format="demo", parts=["dev"])
    root = tmp_path / "recordings"
    assert (set(DEV), set(EVAL)) == (set(DEV_MACHINES), set(EVAL_MACHINES))
    assert known.machine_types(root) == sorted(DEV)
    assert [known.watched(root, split) for split in ("train", "test", "supplemental")] == [[str(root)]] * 2 + [[]]
    assert (known.facts(root, "train"), known.truth_files(root, None)) == ("", [])
    write_dataset(root, seed=0, clip_seconds=0.5, source_clips=1, target_clips=1, test_clips=1)
    assert set(known.list_clips(root, "demo", "train", None).machine) == set(DEV)
    whole = dataset(format="demo")
    assert whole.machine_types(root) == dataset(format="dcase").machine_types(root)


def test_machine_types_of_a_download_are_those_of_the_year(tmp_path):
    of_2024 = dataset(format="dcase", year=2024, parts=["eval"], machines=["Scanner"])
    assert of_2024.machine_types(tmp_path) == ["Scanner"]
    assert len(dataset(format="dcase", year=2023).machine_types(tmp_path)) == 14
    assert len(dataset(format="dcase", year=2022).machine_types(tmp_path)) == 7


def test_machine_types_are_found_by_folder(tmp_path, write_clip):
    for name in ("pump/train/a.wav", "fan/train/a.wav"):
        write_clip(tmp_path / name, seconds=0.1)
    assert FolderListing(format="folder").machine_types(tmp_path) == ["fan", "pump"]
    assert DcaseListing(format="dcase", machines=("pump",)).machine_types(tmp_path) == ["pump"]


def test_planning_reads_no_audio(tmp_path, write_clip):
    write_clip(tmp_path / "fan/train/a.wav", seconds=0.1)
    code = (
        "import sys; from pathlib import Path; from asdpipe.config.listings import FolderListing, DcaseListing\n"
        "root = Path(sys.argv[1])\n"
        "for listing in (FolderListing(format='folder'), DcaseListing(format='dcase')):\n"
        "    listing.machine_types(root), listing.watched(root, 'train'), listing.facts(root, 'train')\n"
        "print({'soundfile', 'soxr', 'scipy', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
