"""External pools of any audio files with a csv of labels."""

import csv
import itertools
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa

from asdpipe.data.pools.files import STRINGS, left_out, list_audio, pool_clips, watched
from asdpipe.errors import UserError, short


def list_clips(
    root: Path,
    pool: str,
    shards: int,
    *,
    file: str = "labels.csv",
    clip_column: str = "file",
    label_column: str = "label",
) -> tuple[pa.Table, pd.DataFrame]:
    """Return the manifest of a pool, and what is left out (clip: path, or what the csv says; reason).

    Args:
        shards: parts that are packed and scored separately.
        file: the csv, below ``root``.
        clip_column: names clips by path below ``root``, else by name, else without the suffix.
        label_column: labels, separated by ; or ,.

    Raises:
        UserError: the folder, the csv or a column is missing, or the pool has no clip with a label.
    """
    clip_folders(root, file)
    named = _read(root / file, {"clip_column": clip_column, "label_column": label_column})
    audio = list_audio(root, root)
    files = audio.select(["clip_id", "name"]).to_pandas()
    row = pd.Series(pd.NA, index=named.index, dtype="Int64")
    ambiguous = pd.Series(False, index=named.index)
    for key in (files.clip_id, files["name"], files["name"].str.replace(r"\.[^.]*$", "", regex=True)):
        several = key.duplicated(keep=False)
        ambiguous |= row.isna() & named.file.isin(key[several])
        alone = key[~several]
        row = row.fillna(named.file.map(pd.Series(alone.index, index=alone, dtype="Int64")))
    labelled = named.labels.str.len() > 0
    again = row.notna() & row.where(labelled).duplicated() & labelled
    kept = named.assign(row=row)[row.notna() & labelled & ~again].sort_values("row")
    if kept.empty:
        message = (
            f"{root}: the external pool is empty: {len(files)} audio files, {len(named)} rows in {file}, "
            "none in both; fill it, or set the data set's pool to null to do without external clips"
        )
        raise UserError(message)
    lost = {
        "row without a label": named.file[~labelled],
        "row without an audio file": named.file[labelled & row.isna() & ~ambiguous],
        "row that fits several audio files: give the path": named.file[labelled & row.isna() & ambiguous],
        "another row of a clip": named.file[again],
        "audio without a row": files.clip_id.drop(kept.row),
    }
    clips = audio.take(pa.array(kept.row, pa.int64())).append_column("mids", pa.array(kept.labels, STRINGS))
    lists = {reason: pa.array(each, pa.string()) for reason, each in lost.items()}
    return pool_clips(pool, clips, {}, shards), left_out(lists)


def clip_folders(root: Path, file: str) -> list[str]:
    """Return the folders of the audio and the csv, whose modification time changes when clips or labels change.

    Raises:
        UserError: the folder or the csv is missing.
    """
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder")
    if not (root / file).is_file():
        raise UserError(f"{root / file}: there is no such file; it gives the labels of the clips (table.file)")
    return [*watched(root), str(root / file)]


def _read(file: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """Return the clips and lists of labels of a csv, from the columns clip_column and label_column."""
    clips, labels = [], []
    with file.open(newline="", encoding="utf-8-sig") as lines:
        try:
            # Excel separates by semicolons or tabs where the comma is the decimal sign.
            first = next(lines, "")
            rows = csv.DictReader(
                itertools.chain([first], lines), delimiter=max(",;\t", key=first.count), skipinitialspace=True
            )
            for key, column in columns.items():
                if column not in (rows.fieldnames or ()):
                    found = ", ".join(rows.fieldnames or ()) or "nothing"
                    raise UserError(f"{file}: has no column {column!r} but {short(found)}; set table.{key}")
            for row in rows:
                if None in row or None in row.values():
                    message = "as many cells as the first line expected; quote labels that hold commas"
                    raise UserError(f"{file}, line {rows.line_num}: {message}")
                clips.append(row[columns["clip_column"]].strip().replace("\\", "/").removeprefix("./"))
                labels.append([each for each in re.split(r"\s*[;,]\s*", row[columns["label_column"]].strip()) if each])
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{file}, after line {len(clips) + 1}: cannot be read as csv ({error})") from None
    return pd.DataFrame({"file": pd.Series(clips, dtype="str"), "labels": pd.Series(labels, dtype=object)})
