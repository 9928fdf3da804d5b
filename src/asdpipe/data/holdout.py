"""Which training clips are kept out of training."""

import hashlib
from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray


def held_out(clip_ids: Iterable[str], share: float) -> NDArray[np.bool_]:
    """Return which clips are kept out of training, (clips,): about ``share`` of them, whole sessions together.

    A session is held out by its name alone, so that no clip changes sides when others are added or removed.
    """
    return np.array([_position(session(clip_id)) < share for clip_id in clip_ids], dtype=np.bool_)


def session(clip_id: str) -> str:
    """Return what a clip is held out with: the sub-folder of train/ that it is in, or itself if it is in none."""
    parts = PurePosixPath(clip_id).parts
    # The first part is a machine type, which may have any name.
    below = next((number + 1 for number, part in enumerate(parts) if number and part == "train"), len(parts))
    return clip_id if below >= len(parts) - 1 else "/".join(parts[: below + 1])


def _position(name: str) -> float:
    """Return a number in [0, 1) that looks random, but is always the same for a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) / 2**48
