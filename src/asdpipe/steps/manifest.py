"""Step 1, manifest: which clips there are."""

import logging
from pathlib import Path

import pandas as pd
import pyarrow.compute as pc
from pydantic import TypeAdapter

from asdpipe.artifacts.files import whole_folder, write_csv
from asdpipe.artifacts.tables import write_table
from asdpipe.config.data import DemoDataset, DemoPool, Listing, PoolListing
from asdpipe.steps.options import InFolder, OutFile, OutFolder, Settings, Text

logger = logging.getLogger(__name__)


def demo_dataset(settings: Settings, folder: OutFolder) -> None:
    """Generate the demo data set."""
    # Only the demo needs the generator and what it imports.
    from asdpipe.data.demo.machines import write_dataset

    dataset = DemoDataset.model_validate_json(settings)
    with whole_folder(folder) as temporary:
        write_dataset(
            temporary,
            seed=dataset.demo.seed,
            clip_seconds=dataset.clip_seconds,
            source_clips=dataset.demo.source_clips,
            target_clips=dataset.demo.target_clips,
            test_clips=dataset.demo.test_clips,
        )


def demo_pool(settings: Settings, folder: OutFolder) -> None:
    """Generate the demo's external pool."""
    from asdpipe.data.demo.pool import write_pool

    pool = DemoPool.model_validate_json(settings)
    with whole_folder(folder) as temporary:
        write_pool(
            temporary,
            seed=pool.demo.seed,
            clip_seconds=pool.clip_seconds,
            clips_per_class=pool.demo.clips_per_class,
        )


def manifest(name: Text, root: InFolder, settings: Settings, clips: OutFile, truth: Text = "") -> None:
    """List the clips of a data set.

    Args:
        name: of the data set; root: its folder; settings: uses format, year, machines, parts, check_counts,
            revealed_attributes, table.
        truth: folder with the ground truth of the evaluation test clips; "": root/ground_truth, if there.
    """
    listing: Listing = TypeAdapter(Listing).validate_json(settings)
    folder = Path(truth) if truth else None
    splits = [listing.list_clips(root, name, split, folder) for split in ("train", "test", "supplemental")]
    frame = listing.label_clips(pd.concat([each for each in splits if len(each)] or splits), root, folder)
    counts = frame.groupby(["part", "machine", "split", "domain", "is_normal"], dropna=False).size()
    logger.info("%d clips of %d machine types\n%s", len(frame), frame.machine.nunique(), counts.to_string())
    write_table("clips", frame, clips)


def manifest_pool(name: Text, root: InFolder, settings: Settings, clips: OutFile, left_out: OutFile) -> None:
    """List the clips of an external pool.

    Args:
        name: of the pool; root: its folder; settings: uses format, table, shards.
        left_out: csv of audio without label and labels without audio.
    """
    listing: PoolListing = TypeAdapter(PoolListing).validate_json(settings)
    listed, lost = listing.list_clips(root, name)
    logger.info("%d external clips with %d labels", len(listed), len(pc.unique(pc.list_flatten(listed["mids"]))))
    for reason, count in lost.reason.value_counts().items():
        logger.warning("%s: %d left out (%s), listed in %s", root, count, reason, left_out)
    write_csv(lost, left_out)
    write_table("pool_clips", listed, clips, groups="shard")
