"""Manifests: one row per audio file, with what its place and name say."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from asdpipe.data.waveforms import BadClip, read_header

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})


def audio_files(folder: Path, recursive: bool = False) -> Iterator[Path]:
    """Yield the audio files of a folder in the order of their names; hidden files are left out."""
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("."):
            yield path


def add_headers(clips: pd.DataFrame, paths: Sequence[Path]) -> pd.DataFrame:
    """Return the manifest with sample_rate and num_frames; null where the header cannot be read."""
    rates: list[int | None] = []
    frames: list[int | None] = []
    for path in paths:
        try:
            header = read_header(path)
        except BadClip:
            # The features step decides what becomes of bad clips, and says why they are bad.
            rates.append(None)
            frames.append(None)
        else:
            rates.append(header.sample_rate)
            frames.append(header.num_frames)
    return clips.assign(
        sample_rate=pd.array(rates, dtype="Int32"),
        num_frames=pd.array(frames, dtype="Int64"),
    )
