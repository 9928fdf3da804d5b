"""Pack decoded clips into one memory-mapped file."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from asdpipe.artifacts.tables import read_arrow
from asdpipe.data.decoding import Decoded
from asdpipe.data.reading import BadClip
from asdpipe.errors import UserError


def pack(clips: Iterable[Decoded], file: BinaryIO, done: Callable[[int], None]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Append the samples of decoded clips to a file, in their order.

    Args:
        done: called with 1 after every clip.

    Returns:
        Index of the packed clips (clip_id, offset, num_samples), and the bad ones (path, reason).
    """
    packed, bad = [], []
    offset = 0
    for clip_id, name, samples in clips:
        done(1)
        if isinstance(samples, BadClip):
            bad.append((name, str(samples)))
            continue
        file.write(samples.astype("<i2").tobytes())
        packed.append((clip_id, offset, len(samples)))
        offset += len(samples)
    return (
        pd.DataFrame(packed, columns=["clip_id", "offset", "num_samples"]),
        pd.DataFrame(bad, columns=["path", "reason"]),
    )


class Waveforms:
    """Random access to packed waveforms without loading them.

    ``clip_ids[i]`` names clip ``i``; ``self[i]`` are its int16 samples.

    Args:
        packs: (waveforms.parquet, waveforms.int16) pairs; several are read as one.
        of_pool: the clips of the second pack (the pool's first) on that are wanted; none: all.

    Raises:
        UserError: an index does not fit its samples.
    """

    def __init__(self, packs: Sequence[tuple[Path, Path]], of_pool: Sequence[str] | None = None) -> None:
        self._samples: list[NDArray[np.int16]] = []
        wanted = None if of_pool is None else pa.array(of_pool, pa.string())
        tables = []
        for number, (index, samples) in enumerate(packs):
            table = read_arrow("waveforms", index)
            expected = (pc.sum(table["num_samples"]).as_py() or 0) * 2
            if samples.stat().st_size != expected:
                message = f"{samples}: has {samples.stat().st_size} bytes, {index} says {expected}; delete both"
                raise UserError(message)
            offset, length = (table[column].to_numpy() for column in ("offset", "num_samples"))
            if (length < 1).any() or (offset != np.cumsum(length) - length).any():
                raise UserError(f"{index}: is damaged: clips do not follow one another; delete it and {samples}")
            self._samples.append(np.memmap(samples, dtype="<i2", mode="r") if expected else np.zeros(0, dtype=np.int16))
            if number and wanted is not None:
                # A pool has millions of clips; a stage uses a few thousand of them.
                table = table.filter(pc.is_in(table["clip_id"], wanted))
            tables.append(table.append_column("pack", pa.repeat(number, len(table))))
        merged = pa.concat_tables(tables)
        self.clip_ids: NDArray[np.object_] = merged["clip_id"].to_numpy()
        self.lengths = merged["num_samples"].to_numpy()
        self._pack, self._offset = merged["pack"].to_numpy(), merged["offset"].to_numpy()

    def __len__(self) -> int:
        return len(self.clip_ids)

    def __iter__(self) -> Iterator[NDArray[np.int16]]:
        return (self[clip] for clip in range(len(self)))

    def __getitem__(self, clip: int) -> NDArray[np.int16]:
        start = self._offset[clip]
        return self._samples[self._pack[clip]][start : start + self.lengths[clip]]

    @property
    def in_pool(self) -> NDArray[np.bool_]:
        """Whether each clip (clips,) belongs to the second pack or a later one."""
        return self._pack > 0

    def rows(self, clip_ids: Sequence[str], in_first_pack: Sequence[bool]) -> NDArray[np.int64]:
        """Return the position of each clip.

        Args:
            clip_ids: names of the clips.
            in_first_pack: whether the clip belongs to the first pack (the data set) or to a later one (the pool);
                names are unique only within each.

        Raises:
            KeyError: a clip was not packed.
        """
        keys = zip(~self.in_pool, self.clip_ids, strict=True)
        position = {(bool(first), clip_id): row for row, (first, clip_id) in enumerate(keys)}
        return np.array(
            [position[bool(key[0]), key[1]] for key in zip(in_first_pack, clip_ids, strict=True)], dtype=int
        )
