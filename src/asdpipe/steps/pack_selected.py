"""Decode the selected clips of an external pool that is not packed as a whole."""

import pyarrow.compute as pc

from asdpipe.artifacts.tables import read_arrow, read_table
from asdpipe.config.base import read_settings
from asdpipe.config.data import Decoding
from asdpipe.data.packing import POOL_COLUMNS, pack_clips
from asdpipe.steps.options import InFile, OutFile, Settings


def pack_selected(
    settings: Settings, selected: InFile, pool_clips: InFile, samples: OutFile, index: OutFile, skipped: OutFile
) -> None:
    """Pack the selected clips.

    Args:
        settings: how files are decoded.
    """
    clip_ids = read_arrow("selected", selected, ["clip_id"])["clip_id"].combine_chunks()
    table = read_table("pool_clips", pool_clips, POOL_COLUMNS, pc.field("clip_id").isin(clip_ids))
    pack_clips(table, samples, index, skipped, **read_settings(Decoding, settings).model_dump())
