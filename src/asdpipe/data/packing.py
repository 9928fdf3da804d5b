"""Packing: the clips of a manifest decoded once, to 16 kHz mono, for random access; bad clips are listed."""

import logging
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd

from asdpipe.artifacts.files import write_csv, written
from asdpipe.artifacts.tables import write_table
from asdpipe.data.decoding import decoded
from asdpipe.data.reading import read_clip
from asdpipe.data.sources import sources
from asdpipe.data.waveforms import pack
from asdpipe.errors import UserError
from asdpipe.progress import Progress

MOST_LISTED = 20
POOL_COLUMNS = ("clip_id", "path", "row")

OnBadClip = Literal["fail", "skip"]

logger = logging.getLogger(__name__)


def pack_clips(
    table: pd.DataFrame,
    samples: Path,
    index: Path,
    skipped: Path,
    *,
    channel: Literal["mix"] | int,
    min_seconds: float,
    on_bad_clip: OnBadClip,
    contents: str = "",
) -> pd.DataFrame:
    """Decode clips and write samples, index and the csv of bad clips; return the index.

    Args:
        table: clip_id, path and, for clips within parquet files, row.
        channel, min_seconds: of ``read_clip``; on_bad_clip: stop at bad clips, or leave them out.
        contents: digest of the table, stored with the index.

    Raises:
        UserError: bad clips, with on_bad_clip: fail.
    """
    progress = Progress("decoding", len(table), "clip")
    read = partial(read_clip, channel=channel, min_seconds=min_seconds)
    with written(samples) as temporary, temporary.open("wb") as file:
        packed, bad = pack(decoded(sources(table), read), file, progress.advance)
        progress.close()
        leave_out(bad, len(table), on_bad_clip, skipped)
    write_table("waveforms", packed, index, {"contents": contents} if contents else None)
    return packed


def leave_out(bad: pd.DataFrame, total: int, on_bad_clip: OnBadClip, skipped: Path) -> None:
    """List bad clips (path, reason) in a csv and in the log.

    Raises:
        UserError: there are some, with on_bad_clip: fail.
    """
    listed = "\n".join(f"  {path}: {reason}" for path, reason in bad.head(MOST_LISTED).itertuples(index=False))
    if len(bad) and on_bad_clip == "fail":
        more = f"\n  and {len(bad) - MOST_LISTED} more" if len(bad) > MOST_LISTED else ""
        message = (
            f"{len(bad)} of {total} clips cannot be used:\n{listed}{more}\n"
            "Mend or remove them, or set on_bad_clip: skip to leave them out"
        )
        raise UserError(message)
    if len(bad):
        logger.warning("%d of %d clips left out, all in %s:\n%s", len(bad), total, skipped, listed)
    write_csv(bad, skipped)
