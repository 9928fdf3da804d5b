"""Tables in parquet: written with their documented schema, checked when they are read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from asdpipe.artifacts.files import written
from asdpipe.artifacts.schemas import COLUMNS, KEYS, SCHEMAS, WORDS
from asdpipe.errors import UserError, short


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


def read_facts(path: Path) -> dict[str, Any]:
    """Return the facts that ``write_table`` stored with a table.

    Raises:
        UserError: the file cannot be read, or its facts are damaged.
    """
    try:
        return dict(json.loads((pq.read_schema(path).metadata or {}).get(b"facts", b"{}")))
    except (OSError, pa.ArrowException, ValueError, TypeError):
        raise UserError(f"{path}: its facts are damaged; delete it and run again") from None


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
        if not COLUMNS[name][column].nullable:
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
