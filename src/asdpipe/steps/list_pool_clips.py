"""List the clips of an external pool."""

import json
import logging

import pyarrow.compute as pc

from asdpipe.artifacts.files import write_csv, written
from asdpipe.artifacts.tables import write_table
from asdpipe.config.base import read_settings
from asdpipe.config.pools import PoolListing
from asdpipe.data.pools.files import shard_digests
from asdpipe.steps.options import InFolder, OutFile, Settings, Text

logger = logging.getLogger(__name__)


def list_pool_clips(
    name: Text, root: InFolder, settings: Settings, clips: OutFile, shards: OutFile, left_out: OutFile
) -> None:
    """List the clips of an external pool.

    Args:
        name: of the pool; root: its folder; settings: of its listing.
        shards: JSON, a digest of the clips of every shard.
        left_out: csv of audio without label and labels without audio.
    """
    listing = read_settings(PoolListing, settings)
    listed, lost = listing.list_clips(root, name)
    logger.info("%d external clips with %d labels", len(listed), len(pc.unique(pc.list_flatten(listed["mids"]))))
    for reason, count in lost.reason.value_counts().items():
        logger.warning("%s: %d left out (%s), listed in %s", root, count, reason, left_out)
    write_csv(lost, left_out)
    write_table("pool_clips", listed, clips, groups="shard")
    with written(shards) as temporary:
        temporary.write_text(json.dumps(shard_digests(listed, listing.shards)) + "\n")
