"""The manifest of a data set: its clips of all splits, with the labels of the ground truth."""

import logging
from pathlib import Path

import pandas as pd

from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.base import read_settings
from asdpipe.config.listings import LabelSettings
from asdpipe.errors import UserError
from asdpipe.progress import SHOWN
from asdpipe.steps.options import InFiles, InFolder, OutFile, Settings, Text

logger = logging.getLogger(__name__)


def label_clips(root: InFolder, settings: Settings, lists: InFiles, clips: OutFile, truth: Text = "") -> None:
    """Join the lists of all splits with the ground truth.

    Nothing that is trained depends on the result.

    Args:
        root: folder of the data set; settings: its listing; lists: of its splits.
        truth: folder with the ground truth of the evaluation test clips; "": root/ground_truth, if there.

    Raises:
        UserError: a machine type has no training clips. This step is the first to see all splits, before any training.
    """
    listing = read_settings(LabelSettings, settings).listing
    listed = pd.concat([read_table("clips", file) for file in lists], ignore_index=True)
    frame = listing.label_clips(listed, root, Path(truth) if truth else None)
    tested, trained = (set(frame.machine[frame.split == split]) for split in ("test", "train"))
    for machine in sorted(tested - trained):
        message = f"{machine}: has test clips but no training clips"
        raise UserError(f"{message}; add some, or leave it out of the data set's machines")
    label = frame.is_normal.map({True: "normal", False: "anomaly"}).fillna("unlabelled")
    table = pd.crosstab([frame.part, frame.machine], [frame.split, label])
    # On the screen, too: the first thing to check of one's own data.
    logger.log(SHOWN, "%d clips of %d machine types\n%s", len(frame), frame.machine.nunique(), table.to_string())
    write_table("clips", frame, clips)
