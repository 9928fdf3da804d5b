"""Sample formats: 16 kHz mono, int16 on disk, float32 in [-1, 1) in computations."""

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
FULL_SCALE = 32768


def to_int16(x: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return samples as int16; lossless for 16-bit recordings at 16 kHz. Values beyond full scale are clipped."""
    with np.errstate(over="ignore"):
        scaled = x * np.float32(FULL_SCALE)
    np.rint(scaled, out=scaled)
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1, out=scaled).astype(np.int16)


def to_float(x: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return packed samples as float32 in [-1, 1)."""
    return x.astype(np.float32) / np.float32(FULL_SCALE)


def tile(clip: NDArray[np.int16], num_samples: int, offset: int = 0) -> NDArray[np.int16]:
    """Return ``num_samples`` samples of the endlessly repeated clip, starting at ``offset``.

    Raises:
        ValueError: the clip is empty.
    """
    if len(clip) == 0:
        message = "an empty clip cannot be tiled"
        raise ValueError(message)
    if offset + num_samples <= len(clip):
        return clip[offset : offset + num_samples]
    repeats = -(-(offset + num_samples) // len(clip))
    return np.tile(clip, repeats)[offset : offset + num_samples]
