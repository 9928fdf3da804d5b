"""Step 2, features: decode every clip once, to 16 kHz mono, packed for random access."""

import logging
from functools import partial
from pathlib import Path

import pandas as pd

from asdpipe.artifacts import read_table, write_csv, write_table, written
from asdpipe.config import Decoding
from asdpipe.data.waveforms import pack, read_clip
from asdpipe.errors import UserError
from asdpipe.progress import Progress
from asdpipe.steps.options import InFile, Number, OutFile, Settings

MOST_LISTED = 20

logger = logging.getLogger(__name__)


def features(settings: Settings, clips: InFile, samples: OutFile, index: OutFile, skipped: OutFile) -> None:
    """Pack the clips of a data set.

    Args:
        settings: uses channel, min_seconds, on_bad_clip.

    Raises:
        UserError: bad clips, with on_bad_clip: fail; or a machine type without a good training clip.
    """
    table = read_table("clips", clips)
    packed = _pack(table, settings, samples, index, skipped)
    good = table[table.clip_id.isin(packed.clip_id) & (table.split == "train")]
    for machine in sorted(set(table.machine) - set(good.machine)):
        raise UserError(f"{machine}: every training clip is bad, see {skipped}; there is nothing to train it on")


def features_pool(
    settings: Settings, shard: Number, clips: InFile, samples: OutFile, index: OutFile, skipped: OutFile
) -> None:
    """Pack one shard of an external pool."""
    table = read_table("pool_clips", clips)
    _pack(table[table.shard == shard], settings, samples, index, skipped)


def _pack(table: pd.DataFrame, settings: str, samples: Path, index: Path, skipped: Path) -> pd.DataFrame:
    decoding = Decoding.model_validate_json(settings)
    progress = Progress("decoding", len(table), "clip")
    paths = [(clip_id, Path(path)) for clip_id, path in zip(table.clip_id, table.path, strict=True)]
    read = partial(read_clip, channel=decoding.channel, min_seconds=decoding.min_seconds)
    with written(samples) as temporary, temporary.open("wb") as file:
        packed, bad = pack(paths, read, file, progress.advance)
        progress.close()
        listed = "\n".join(f"  {path}: {reason}" for path, reason in bad.head(MOST_LISTED).itertuples(index=False))
        if len(bad) and decoding.on_bad_clip == "fail":
            more = f"\n  and {len(bad) - MOST_LISTED} more" if len(bad) > MOST_LISTED else ""
            message = (
                f"{len(bad)} of {len(table)} clips cannot be used:\n{listed}{more}\n"
                "Mend or remove them, or set on_bad_clip: skip to leave them out"
            )
            raise UserError(message)
        if len(bad):
            logger.warning("%d of %d clips left out, all in %s:\n%s", len(bad), len(table), skipped, listed)
    write_table("waveforms", packed, index)
    write_csv(bad, skipped)
    return packed
