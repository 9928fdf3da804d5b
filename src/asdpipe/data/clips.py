"""Manifests: one row per audio file, with the facts that folder and file name give."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asdpipe.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})
# Network disks have high latency, but serve many requests in parallel.
READERS = 8
logger = logging.getLogger(__name__)


def audio_files(folder: Path) -> Iterator[Path]:
    """Yield the audio files of a folder in the order of their names; hidden files are left out."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("."):
            yield path


def unread_files(folders: Iterable[Path]) -> str:
    """Count the files that are not read, e.g. "3 .m4a, 1 .txt, such as fan/train/a.m4a"; "" if there are none.

    Hidden files and sub-folders do not count.
    """
    counts: Counter[str] = Counter()
    examples: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.iterdir()):
            suffix = path.suffix.lower()
            if suffix not in AUDIO_SUFFIXES and not path.name.startswith(".") and path.is_file():
                counts[suffix] += 1
                examples.setdefault(suffix, path)
    if not counts:
        return ""
    numbers = ", ".join(f"{count} {suffix or 'without an ending'}" for suffix, count in counts.most_common())
    return f"{numbers}, such as {examples[counts.most_common(1)[0][0]]}"


def warn_of_unread_files(root: Path, split: str, folders: Iterable[Path]) -> None:
    """Log how many files below the folders of a split are not read, by ending."""
    if unread := unread_files(folders):
        endings = ", ".join(sorted(AUDIO_SUFFIXES))
        logger.warning("%s: %s files that are not read: %s; only %s are", root, split, unread, endings)


def in_order(clips: "pd.DataFrame", keys: Sequence[tuple[Any, ...]]) -> "pd.DataFrame":
    """Return the rows sorted by ``keys``, one per row; rows with equal keys keep their order.

    Integers that were read from parquet as floats become nullable integers again.
    """
    order = sorted(range(len(clips)), key=keys.__getitem__)
    types = {"sample_rate": "Int32", "num_frames": "Int64"}
    return clips.iloc[order].reset_index(drop=True).astype(types)


def digest(rows: Iterable[Hashable]) -> str:
    """Return a short digest of rows of JSON values in any order; "" if there are none."""
    lines = sorted(json.dumps(row, sort_keys=True) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] if lines else ""


def check_folder_name(folder: Path) -> None:
    """Refuse folder names that Snakemake or csv files cannot contain.

    Raises:
        UserError: names the folder.
    """
    # Snakemake reads braces as wildcards and warns about outer spaces; in csv files backslashes separate folders.
    name = folder.name
    if not name.isprintable() or name != name.strip() or set(name) & set("\\{}"):
        message = (
            f"{str(folder)!r}: the name of a folder must not have braces, backslashes, control characters, "
            "or spaces at its ends, and must be UTF-8; rename it"
        )
        raise UserError(message)


def check_file_names(root: Path, clip_ids: Iterable[str]) -> None:
    """Refuse file names that are not UTF-8; parquet cannot store them.

    Raises:
        UserError: names the file.
    """
    for clip_id in clip_ids:
        try:
            clip_id.encode()
        except UnicodeEncodeError:
            raise UserError(f"{root}: the file name {clip_id!r} is not UTF-8; rename the file") from None


def add_headers(clips: "pd.DataFrame", paths: Sequence[Path]) -> "pd.DataFrame":
    """Return the manifest with sample_rate and num_frames; null where the header cannot be read."""
    # Planning imports this module, but needs no libsndfile, and what scores new recordings no pandas.
    import pandas as pd

    from asdpipe.data.reading import BadClip, Header, read_header

    def header(path: Path) -> Header | None:
        try:
            return read_header(path)
        except BadClip:
            # Packing reports bad clips, or leaves them out.
            return None

    with ThreadPoolExecutor(READERS) as readers:
        headers = list(readers.map(header, paths))
    return clips.assign(
        sample_rate=pd.array([each and each.sample_rate for each in headers], dtype="Int32"),
        num_frames=pd.array([each and each.num_frames for each in headers], dtype="Int64"),
    )
