"""Manifests of external pools: every layout, tables in every state, what is left out."""

import binascii
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from asdpipe.artifacts.schemas import SCHEMAS
from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.data.pools import audioset
from asdpipe.data.pools import labelled_files as labelled_folder
from asdpipe.data.pools.files import shard_digests
from asdpipe.errors import UserError

COMMENTS = (
    "# Segments csv created today\n# num_ytids=4, num_segs=4\n# YTID, start_seconds, end_seconds, positive_labels\n"
)
ROWS = (
    'aaaaaaaaaaA, 0.000, 10.000, "/m/068hy,/m/07q6cd_"\n'
    '-bbbbbbbbbB, 30.000, 40.000, "/m/03l9g"\n'
    'Yyyyyyyyyyy, 30.000, 40.000, "/m/068hy"\n'
)
NAMES = 'index,mid,display_name\n0,/m/068hy,"Domestic animals, pets"\n1,/m/03l9g,"Hammer"\n'
MIDS = {"aaaaaaaaaaA": ["/m/068hy", "/m/07q6cd_"], "-bbbbbbbbbB": ["/m/03l9g"], "Yyyyyyyyyyy": ["/m/068hy"]}


def touch(root: Path, *names: str) -> None:
    """Make files; manifests never look into them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def tables(folder: Path, rows: str = COMMENTS + ROWS, names: str = NAMES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "balanced_train_segments.csv").write_text(rows)
    (folder / "class_labels_indices.csv").write_text(names)
    return folder / "balanced_train_segments.csv"


def listed(root: Path, shards: int = 1) -> tuple[dict[str, dict], set[tuple[str, str]]]:
    """Return the rows of the manifest by clip_id, and what is left out, paths below the root."""
    clips, lost = audioset.list_clips(root, "pool", shards)
    assert clips.schema.equals(SCHEMAS["pool_clips"]), "schema"
    rows = {row["clip_id"]: row for row in clips.to_pylist()}
    assert len(rows) == len(clips), "clip ids are unique"
    return rows, {(each.removeprefix(f"{root}/"), why) for each, why in lost.itertuples(index=False)}


LAYOUTS = {
    "PANNs": (
        "metadata",
        "audios/balanced_train_segments/YaaaaaaaaaaA.wav",
        "audios/unbalanced_train_segments/unbalanced_train_segments_part00/Y-bbbbbbbbbB.wav",
        "audios/unbalanced_train_segments/unbalanced_train_segments_part40/YYyyyyyyyyyy.wav",
    ),
    "authors": (
        "metadata",
        "sr16_audios/balanced_train_segments/YaaaaaaaaaaA.wav",
        "sr16_audios/unbalanced_train_segments/a/b/Y-bbbbbbbbbB.16k.wav",
        "sr16_audios/unbalanced_train_segments/YYyyyyyyyyyy.wav",
    ),
    "hub": (
        "data",
        "audio/bal_train/aaaaaaaaaaA.flac",
        "audio/eval/Y-bbbbbbbbbB.FLAC",
        "audio/unbal_train/unbal_train000/Yyyyyyyyyyy.flac",
    ),
    "tables in the root": (".", "audio/x/aaaaaaaaaaA.mp3", "audio/x/-bbbbbbbbbB.ogg", "audio/x/Yyyyyyyyyyy.flac"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_audio_files_are_joined_with_their_labels(tmp_path, layout):
    folder, *files = LAYOUTS[layout]
    tables(tmp_path / folder)
    touch(tmp_path, *files)
    rows, lost = listed(tmp_path)
    # The order of the dict above is that of the three files.
    assert {file: rows[file]["mids"] for file in files} == dict(zip(files, MIDS.values(), strict=True))
    assert len(rows) == 3
    assert not lost
    assert all(row["path"] == str(tmp_path / file) for file, row in rows.items())
    assert all(row["row"] is None for row in rows.values())
    # A mid without a name keeps its mid.
    assert rows[files[0]]["display_names"] == ["Domestic animals, pets", "/m/07q6cd_"]


def test_what_has_no_partner_is_counted_and_listed_but_is_no_error(tmp_path):
    tables(tmp_path / "metadata", COMMENTS + ROWS + 'not_on_disk, 30.000, 40.000, "/m/068hy"\n')
    touch(
        tmp_path / "audios",
        "a/YaaaaaaaaaaA.wav",
        "a/Ywithoutlabel.wav",
        "b/YaaaaaaaaaaA.flac",
        "b/notes.txt",
        "b/.Y-bbbbbbbbbB.wav",
    )
    rows, lost = listed(tmp_path)
    assert list(rows) == ["audios/a/YaaaaaaaaaaA.wav"]
    assert lost == {
        ("audios/a/Ywithoutlabel.wav", "audio without a label in the segment csvs"),
        ("audios/b/YaaaaaaaaaaA.flac", "another copy of a clip"),
        ("-bbbbbbbbbB", "segment without audio"),
        ("Yyyyyyyyyyy", "segment without audio"),
        ("not_on_disk", "segment without audio"),
    }


@pytest.mark.parametrize(
    ("rows", "encoding"),
    [
        (COMMENTS + ROWS, "utf-8-sig"),
        ((COMMENTS + ROWS).replace("\n", "\r\n"), "utf-8-sig"),
        (ROWS.replace(", ", ","), "utf-8"),
        ("YTID,start_seconds,end_seconds,positive_labels\n" + ROWS.replace(", ", ","), "utf-8"),
        (ROWS.replace(",/m/07", " , /m/07").replace('"\n', ',"\n\n'), "utf-8"),
    ],
    ids=["byte order mark", "Windows", "spaces and comments lost", "comment became a header", "spaces and commas"],
)
def test_segment_csvs_of_every_make_are_read(tmp_path, rows, encoding):
    file = tables(tmp_path)
    file.write_bytes(rows.encode(encoding))
    segments = audioset.read_segments([file])
    assert dict(zip(segments.ytid.to_pylist(), segments.mids.to_pylist(), strict=True)) == MIDS


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("only_a_name\n", "line 7: expected YTID, start, end"),
        ("x, 0, 1, /m/1, /m/2\n", "line 7: expected YTID, start, end"),
        ('x, 0, 1, " , "\n', "line 7: expected YTID, start, end"),
        ('x, 0, 1, "' + "/m/1," * 50_000, "line 7: cannot be read as csv"),
        ("x, 0, 1, \xff\n", "cannot be read as csv"),
    ],
    ids=["one cell", "no quotes", "no labels", "open quote", "not UTF-8"],
)
def test_rows_that_cannot_be_read_are_named(tmp_path, row, words):
    file = tables(tmp_path)
    file.write_bytes((COMMENTS + ROWS + row).encode("latin-1"))
    with pytest.raises(UserError, match=words) as error:
        audioset.read_segments([file])
    assert str(file) in str(error.value)


def test_half_of_the_tables_is_enough(tmp_path, caplog):
    touch(tmp_path, *LAYOUTS["PANNs"][1:])
    file = tables(tmp_path / "metadata", COMMENTS + ROWS.splitlines(keepends=True)[0])
    (tmp_path / "metadata/class_labels_indices.csv").unlink()
    rows, lost = listed(tmp_path)
    assert len(rows) == 1
    assert len(lost) == 2
    assert rows[LAYOUTS["PANNs"][1]]["display_names"] == ["/m/068hy", "/m/07q6cd_"]
    assert "holds neither class_labels_indices.csv nor ontology.json" in caplog.text
    # The ontology names labels, too.
    (tmp_path / "metadata/ontology.json").write_text('[{"id": "/m/068hy", "name": "Pets", "child_ids": []}]')
    assert listed(tmp_path)[0][LAYOUTS["PANNs"][1]]["display_names"] == ["Pets", "/m/07q6cd_"]
    (tmp_path / "metadata/ontology.json").write_text('{"id": "/m/068hy"}')
    with pytest.raises(UserError, match=r"ontology.json: is not AudioSet's ontology"):
        listed(tmp_path)
    (tmp_path / "metadata/class_labels_indices.csv").write_text("mid\n/m/068hy\n")
    with pytest.raises(UserError, match=r"class_labels_indices.csv: lacks the columns"):
        listed(tmp_path)
    file.unlink()
    (tmp_path / "metadata/class_labels_indices.csv").write_text(NAMES)
    with pytest.raises(UserError, match=r"holds no \*_segments.csv"):
        listed(tmp_path)


def test_the_shard_of_a_clip_follows_from_its_id_and_shards_are_stored_apart(tmp_path):
    names = [f"{number:011d}" for number in range(10)]
    tables(tmp_path / "metadata", "".join(f'{name}, 0.0, 1.0, "/m/03l9g"\n' for name in names))
    touch(tmp_path, *(f"audios/x/Y{name}.wav" for name in names))
    listed_clips, lost = audioset.list_clips(tmp_path, "pool", 4)
    assert lost.empty
    clips = tmp_path / "clips.parquet"
    write_table("pool_clips", listed_clips, clips, groups="shard")
    table = read_table("pool_clips", clips)
    ids = [f"audios/x/Y{name}.wav" for name in names]
    shards = {clip_id: binascii.crc32(clip_id.encode("utf-8")) % 4 for clip_id in ids}
    assert table.clip_id.tolist() == sorted(ids, key=lambda clip_id: (shards[clip_id], clip_id))
    assert table.shard.tolist() == sorted(shards.values())
    # By their number, these names leave two shards empty.
    assert set(shards.values()) == {0, 1}
    file = pq.ParquetFile(clips)
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [8, 2]
    part = read_table("pool_clips", clips, ["path", "clip_id"], pc.field("shard") == 1)
    assert part.columns.tolist() == ["path", "clip_id"]
    assert part.clip_id.tolist() == [clip_id for clip_id in ids if shards[clip_id] == 1]
    assert read_table("pool_clips", clips, ["path"], pc.field("shard") == 2).empty


def packed_rows(manifest: pa.Table, shards: int) -> list[set]:
    """Return what packing depends on, by shard."""
    found: list[set] = [set() for _ in range(shards)]
    for row in manifest.to_pylist():
        found[binascii.crc32(row["clip_id"].encode()) % shards].add((row["clip_id"], row["path"], row["row"]))
    return found


def test_one_more_clip_changes_its_shard_only(tmp_path):
    names = [f"{number * 7919:011d}" for number in range(60)]
    tables(tmp_path / "metadata", "".join(f'{name}, 0.0, 1.0, "/m/03l9g"\n' for name in names))
    files = [f"audios/{'x' if number <= 40 else 'z'}/Y{name}.wav" for number, name in enumerate(names)]
    touch(tmp_path, *files[:40], *files[41:])
    before, _ = audioset.list_clips(tmp_path, "pool", 8)
    again, _ = audioset.list_clips(tmp_path, "pool", 8)
    assert shard_digests(again, 8) == shard_digests(before, 8)
    touch(tmp_path, files[40])
    after, _ = audioset.list_clips(tmp_path, "pool", 8)
    changed = [old != new for old, new in zip(shard_digests(before, 8), shard_digests(after, 8), strict=True)]
    by_hand = [packed_rows(manifest, 8) for manifest in (before, after)]
    assert changed == [old != new for old, new in zip(*by_hand, strict=True)]
    assert sum(changed) == 1


def test_digests_tell_ids_paths_rows_and_order_apart_and_nothing_else():
    rows = {"clip_id": ["a", "b", "c"], "path": ["p", "p", "q"], "row": [0, 1, None], "shard": [0, 0, 2]}
    manifest = pa.table({**rows, "mids": [["x"], ["y"], ["z"]]})
    digests = shard_digests(manifest, 4)
    assert len(set(digests)) == 3
    # Nothing is packed of empty shards.
    assert digests[1] == digests[3]
    assert shard_digests(manifest.set_column(4, "mids", pa.array([["other"]] * 3)), 4) == digests
    for column, values in (("clip_id", ["a", "B", "c"]), ("path", ["p", "P", "q"]), ("row", [0, 2, None])):
        changed = shard_digests(pa.table(rows | {column: values}), 4)
        assert [old == new for old, new in zip(digests, changed, strict=True)] == [False, True, True, True]
    # The order is that of the packed samples.
    assert shard_digests(pa.table(rows).take([1, 0, 2]), 4)[0] != digests[0]


def test_a_single_shard_keeps_the_order_of_the_files(tmp_path):
    tables(tmp_path / "metadata")
    touch(tmp_path, *LAYOUTS["PANNs"][1:])
    clips, _ = audioset.list_clips(tmp_path, "pool", 1)
    assert clips["clip_id"].to_pylist() == sorted(LAYOUTS["PANNs"][1:])
    assert set(clips["shard"].to_pylist()) == {0}


def test_an_empty_pool_says_how_to_do_without(tmp_path):
    tables(tmp_path / "metadata")
    (tmp_path / "audios").mkdir()
    with pytest.raises(UserError, match=r"the external pool is empty.*set the data set's pool to null"):
        listed(tmp_path)
    with pytest.raises(UserError, match="there is no such folder"):
        listed(tmp_path / "none")
    (tmp_path / "audios").rmdir()
    with pytest.raises(UserError, match="holds no audio in AudioSet's form: there is none of audios/"):
        listed(tmp_path)


def test_linked_folders_are_followed(tmp_path):
    root, disk = tmp_path / "pool", tmp_path / "disk"
    tables(root / "metadata")
    touch(disk, *LAYOUTS["PANNs"][1:])
    (root / "audios").mkdir()
    for folder in (disk / "audios").iterdir():
        (root / "audios" / folder.name).symlink_to(folder)
    rows, _ = listed(root)
    assert set(rows) == set(LAYOUTS["PANNs"][1:])


def test_the_folders_to_watch_are_those_above_the_clips(tmp_path):
    file = tables(tmp_path / "metadata")
    touch(tmp_path, *LAYOUTS["PANNs"][1:], "audios/unbalanced_train_segments/.hidden/x.wav")
    # One clip more in a folder of a third level changes nothing here: it would have to be searched for.
    touch(tmp_path, "audios/balanced_train_segments/deeper/still/Yx.wav")
    audios = tmp_path / "audios"
    assert audioset.clip_folders(tmp_path) == [
        str(each)
        for each in (
            audios,
            audios / "balanced_train_segments",
            audios / "unbalanced_train_segments",
            audios / "unbalanced_train_segments/unbalanced_train_segments_part00",
            audios / "unbalanced_train_segments/unbalanced_train_segments_part40",
            file,
            tmp_path / "metadata/class_labels_indices.csv",
        )
    ]


AUDIO = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def parquet(file: Path, names: list[str], **columns: list) -> None:
    """Write a parquet file of clips without sound."""
    file.parent.mkdir(parents=True, exist_ok=True)
    audio = pa.array([{"bytes": b"x", "path": None}] * len(names), AUDIO)
    pq.write_table(pa.table({"video_id": names, "audio": audio, **columns}), file, row_group_size=2)


def test_rows_of_parquet_files_take_the_labels_of_the_csvs(tmp_path):
    tables(tmp_path / "data")
    parquet(tmp_path / "data/bal_train/00.parquet", ["aaaaaaaaaaA", "unknown"], labels=[["/m/other"], []])
    parquet(tmp_path / "data/unbal_train/000.parquet", ["unknown2", "-bbbbbbbbbB", "aaaaaaaaaaA"])
    (tmp_path / "data/unbal_train/001.parquet").write_bytes(b"PAR1 and an interrupted download")
    pq.write_table(pa.table({"video_id": ["Yyyyyyyyyyy"]}), tmp_path / "data/unbal_train/002.parquet")
    rows, lost = listed(tmp_path, shards=2)
    first, second = "data/bal_train/00.parquet/aaaaaaaaaaA", "data/unbal_train/000.parquet/-bbbbbbbbbB"
    assert {key: (row["path"], row["row"], row["mids"]) for key, row in rows.items()} == {
        first: (str(tmp_path / "data/bal_train/00.parquet"), 0, MIDS["aaaaaaaaaaA"]),
        second: (str(tmp_path / "data/unbal_train/000.parquet"), 1, MIDS["-bbbbbbbbbB"]),
    }
    assert {(clip, why.partition("(")[0]) for clip, why in lost} == {
        ("data/bal_train/00.parquet/unknown", "audio without a label in the segment csvs"),
        ("data/unbal_train/000.parquet/unknown2", "audio without a label in the segment csvs"),
        ("data/unbal_train/000.parquet/aaaaaaaaaaA", "another copy of a clip"),
        ("Yyyyyyyyyyy", "segment without audio"),
        ("data/unbal_train/001.parquet", "cannot be read as parquet "),
        ("data/unbal_train/002.parquet", "parquet file without the columns video_id and audio "),
    }
    folders = [tmp_path / "data", tmp_path / "data/bal_train", tmp_path / "data/unbal_train"]
    assert audioset.clip_folders(tmp_path)[:3] == [str(each) for each in folders]


def test_rows_of_parquet_files_have_labels_of_their_own(tmp_path):
    file = tmp_path / "data/eval/00.parquet"
    mids, names = [["/m/068hy", "/m/03l9g"], ["/m/x"], None], [["Pets", "Hammer"], ["Strange"], None]
    parquet(file, ["a", "b", "c"], labels=pa.array(mids), human_labels=pa.array(names))
    rows, lost = listed(tmp_path)
    assert [(row["mids"], row["display_names"]) for row in rows.values()] == list(zip(mids, names, strict=True))[:2]
    assert {clip for clip, _ in lost} == {"data/eval/00.parquet/c"}
    # Names only: the table of classes gives the mids, where there is one.
    parquet(file, ["a", "b"], human_labels=[["Hammer"], ["Strange"]])
    assert [row["mids"] for row in listed(tmp_path)[0].values()] == [["Hammer"], ["Strange"]]
    (tmp_path / "data/class_labels_indices.csv").write_text(NAMES)
    assert [row["mids"] for row in listed(tmp_path)[0].values()] == [["/m/03l9g"], ["Strange"]]
    parquet(file, ["a"], labels=[[3]])
    with pytest.raises(UserError, match=r"holds no \*_segments.csv"):
        listed(tmp_path)


def test_parquet_files_whose_names_are_no_text_are_left_out(tmp_path):
    tables(tmp_path / "data")
    parquet(tmp_path / "data/00.parquet", ["aaaaaaaaaaA"])
    audio = pa.array([{"bytes": b"x", "path": None}], AUDIO)
    pq.write_table(pa.table({"video_id": [[1]], "audio": audio}), tmp_path / "data/01.parquet")
    pq.write_table(pa.table({"video_id": [b"\xff"], "audio": audio}), tmp_path / "data/02.parquet")
    rows, lost = listed(tmp_path)
    assert list(rows) == ["data/00.parquet/aaaaaaaaaaA"]
    assert {clip for clip, why in lost if "cannot be read as parquet" in why} == {"data/01.parquet", "data/02.parquet"}


@pytest.fixture
def folder(tmp_path) -> Path:
    touch(tmp_path, "audio/one/dog.1.wav", "audio/one/cat.wav", "audio/two/cat.wav", "audio/two/rain.flac", "top.ogg")
    (tmp_path / "labels.csv").write_bytes(
        b"\xef\xbb\xbffile,label,fold\r\n"
        b"dog.1,Dog;Bark,1\r\n"
        b'audio/two/cat.wav,"Cat, Meow",1\r\n'
        b"rain.flac,Rain,1\r\n"
        b".\\audio\\two\\rain.flac,Water,1\r\n"
        b"cat.wav,Cat,2\r\n"
        b"gone.wav,Dog,2\r\n"
        b"top.ogg,,2\r\n"
    )
    return tmp_path


def test_a_folder_of_any_files_takes_labels_from_a_csv(folder):
    clips, lost = labelled_folder.list_clips(folder, "pool", 2)
    assert clips.schema.equals(SCHEMAS["pool_clips"])
    rows = {row["clip_id"]: row for row in clips.to_pylist()}
    labels = {
        "audio/one/dog.1.wav": ["Dog", "Bark"],
        "audio/two/cat.wav": ["Cat", "Meow"],
        "audio/two/rain.flac": ["Rain"],
    }
    assert {key: row["mids"] for key, row in rows.items()} == labels
    assert {key: row["display_names"] for key, row in rows.items()} == labels
    shards = [binascii.crc32(clip_id.encode()) % 2 for clip_id in rows]
    assert [row["shard"] for row in rows.values()] == shards == sorted(shards)
    assert set(lost.itertuples(index=False, name=None)) == {
        ("audio/two/rain.flac", "another row of a clip"),
        ("cat.wav", "row that fits several audio files: give the path"),
        ("gone.wav", "row without an audio file"),
        ("top.ogg", "row without a label"),
        ("audio/one/cat.wav", "audio without a row"),
        ("top.ogg", "audio without a row"),
    }
    assert labelled_folder.clip_folders(folder, "labels.csv") == [str(folder), str(folder / "labels.csv")]


@pytest.mark.parametrize(
    ("table", "text", "words"),
    [
        ({"label_column": "class"}, None, "has no column 'class' but file, label, fold; set table.label_column"),
        ({"file": "none.csv"}, None, r"none.csv: there is no such file.*table.file"),
        ({}, "file,label\nrain.flac,Rain,Water\n", "line 2: as many cells as the first line expected"),
        ({}, "file,label\nrain.flac\n", "line 2: as many cells as the first line expected"),
        ({}, "file,label\nnone.wav,Rain\n", "the external pool is empty: 5 audio files, 1 rows in labels.csv"),
        ({}, "", "has no column 'file' but nothing"),
    ],
)
def test_what_is_wrong_with_the_csv_of_a_folder_is_named(folder, table, text, words):
    if text is not None:
        (folder / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        labelled_folder.list_clips(folder, "pool", 1, **table)


def test_names_that_are_not_utf_8_are_left_out(tmp_path):
    tables(tmp_path / "metadata")
    touch(tmp_path, LAYOUTS["PANNs"][1])
    Path(os.fsdecode(os.fsencode(tmp_path / "audios") + b"/Y\xff.wav")).touch()
    rows, lost = listed(tmp_path)
    assert len(rows) == 1
    assert ("audios/Y?.wav", "audio without a label in the segment csvs") in lost


@pytest.mark.parametrize("separator", [";", "\t"])
def test_labels_of_a_folder_may_be_separated_as_excel_does(folder, separator):
    commas, _ = labelled_folder.list_clips(folder, "pool", 1)
    names = [path.removeprefix(f"{folder}/") for path in commas["path"].to_pylist()]
    rows = [f'{name}{separator}"Rain;Wind"' for name in names]
    (folder / "labels.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join([f"file{separator}label", *rows]).encode())
    clips, _ = labelled_folder.list_clips(folder, "pool", 1)
    assert clips["mids"].to_pylist() == [["Rain", "Wind"]] * len(names)
    assert clips["path"].to_pylist() == commas["path"].to_pylist()
