"""Manifests as the steps use them: the clips that were packed, with the domain that they count as."""

from pathlib import Path

import pandas as pd

from asdpipe.artifacts.tables import read_table


def packed_clips(clips: Path, index: Path) -> pd.DataFrame:
    """Return the rows of a manifest whose clips were packed (bad ones may have been left out), in its order.

    Clips of unknown domain count as source.
    """
    table = read_table("clips", clips)
    packed = read_table("waveforms", index, ["clip_id"]).clip_id
    table = table[table.clip_id.isin(packed)].reset_index(drop=True)
    return table.assign(domain=table.domain.fillna("source"))
