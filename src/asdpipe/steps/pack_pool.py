"""Decode one shard of an external pool once, packed for random access."""

import pyarrow.compute as pc

from asdpipe.artifacts.tables import read_arrow
from asdpipe.config.base import read_settings
from asdpipe.config.data import Decoding
from asdpipe.data.packing import POOL_COLUMNS, pack_clips
from asdpipe.data.pools.files import shard_digests
from asdpipe.steps.options import InFile, Number, OutFile, Settings


def pack_pool(
    settings: Settings, shard: Number, clips: InFile, samples: OutFile, index: OutFile, skipped: OutFile
) -> None:
    """Pack one shard of an external pool.

    Args:
        settings: how files are decoded.
    """
    table = read_arrow("pool_clips", clips, [*POOL_COLUMNS, "shard"], pc.field("shard") == shard)
    used = read_settings(Decoding, settings).model_dump()
    pack_clips(table.to_pandas(), samples, index, skipped, **used, contents=shard_digests(table, shard + 1)[shard])
