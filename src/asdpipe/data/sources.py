"""The clips of a manifest, before decoding: audio files, and rows of parquet files."""

from collections import deque
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from asdpipe.data.decoding import Clip
from asdpipe.data.reading import BadClip

ROWS_AT_ONCE = 16
BUFFER = 1 << 20


def sources(manifest: pd.DataFrame) -> Iterator[Clip]:
    """Yield the clips of a manifest in its order.

    Args:
        manifest: clip_id, path, and, if the table has it, row: within a parquet file whose column ``audio`` holds
            the contents of audio files, as binary or as a struct with ``bytes``.
    """
    rows = manifest["row"] if "row" in manifest else pd.Series(pd.NA, index=manifest.index)
    columns = zip(manifest.clip_id, manifest.path, rows.astype("Int64"), strict=True)
    for (path, is_file), clips in groupby(columns, lambda clip: (clip[1], pd.isna(clip[2]))):
        if is_file:
            yield from (Clip(clip_id, path, Path(path)) for clip_id, _, _ in clips)
        else:
            yield from _from_parquet(Path(path), [(clip_id, int(row)) for clip_id, _, row in clips])


def _from_parquet(path: Path, clips: list[tuple[str, int]]) -> Iterator[Clip]:
    """Yield clips (clip_id, row) of a parquet file by their rows, reading only the row groups that hold them."""
    wanted = deque(sorted(clips, key=lambda clip: clip[1]))
    reason = BadClip("its row of the parquet file holds no audio")
    while wanted and wanted[0][1] < 0:
        clip_id, row = wanted.popleft()
        yield Clip(clip_id, f"{path} row {row}", reason)
    try:
        with pq.ParquetFile(path, buffer_size=BUFFER) as file:
            end = 0
            for group in range(file.num_row_groups):
                start, end = end, end + file.metadata.row_group(group).num_rows
                if not wanted or wanted[0][1] >= end:
                    continue
                for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=["audio"]):
                    audio = batch.column(0)
                    contents = pc.struct_field(audio, "bytes") if pa.types.is_struct(audio.type) else audio
                    contents = contents.cast(pa.binary())
                    while wanted and wanted[0][1] < start + len(batch):
                        clip_id, row = wanted.popleft()
                        yield Clip(clip_id, f"{path} row {row}", contents[row - start].as_py() or reason)
                    start += len(batch)
    except (OSError, pa.ArrowException) as error:
        reason = BadClip(f"the parquet file cannot be read ({str(error).partition(chr(10))[0]})")
    # Rows that a damaged file does not yield are bad clips; the caller counts and lists them.
    yield from (Clip(clip_id, f"{path} row {row}", reason) for clip_id, row in wanted)
