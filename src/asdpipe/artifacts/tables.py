"""Parquet tables: written with a fixed schema and validated on reading."""

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
    """Write a table as parquet with the schema of its name.

    Args:
        name: key of SCHEMAS.
        frame: table with at least the columns of the schema.
        metadata: JSON-serialisable facts about the table, stored in the file.
        groups: column that splits the table into row groups, one per run of equal values, so that a reader can load
            one group alone.
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
        # Checksums detect flipped bits, which would otherwise be read as other numbers.
        options = {"compression": "zstd", "write_page_checksum": True}
        with pq.ParquetWriter(temporary, table.schema, **options) as writer:
            for start, end in zip([0, *ends], ends, strict=False):
                writer.write_table(table.slice(start, end - start))


def read_table(
    name: str, path: Path, columns: Sequence[str] | None = None, filters: pc.Expression | None = None
) -> pd.DataFrame:
    """Read a table as a DataFrame; arguments and errors as in ``read_arrow``."""
    return read_arrow(name, path, columns, filters).to_pandas()


def read_facts(path: Path) -> dict[str, Any]:
    """Return the metadata that ``write_table`` stored with a table.

    Raises:
        UserError: the file or its metadata cannot be read.
    """
    try:
        return dict(json.loads((pq.read_schema(path).metadata or {}).get(b"facts", b"{}")))
    except (OSError, pa.ArrowException, ValueError, TypeError):
        raise UserError(f"{path}: its metadata is damaged; delete it and run again") from None


def read_arrow(
    name: str,
    path: Path,
    columns: Sequence[str] | None = None,
    filters: pc.Expression | None = None,
    dictionaries: Sequence[str] = (),
) -> pa.Table:
    """Read and validate a table written by ``write_table``, as Arrow (for tables of millions of rows).

    Args:
        columns: columns to read, in this order; None reads all.
        filters: condition on the rows to read.
        dictionaries: columns to keep dictionary-encoded, which stores each value once.

    Raises:
        UserError: the file is missing, not parquet, damaged, or another table.
    """
    schema = SCHEMAS[name]
    try:
        found = pq.read_schema(path)
        missing = set(schema.names) - set(found.names)
        if missing:
            raise UserError(f"{path}: is not a table of {name}: column {', '.join(sorted(missing))} is missing")
        for field in schema:
            types = {_type_name(other.type) for other in found if other.name == field.name}
            if types != {_type_name(field.type)}:
                message = f"{field.name} is {' and '.join(sorted(types))}, not {_type_name(field.type)}"
                raise UserError(f"{path}: is not a table of {name}: {message}")
        table = pq.read_table(
            path,
            columns=list(columns or schema.names),
            filters=filters,
            read_dictionary=dictionaries,
            partitioning=None,
            page_checksum_verification=True,
        )
        # Includes a check that text is valid UTF-8.
        table.validate(full=True)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path}: cannot be read as parquet ({reason}); delete it and run again") from None
    for problem in _problems(name, table):
        raise UserError(f"{path}: is damaged: {problem}; delete it and run again")
    return table


def _type_name(data_type: pa.DataType) -> str:
    # Writers differ in how they name the elements of lists.
    return f"list of {data_type.value_type}" if pa.types.is_list(data_type) else str(data_type)


def _problems(name: str, table: pa.Table) -> Iterator[str]:
    """Yield violations of the constraints on values: nulls, NaN, empty lists, unknown words, duplicate keys."""
    for column in table.column_names:
        values, field = table[column], SCHEMAS[name].field(column)
        if not COLUMNS[name][column].nullable:
            if values.null_count:
                yield f"{values.null_count} rows have no {column}"
            if pa.types.is_floating(field.type) and pc.any(pc.is_nan(values)).as_py():
                yield f"a {column} is not a number"
        if pa.types.is_list(field.type) and pc.min(pc.list_value_length(values)).as_py() == 0:
            yield f"a list of {column} is empty"
        if column in WORDS and (unknown := set(pc.unique(values).to_pylist()) - {*WORDS[column], None}):
            yield f"{column} is {short(min(unknown))!r}, not {' or '.join(WORDS[column])}"
    key = KEYS.get(name, ())
    if key and {*key} <= {*table.column_names} and table.group_by(key).aggregate([]).num_rows < len(table):
        yield f"a {' with the same '.join(key)} is there twice"
