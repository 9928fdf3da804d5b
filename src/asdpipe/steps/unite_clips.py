"""The clips of a data set that is united from others."""

import logging

import pandas as pd

from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.base import read_settings
from asdpipe.config.data import UnionSettings
from asdpipe.data.unions import machine_name
from asdpipe.errors import UserError
from asdpipe.steps.options import InFiles, OutFile, Settings

logger = logging.getLogger(__name__)


def unite_clips(settings: Settings, lists: InFiles, clips: OutFile) -> None:
    """Join the lists of several data sets.

    The name of its data set comes before the clip_id of a clip and, unless types are joined, before its machine type.

    Raises:
        UserError: machine types of two data sets could not be told apart.
    """
    joined = read_settings(UnionSettings, settings).joined
    frame = pd.concat([read_table("clips", file) for file in lists], ignore_index=True)
    types = zip(frame.dataset, frame.machine, strict=True)
    frame = frame.assign(
        clip_id=frame.dataset + "/" + frame.clip_id,
        machine=[machine_name(dataset, machine, joined=joined) for dataset, machine in types],
    )
    _check(frame, joined)
    found = ", ".join(sorted(set(frame.dataset)))
    logger.info("%d clips of %d machine types of %s", len(frame), frame.machine.nunique(), found)
    write_table("clips", frame, clips)


def _check(frame: pd.DataFrame, joined: bool) -> None:
    """Refuse types of two data sets that have the same name by chance, or are joined and tested together.

    Raises:
        UserError: names the machine type and the data sets.
    """
    if joined:
        frame = frame[frame.split == "test"]
    groups = frame.groupby(["machine", "part", "section"] if joined else "machine")
    for machine, datasets in groups.dataset.unique().items():
        of = " and ".join(sorted(datasets))
        if len(datasets) > 1 and joined:
            message = f"{' '.join(machine)}: has test clips of {of}, which would be evaluated as one"
            raise UserError(f"{message}; name one of these data sets in tested, or set joined: false")
        if len(datasets) > 1:
            raise UserError(f"{machine}: is the name of machine types of {of}; rename one of the data sets")
