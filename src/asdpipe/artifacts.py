"""The artifacts: their columns, how they are written (whole or not at all), and their digests."""

import errno
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from asdpipe.errors import UserError, short


def _schema(**columns: tuple[pa.DataType, str]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, metadata={"doc": doc}) for name, (kind, doc) in columns.items()])


_CLIP = {
    "clip_id": (pa.string(), "path below the root of the data set or pool; unique"),
    "path": (pa.string(), "path of the audio file"),
}
_MACHINE = {"machine": (pa.string(), "machine type")}
_SCORE = {"score": (pa.float64(), "anomaly score, -max cosine; larger is more anomalous (eq. 6)")}
_CLIP_ID = {"clip_id": _CLIP["clip_id"]}

SCHEMAS: dict[str, pa.Schema] = {
    "clips": _schema(
        **_CLIP,
        dataset=(pa.string(), "data set"),
        **_MACHINE,
        section=(pa.string(), "section, two digits"),
        domain=(pa.string(), "source or target; null when unknown"),
        split=(pa.string(), "train, test, or supplemental (2025: clean or noise clips that nothing is trained on)"),
        part=(pa.string(), "dev or eval"),
        is_normal=(pa.bool_(), "label; null when unknown"),
        attributes=(pa.string(), "operating state as in the file name; null when unknown"),
        sample_rate=(pa.int32(), "of the file, in Hz; null when its header cannot be read"),
        num_frames=(pa.int64(), "of the file; null when its header cannot be read"),
    ),
    "pool_clips": _schema(
        **_CLIP,
        dataset=(pa.string(), "pool"),
        shard=(pa.int32(), "part of the pool that is packed and scored together"),
        mids=(pa.list_(pa.string()), "labels in the order of the segments csv"),
        display_names=(pa.list_(pa.string()), "their names"),
        row=(pa.int32(), "row within a parquet file of clips; null where the path is the clip's own file"),
    ),
    "waveforms": _schema(
        **_CLIP_ID,
        offset=(pa.int64(), "first sample in waveforms.int16"),
        num_samples=(pa.int64(), "length at 16 kHz"),
    ),
    "skipped": _schema(
        path=(pa.string(), "path of the audio file"),
        reason=(pa.string(), "why it was left out"),
    ),
    "labels": _schema(
        **_CLIP_ID,
        origin=(pa.string(), "original or external: the namespace of the class"),
        **_MACHINE,
        domain=(pa.string(), "source or target; external clips count as source"),
        class_name=(pa.string(), "name of the class within its namespace"),
        class_index=(pa.int32(), "index of the class, by namespace and name"),
    ),
    "embeddings": _schema(
        **_CLIP_ID,
        embedding=(
            pa.list_(pa.float32()),
            "z_cat; raw_logmel: statistics of the log-mel spectrogram; autoencoder: mean squared error and squared "
            "Mahalanobis distances to source and target (NaN: no target clips)",
        ),
    ),
    "representatives": _schema(
        **_MACHINE,
        domain=(pa.string(), "source or target"),
        representative=(pa.int32(), "index within the machine type"),
        clip_id=(pa.string(), "the clip that is its own representative, or the training clip nearest the centroid"),
        threshold=(
            pa.float64(),
            "largest score of the machine type's training clips: external clips below it may be taken",
        ),
        vector=(pa.list_(pa.float32()), "the representative"),
    ),
    "scores": _schema(
        **_CLIP_ID,
        **_SCORE,
        representative=(pa.int32(), "index of the machine type's nearest representative (or reference); null: none"),
        nearest_clip_id=(pa.string(), "training clip behind it; null: the score compares with none"),
    ),
    "thresholds": _schema(
        **_MACHINE,
        threshold=(pa.float64(), "largest score of the machine type's training clips"),
        decision_threshold=(pa.float64(), "score above which a clip is called anomalous"),
    ),
    "external_scores": _schema(**_CLIP_ID, **_MACHINE, **_SCORE),
    "selected": _schema(
        **_CLIP,
        mid=(pa.string(), "label: the first one listed"),
        display_name=(pa.string(), "its name"),
        **_MACHINE,
        score=(pa.float64(), "anomaly score for that machine type; null when drawn at random"),
        rank=(pa.int32(), "1 for the machine type's most similar clip"),
        shard=(pa.int32(), "where the clip is packed"),
    ),
    "pseudo_labels": _schema(
        **_CLIP_ID,
        **_MACHINE,
        domain=(pa.string(), "source or target"),
        cluster=(pa.int32(), "index within machine type and domain"),
    ),
}

# Words that a column of this name may hold, in every table.
WORDS = {
    "domain": ("source", "target"),
    "split": ("train", "test", "supplemental"),
    "part": ("dev", "eval"),
    "origin": ("original", "external"),
}
# Columns that tell the rows of a table apart. Pools may have millions of rows, and are not checked.
KEYS = {
    **dict.fromkeys(("clips", "embeddings", "scores", "pseudo_labels", "selected"), "clip_id"),
    "thresholds": "machine",
}


def write_table(
    name: str,
    frame: pd.DataFrame | pa.Table,
    path: Path,
    metadata: Mapping[str, Any] | None = None,
    groups: str | None = None,
) -> None:
    """Write a table as parquet with its documented schema.

    Args:
        name: key of SCHEMAS; the frame must have these columns.
        metadata: JSON-able facts about the table, stored in the file.
        groups: column whose runs of equal values are stored apart, so that one is read without the others.
    """
    schema = SCHEMAS[name]
    if isinstance(frame, pa.Table):
        table = frame.select(schema.names).cast(schema)
    else:
        table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
    table = table.replace_schema_metadata({"table": name, "facts": json.dumps(metadata or {}, sort_keys=True)})
    values = table[groups].to_numpy() if groups else np.zeros(len(table))
    ends = [*(np.flatnonzero(values[1:] != values[:-1]) + 1).tolist(), len(table)]
    with written(path) as temporary:
        # Without checksums a flipped bit is another number.
        options = {"compression": "zstd", "write_page_checksum": True}
        with pq.ParquetWriter(temporary, table.schema, **options) as writer:
            for start, end in zip([0, *ends], ends, strict=False):
                writer.write_table(table.slice(start, end - start))


def read_table(
    name: str, path: Path, columns: Sequence[str] | None = None, filters: pc.Expression | None = None
) -> pd.DataFrame:
    """Read a table written by ``write_table``; arguments and errors are those of ``read_arrow``."""
    return read_arrow(name, path, columns, filters).to_pandas()


def read_arrow(
    name: str,
    path: Path,
    columns: Sequence[str] | None = None,
    filters: pc.Expression | None = None,
    dictionaries: Sequence[str] = (),
) -> pa.Table:
    """Read a table written by ``write_table``, for tables of millions of rows.

    Args:
        columns: only these, in this order; none: all.
        filters: only rows for which this holds.
        dictionaries: columns that stay encoded, each value held once.

    Raises:
        UserError: the file is missing, is not parquet, is damaged, or holds another table.
    """
    schema = SCHEMAS[name]
    try:
        found = pq.read_schema(path)
        missing = set(schema.names) - set(found.names)
        if missing:
            raise UserError(f"{path}: is not a table of {name}: column {', '.join(sorted(missing))} is missing")
        for field in schema:
            kinds = {_kind(each.type) for each in found if each.name == field.name}
            if kinds != {_kind(field.type)}:
                message = f"{field.name} is {' and '.join(sorted(kinds))}, not {_kind(field.type)}"
                raise UserError(f"{path}: is not a table of {name}: {message}")
        table = pq.read_table(
            path,
            columns=list(columns or schema.names),
            filters=filters,
            read_dictionary=dictionaries,
            partitioning=None,
            page_checksum_verification=True,
        )
        # Also that text is UTF-8.
        table.validate(full=True)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path}: cannot be read as parquet ({reason}); delete it and run again") from None
    for problem in _problems(name, table):
        raise UserError(f"{path}: is damaged: {problem}; delete it and run again")
    return table


def _kind(kind: pa.DataType) -> str:
    # Writers call the elements of lists differently.
    return f"list of {kind.value_type}" if pa.types.is_list(kind) else str(kind)


def _problems(name: str, table: pa.Table) -> Iterator[str]:
    """Yield what ``write_table`` never writes."""
    for column in table.column_names:
        values, field = table[column], SCHEMAS[name].field(column)
        # What may be null says so in its documentation.
        if b"null" not in field.metadata[b"doc"]:
            if values.null_count:
                yield f"{values.null_count} rows have no {column}"
            if pa.types.is_floating(field.type) and pc.any(pc.is_nan(values)).as_py():
                yield f"a {column} is not a number"
        if pa.types.is_list(field.type) and pc.min(pc.list_value_length(values)).as_py() == 0:
            yield f"a list of {column} is empty"
        if column in WORDS and (strange := set(pc.unique(values).to_pylist()) - {*WORDS[column], None}):
            yield f"{column} is {short(min(strange))!r}, not {' or '.join(WORDS[column])}"
    key = KEYS.get(name)
    if key in table.column_names and len(pc.unique(table[key])) < len(table):
        yield f"a {key} is there twice"


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a final table as csv, numbers with four decimals."""
    with written(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.4f", lineterminator="\n")


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` and rename it when the block ends well; else remove it."""
    with space_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in _leftovers(path):
            leftover.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        with space_for(path):
            yield temporary
            # mkstemp makes files private; results are as readable as other files of the user.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``folder`` and rename it when the block ends well; else remove it."""
    with space_for(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        for leftover in _leftovers(folder):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with space_for(folder):
            yield temporary
            temporary.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def space_for(path: Path) -> Iterator[None]:
    """Say of what is written to ``path`` that the disk is full; other errors pass.

    Raises:
        UserError: it is.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError):
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        else:
            # libsndfile does not tell what went wrong.
            full = shutil.disk_usage(next(each for each in path.absolute().parents if each.exists())).free == 0
        if not full:
            raise
        message = (
            f"{path}: cannot be written, the disk is full (or your share of it): make room there and run again; "
            "what was finished before is kept"
        )
        raise UserError(message) from error


def _leftovers(path: Path) -> Iterator[Path]:
    """Return what processes that were killed while they wrote ``path`` left beside it."""
    # The eight characters are those of tempfile.
    return path.parent.glob(f".{glob.escape(path.name)}.????????")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
