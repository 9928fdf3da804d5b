"""List the clips of one split of a data set."""

import logging
from pathlib import Path

from asdpipe.artifacts.tables import write_table
from asdpipe.config.base import read_settings
from asdpipe.config.listings import Listing
from asdpipe.steps.options import InFolder, OutFile, Settings, Text

logger = logging.getLogger(__name__)


def list_clips(name: Text, root: InFolder, split: Text, settings: Settings, clips: OutFile, truth: Text = "") -> None:
    """List the clips of one split, with what their places, names and csv files say.

    Args:
        name: of the data set; root: its folder; settings: of its listing.
        split: train, test or supplemental.
        truth: folder with the ground truth of the evaluation test clips; "": root/ground_truth, if there.
    """
    listing = read_settings(Listing, settings)
    frame = listing.list_clips(root, name, split, Path(truth) if truth else None)
    logger.info("%d %s clips of %d machine types", len(frame), split, frame.machine.nunique())
    write_table("clips", frame, clips)
