"""Split the training clips into those that are trained on, and those that calibrate alarm limits."""

import logging

from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.base import read_settings
from asdpipe.config.monitor import HoldOutSettings
from asdpipe.data.holdout import held_out
from asdpipe.errors import UserError
from asdpipe.steps.options import InFile, OutFile, Settings

logger = logging.getLogger(__name__)


def hold_out_clips(settings: Settings, clips: InFile, train: OutFile, calibration: OutFile) -> None:
    """Keep some of the training clips out of training.

    Args:
        settings: the share that is held out; clips: all training clips.

    Raises:
        UserError: a domain of a machine type would be left without training clips.
    """
    share = read_settings(HoldOutSettings, settings).holdout
    table = read_table("clips", clips)
    out = held_out(table.clip_id, share)
    for (machine, domain), rows in table.groupby(["machine", table.domain.fillna("source")]).indices.items():
        if out[rows].all():
            message = f"{machine}, {domain}: monitor.holdout = {share:g} would hold out all {len(rows)} training clips"
            raise UserError(
                f"{message}; record more (in more sub-folders of train/, if there are any), choose a smaller share, or "
                "set it to 0 and calibrate with other recordings (asdpipe calibrate)"
            )
    for machine in sorted(set(table.machine) - set(table.machine[out])):
        logger.warning("%s: no clip is held out, so that its alarms promise nothing", machine)
    logger.info("%d of %d training clips are held out", out.sum(), len(table))
    write_table("clips", table[~out], train)
    write_table("clips", table[out], calibration)
