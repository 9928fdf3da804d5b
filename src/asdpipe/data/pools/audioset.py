"""External pools in AudioSet's layouts: audio files or parquet files of clips, segment csvs, display names.

Audio is read from the first of these that exists:
    audios/**/Y<YTID>.wav                                  (PANNs)
    sr16_audios/**/Y<YTID>.wav                             (the method's authors)
    audio/{bal_train,eval,unbal_train}/**/<YTID>.flac      (hub copies, unpacked from tars)
    data/{bal_train,eval,unbal_train}/*.parquet            (hub copies: video_id, audio, labels, human_labels)
with any suffix that can be decoded, with or without the Y. Tables may be in metadata/, data/ or the root.
"""

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from asdpipe.data.pools.files import STRINGS, files_below, left_out, list_audio, pool_clips, renamed, watched
from asdpipe.errors import UserError, short

AUDIO_FOLDERS = ("audios", "sr16_audios", "audio")
TABLE_FOLDERS = ("metadata", "data", ".")
SEGMENTS, LABELS, ONTOLOGY = "*_segments.csv", "class_labels_indices.csv", "ontology.json"

logger = logging.getLogger(__name__)


class Segments(NamedTuple):
    """The rows of the segment csvs."""

    ytid: pa.StringArray
    mids: pa.ListArray
    """Labels in the order of the csv."""


class Found(NamedTuple):
    """The audio of a pool."""

    clips: pa.Table
    """clip_id, path, row, name, and own: labels (mids) in the parquet file itself, or null."""
    names: Mapping[str, str]
    """Display names by mid that parquet files contain."""
    damaged: Mapping[str, str]
    """Parquet files that cannot be used, with the reason."""


def list_clips(root: Path, pool: str, shards: int) -> tuple[pa.Table, pd.DataFrame]:
    """Return the manifest of a pool, and what is left out (clip: path or YTID; reason).

    Args:
        shards: parts that are packed and scored separately.

    Raises:
        UserError: there is no audio, a csv is missing or damaged, or the pool has no clip with a label.
    """
    folder = audio_folder(root)
    names = read_display_names(root)
    found = _parquet_rows(root, names) if folder == root / "data" else _audio_files(root, folder)
    tables = _tables(root, SEGMENTS)
    clips = found.clips.combine_chunks()
    if not tables and clips["own"].null_count == len(clips) and not found.damaged:
        raise UserError(f"{root}: holds no {SEGMENTS}; AudioSet's segment csvs belong into {root / 'metadata'}")
    segments = read_segments(tables)

    stem = pc.list_element(pc.split_pattern(clips["name"].combine_chunks(), ".", max_splits=1), 0)
    segment = pc.index_in(stem, segments.ytid)
    segment = pc.coalesce(segment, pc.index_in(pc.replace_substring_regex(stem, "^Y", ""), segments.ytid))
    mids = pc.coalesce(segments.mids.take(segment), clips["own"].combine_chunks())
    ytid = pc.coalesce(segments.ytid.take(segment), stem)
    labelled = np.flatnonzero(pc.is_valid(mids))
    _, first = np.unique(ytid.dictionary_encode().indices.to_numpy()[labelled], return_index=True)
    kept = labelled[np.sort(first)]
    silent = pc.unique(segments.ytid.filter(pc.invert(pc.is_in(segments.ytid, ytid.take(pa.array(kept))))))
    if not len(kept):
        message = (
            f"{root}: the external pool is empty: {len(clips)} clips in {folder.name}/, {len(segments.ytid)} segments, "
            "none in both; fill it, or set the data set's pool to null to do without external clips"
        )
        raise UserError("\n".join([message, *(f"{file}: {reason}" for file, reason in found.damaged.items())]))
    label = clips["path"].combine_chunks() if folder != root / "data" else clips["clip_id"].combine_chunks()
    lost = left_out(
        {
            "audio without a label in the segment csvs": label.filter(pc.is_null(mids)),
            "another copy of a clip": label.take(pa.array(np.setdiff1d(labelled, kept))),
            "segment without audio": silent,
            **{reason: pa.array([file]) for file, reason in found.damaged.items()},
        }
    )
    chosen = clips.append_column("mids", mids).take(pa.array(kept))
    return pool_clips(pool, chosen, {**found.names, **names}, shards), lost


def audio_folder(root: Path) -> Path:
    """Return the folder with the audio.

    Raises:
        UserError: there is none.
    """
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder")
    for name in AUDIO_FOLDERS:
        if (root / name).is_dir():
            return root / name
    if (root / "data").is_dir() and any(files_below(root, root / "data", {".parquet"})):
        return root / "data"
    folders = ", ".join(f"{name}/" for name in AUDIO_FOLDERS)
    raise UserError(f"{root}: holds no audio in AudioSet's form: there is none of {folders} and data/**/*.parquet")


def clip_folders(root: Path) -> list[str]:
    """Return the folders of the audio and the tables, whose modification time changes when clips or labels change.

    Raises:
        UserError: a folder is missing.
    """
    tables = [file for pattern in (SEGMENTS, LABELS, ONTOLOGY) for file in _tables(root, pattern)]
    return [*watched(audio_folder(root)), *map(str, tables)]


def read_segments(files: Sequence[Path]) -> Segments:
    """Read segment csvs: YTID, start, end, labels; comments start with #.

    Raises:
        UserError: a row cannot be read.
    """
    ytids: list[str] = []
    labels: list[str] = []
    for file in files:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.reader(lines, skipinitialspace=True)
            try:
                for row in rows:
                    # Some copies have a heading in place of the comments.
                    if not row or row[0].startswith("#") or row[0] == "YTID":
                        continue
                    mids = row[3].strip(" ,") if len(row) == 4 else ""
                    if not mids or not row[0]:
                        message = f'expected YTID, start, end, "mid,mid,..."; found {short(str(row))}'
                        raise UserError(f"{file}, line {rows.line_num}: {message}")
                    ytids.append(row[0].rstrip())
                    labels.append(mids)
            except (csv.Error, UnicodeDecodeError) as error:
                raise UserError(f"{file}, line {rows.line_num}: cannot be read as csv ({error})") from None
    tidy = pc.replace_substring_regex(pa.array(labels, pa.string()), r"[ ,]*,[ ,]*", ",")
    return Segments(pa.array(ytids, pa.string()), pc.split_pattern(tidy, ","))


def read_display_names(root: Path) -> dict[str, str]:
    """Return the display names by mid, of class_labels_indices.csv or else ontology.json; none: a warning.

    Raises:
        UserError: the file cannot be read, or lacks the columns mid and display_name.
    """
    for file in _tables(root, LABELS):
        try:
            with file.open(newline="", encoding="utf-8-sig") as lines:
                rows = csv.DictReader(lines, skipinitialspace=True)
                if not {"mid", "display_name"} <= set(rows.fieldnames or ()):
                    raise UserError(f"{file}: lacks the columns mid and display_name")
                return {row["mid"]: row["display_name"] for row in rows if row["display_name"]}
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{file}: cannot be read as csv ({error})") from None
    for file in _tables(root, ONTOLOGY):
        try:
            return {str(each["id"]): str(each["name"]) for each in json.loads(file.read_text(encoding="utf-8-sig"))}
        except (ValueError, TypeError, KeyError, RecursionError):
            raise UserError(f"{file}: is not AudioSet's ontology, a list of objects with id and name") from None
    logger.warning("%s: holds neither %s nor %s: labels are named by their mids", root, LABELS, ONTOLOGY)
    return {}


def _tables(root: Path, pattern: str) -> list[Path]:
    return [file for folder in TABLE_FOLDERS for file in sorted((root / folder).glob(pattern))]


def _audio_files(root: Path, folder: Path) -> Found:
    files = list_audio(root, folder)
    return Found(files.append_column("own", pa.nulls(len(files), STRINGS)), {}, {})


def _parquet_rows(root: Path, names: Mapping[str, str]) -> Found:
    """List the rows of all parquet files; ``names``, display names by mid, are for files that lack mids."""
    mids = {name: mid for mid, name in names.items()}
    own_names: dict[str, str] = {}
    damaged = {}
    parts = [pa.table({name: pa.array([], kind) for name, kind in _ROWS.items()})]
    for prefix, files in files_below(root, root / "data", {".parquet"}):
        for name in files:
            file = root / prefix / name
            try:
                with pq.ParquetFile(file) as parquet:
                    if not _holds_clips(parquet.schema_arrow):
                        damaged[str(file)] = "parquet file without the columns video_id and audio (contents of files)"
                        continue
                    table = parquet.read(["video_id", "labels", "human_labels"])
                # Checks that text is UTF-8, among others.
                table.validate(full=True)
                video_id = table["video_id"].cast(pa.string()).combine_chunks().fill_null("")
                own, human = _label_lists(table, "labels"), _label_lists(table, "human_labels")
            except (OSError, pa.ArrowException) as error:
                damaged[str(file)] = f"cannot be read as parquet ({str(error).partition(chr(10))[0]})"
                continue
            if own is not None and human is not None and _lengths(own).equals(_lengths(human)):
                pairs = zip(pc.list_flatten(own).to_pylist(), pc.list_flatten(human).to_pylist(), strict=True)
                own_names.update(pairs)
            elif own is None and human is not None:
                own = renamed(human, mids)
            parts.append(_rows(file, f"{prefix}{name}", video_id, own))
    return Found(pa.concat_tables(parts), own_names, damaged)


_ROWS = {"clip_id": pa.string(), "path": pa.string(), "row": pa.int32(), "name": pa.string(), "own": STRINGS}


def _rows(file: Path, clip_file: str, name: pa.StringArray, own: pa.ListArray | None) -> pa.Table:
    labels = pa.nulls(len(name), STRINGS)
    if own is not None:
        labels = pc.if_else(pc.greater(_lengths(own), 0), own, labels)
    return pa.table(
        {
            "clip_id": pc.binary_join_element_wise(clip_file, name, "/"),
            "path": pa.repeat(str(file), len(name)),
            "row": pa.array(range(len(name)), pa.int32()),
            "name": name,
            "own": labels,
        }
    )


def _holds_clips(schema: pa.Schema) -> bool:
    """Tell whether a parquet file has video_id, and audio as binary or as a struct with bytes."""
    if not {"video_id", "audio"} <= set(schema.names):
        return False
    kind = schema.field("audio").type
    if pa.types.is_struct(kind):
        kind = kind.field("bytes").type if kind.get_field_index("bytes") >= 0 else pa.null()
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _lengths(lists: pa.ListArray) -> pa.Array:
    return pc.fill_null(pc.list_value_length(lists), 0)


def _label_lists(table: pa.Table, column: str) -> pa.ListArray | None:
    """Return a column of lists of strings, or None where there is none."""
    if column not in table.column_names:
        return None
    kind = table[column].type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not lists or not (pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type)):
        return None
    return table[column].cast(STRINGS).combine_chunks()
