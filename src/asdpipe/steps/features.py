"""Step 2, features: decode clips once, to 16 kHz mono, packed for random access."""

import logging
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow.compute as pc

from asdpipe.artifacts.files import write_csv, written
from asdpipe.artifacts.tables import read_arrow, read_table, write_table
from asdpipe.config.data import Decoding
from asdpipe.data.decoding import decoded, sources
from asdpipe.data.waveforms import pack, read_clip
from asdpipe.errors import UserError
from asdpipe.progress import Progress
from asdpipe.steps.options import InFile, Number, OutFile, Settings

MOST_LISTED = 20
POOL_COLUMNS = ("clip_id", "path", "row")

logger = logging.getLogger(__name__)


def features(settings: Settings, clips: InFile, samples: OutFile, index: OutFile, skipped: OutFile) -> None:
    """Pack the training and test clips of a data set.

    Args:
        settings: uses channel, min_seconds, on_bad_clip.

    Raises:
        UserError: bad clips, with on_bad_clip: fail; or a machine type without a good training clip.
    """
    table = read_table("clips", clips)
    table = table[table.split != "supplemental"]
    train = table[table.split == "train"]
    for machine in sorted(set(table.machine) - set(train.machine)):
        message = f"{machine}: has no training clips; add some, or leave it out of the data set's machines"
        raise UserError(message)
    packed = _pack(table, settings, samples, index, skipped)
    good = train[train.clip_id.isin(packed.clip_id)]
    for machine in sorted(set(table.machine) - set(good.machine)):
        raise UserError(f"{machine}: every training clip is bad, see {skipped}; there is nothing to train it on")


def features_pool(
    settings: Settings, shard: Number, clips: InFile, samples: OutFile, index: OutFile, skipped: OutFile
) -> None:
    """Pack one shard of an external pool."""
    table = read_table("pool_clips", clips, POOL_COLUMNS, pc.field("shard") == shard)
    _pack(table, settings, samples, index, skipped)


def features_selected(
    settings: Settings, selected: InFile, pool_clips: InFile, samples: OutFile, index: OutFile, skipped: OutFile
) -> None:
    """Pack the selected clips of an external pool that is not packed as a whole."""
    clip_ids = read_arrow("selected", selected, ["clip_id"])["clip_id"].combine_chunks()
    table = read_table("pool_clips", pool_clips, POOL_COLUMNS, pc.field("clip_id").isin(clip_ids))
    _pack(table, settings, samples, index, skipped)


def leave_out(bad: pd.DataFrame, total: int, decoding: Decoding, skipped: Path) -> None:
    """List bad clips (path, reason) in a csv and in the log.

    Raises:
        UserError: there are some, with on_bad_clip: fail.
    """
    listed = "\n".join(f"  {path}: {reason}" for path, reason in bad.head(MOST_LISTED).itertuples(index=False))
    if len(bad) and decoding.on_bad_clip == "fail":
        more = f"\n  and {len(bad) - MOST_LISTED} more" if len(bad) > MOST_LISTED else ""
        message = (
            f"{len(bad)} of {total} clips cannot be used:\n{listed}{more}\n"
            "Mend or remove them, or set on_bad_clip: skip to leave them out"
        )
        raise UserError(message)
    if len(bad):
        logger.warning("%d of %d clips left out, all in %s:\n%s", len(bad), total, skipped, listed)
    write_csv(bad, skipped)


def _pack(table: pd.DataFrame, settings: str, samples: Path, index: Path, skipped: Path) -> pd.DataFrame:
    decoding = Decoding.model_validate_json(settings)
    progress = Progress("decoding", len(table), "clip")
    read = partial(read_clip, channel=decoding.channel, min_seconds=decoding.min_seconds)
    with written(samples) as temporary, temporary.open("wb") as file:
        packed, bad = pack(decoded(sources(table), read), file, progress.advance)
        progress.close()
        leave_out(bad, len(table), decoding, skipped)
    write_table("waveforms", packed, index)
    return packed
