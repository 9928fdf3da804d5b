"""Decode the clips of a split once, to 16 kHz mono, packed for random access."""

from asdpipe.artifacts.tables import read_table
from asdpipe.config.base import read_settings
from asdpipe.config.data import Decoding
from asdpipe.data.packing import pack_clips as pack
from asdpipe.errors import UserError
from asdpipe.steps.options import InFile, OutFile, Settings, Text


def pack_clips(
    settings: Settings, split: Text, clips: InFile, samples: OutFile, index: OutFile, skipped: OutFile
) -> None:
    """Pack the training or the test clips of a data set.

    Args:
        settings: how files are decoded; split: train or test.

    Raises:
        UserError: bad clips, with on_bad_clip: fail; or a machine type without a good training clip.
    """
    table = read_table("clips", clips)
    packed = pack(table, samples, index, skipped, **read_settings(Decoding, settings).model_dump())
    good = table[table.clip_id.isin(packed.clip_id)]
    if split == "train" and table.empty:
        raise UserError(f"{clips}: there are no training clips; add some")
    for machine in sorted(set(table.machine) - set(good.machine)) if split == "train" else ():
        raise UserError(f"{machine}: every training clip is bad, see {skipped}; there is nothing to train it on")
