"""Manifests of one's own recordings, as the workflow lists and joins them."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from asdpipe.data import own_machines


def list_own(root: Path, machines: Sequence[str] | None = None, table: str | None = None) -> pd.DataFrame:
    """Return the manifest of both splits of the data set "own"."""
    splits = [own_machines.list_clips(root, "own", split, machines, table) for split in ("train", "test")]
    return own_machines.label_clips(pd.concat([each for each in splits if len(each)]))
