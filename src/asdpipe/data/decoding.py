"""Decode the clips of a manifest to 16 kHz samples, prefetching in threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from asdpipe.data.audio import to_int16
from asdpipe.data.waveforms import BadClip, Decoded, Source

# Decoded clips per thread that may wait: enough to keep a GPU busy, little memory.
PREFETCH = 8
ROWS_AT_ONCE = 16
BUFFER = 1 << 20


class Clip(NamedTuple):
    """A clip before decoding."""

    clip_id: str
    name: str
    """Its name in messages."""
    source: Source | BadClip


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


def decoded(
    clips: Iterable[Clip], read: Callable[[Source], NDArray[np.float32]], threads: int = 1
) -> Iterator[Decoded]:
    """Yield every clip decoded, in order.

    Args:
        read: returns 16 kHz mono float32 samples, or raises BadClip.
        threads: number of threads that decode while the caller processes finished clips.
    """

    def decode(clip: Clip) -> Decoded:
        if isinstance(clip.source, BadClip):
            return Decoded(clip.clip_id, clip.name, clip.source)
        try:
            return Decoded(clip.clip_id, clip.name, to_int16(read(clip.source)))
        except BadClip as reason:
            return Decoded(clip.clip_id, clip.name, reason)

    waiting: deque[Future[Decoded]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for clip in clips:
            waiting.append(pool.submit(decode, clip))
            if len(waiting) > PREFETCH * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
