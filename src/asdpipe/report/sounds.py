"""The sounds of a report: clips as MP3, up to so many bytes in all."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import soundfile

from asdpipe.artifacts.tables import read_table
from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.errors import UserError
from asdpipe.monitor.model import Samples

# Of base64, so that a report stays below 15 MB.
MOST_BYTES = 8_000_000
LONGEST_SECONDS = 10
# Of libsndfile, 0 to 1: the higher, the smaller. 1.5 s take 5.6 kB.
COMPRESSION = 0.8


class Audio:
    """Packed clips of one or several indexes.

    Args:
        packs: (waveforms.parquet, waveforms.int16) pairs; those that are missing are left out.
        clip_ids: the clips that are wanted; None: all.
    """

    def __init__(self, packs: Sequence[tuple[Path, Path]], clip_ids: Sequence[str] | None = None) -> None:
        self._places: dict[str, tuple[Path, int, int]] = {}
        filters = None if clip_ids is None else pc.field("clip_id").isin(list(clip_ids))
        for index, samples in packs:
            if not (index.exists() and samples.exists()):
                continue
            table = read_table("waveforms", index, filters=filters)
            for row in table.itertuples():
                self._places[row.clip_id] = (samples, row.offset, row.num_samples)

    def __contains__(self, clip_id: object) -> bool:
        return clip_id in self._places

    def samples(self, clip_id: str) -> Samples:
        """Return a clip, int16 at 16 kHz, (samples,).

        Raises:
            UserError: the file of the samples is shorter than its index says.
        """
        file, offset, count = self._places[clip_id]
        clip = np.fromfile(file, dtype="<i2", offset=2 * offset, count=count)
        if len(clip) < count:
            raise UserError(f"{file}: is shorter than its index says; run the workflow again")
        return clip


class Sounds:
    """MP3 files by number; clips that are added once there is no more room have none."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.files: list[str] = []
        """In base64."""
        self._room = most_bytes
        self._numbers: dict[tuple[int, str], int | None] = {}

    @property
    def left_out(self) -> int:
        """How many clips had no room."""
        return list(self._numbers.values()).count(None)

    def add(self, audio: Audio, clip_id: str | None) -> int | None:
        """Return the number of a clip's sound; None: its audio is not there, or there is no more room."""
        if clip_id is None or clip_id not in audio:
            return None
        key = (id(audio), clip_id)
        if key not in self._numbers:
            encoded = base64.b64encode(mp3(audio.samples(clip_id))).decode() if self._room > 0 else ""
            fits = 0 < len(encoded) <= self._room
            self._numbers[key] = len(self.files) if fits else None
            if fits:
                self._room -= len(encoded)
                self.files.append(encoded)
        return self._numbers[key]

    def number(self, audio: Audio, clip_id: str) -> int | None:
        """Return the number of a sound that was added; None: it has none."""
        return self._numbers.get((id(audio), clip_id))


def mp3(samples: Samples) -> bytes:
    """Return the beginning of a clip as MP3."""
    file = io.BytesIO()
    settings = {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": COMPRESSION}
    with soundfile.SoundFile(file, "w", SAMPLE_RATE, 1, bitrate_mode="VARIABLE", **settings) as target:
        target.write(samples[: LONGEST_SECONDS * SAMPLE_RATE])
    return file.getvalue()
