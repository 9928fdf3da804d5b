"""Manifests: one row per audio file, with what its place and name say."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from asdpipe.data.waveforms import BadClip, Header, read_header
from asdpipe.errors import UserError

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})
# Network disks answer slowly but many at a time.
READERS = 8


def audio_files(folder: Path) -> Iterator[Path]:
    """Yield the audio files of a folder in the order of their names; hidden files are left out."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("."):
            yield path


def check_folder_name(folder: Path) -> None:
    """Refuse folders whose names the workflow cannot take.

    Raises:
        UserError: names the folder.
    """
    # Snakemake reads braces as wildcards and warns of outer spaces; backslashes separate folders in csvs.
    name = folder.name
    if not name.isprintable() or name != name.strip() or set(name) & set("\\{}"):
        message = (
            f"{str(folder)!r}: the name of a folder must not have braces, backslashes, control characters, "
            "or spaces at its ends, and must be UTF-8; rename it"
        )
        raise UserError(message)


def check_file_names(root: Path, clip_ids: Iterable[str]) -> None:
    """Refuse names that no table can hold.

    Raises:
        UserError: names the file.
    """
    for clip_id in clip_ids:
        try:
            clip_id.encode()
        except UnicodeEncodeError:
            raise UserError(f"{root}: the file name {clip_id!r} is not UTF-8; rename the file") from None


def add_headers(clips: pd.DataFrame, paths: Sequence[Path]) -> pd.DataFrame:
    """Return the manifest with sample_rate and num_frames; null where the header cannot be read."""
    with ThreadPoolExecutor(READERS) as readers:
        headers = list(readers.map(_header, paths))
    return clips.assign(
        sample_rate=pd.array([header and header.sample_rate for header in headers], dtype="Int32"),
        num_frames=pd.array([header and header.num_frames for header in headers], dtype="Int64"),
    )


def _header(path: Path) -> Header | None:
    try:
        return read_header(path)
    except BadClip:
        # The features step decides what becomes of bad clips, and says why they are bad.
        return None
