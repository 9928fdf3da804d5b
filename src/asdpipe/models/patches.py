"""Spectrograms cut into square patches, the tokens of audio Transformers."""

from typing import Literal

from torch import Tensor

from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.models.fbank import BANDS, HOP, LENGTH, num_frames

PATCH = 16
"""Frames and mel bands of a patch; patches do not overlap."""
ROWS = BANDS // PATCH
"""Patches of the same time, one per frequency band."""

Pooling = Literal["mean", "band_mean"]


def num_patches(num_samples: int) -> int:
    """Return the number of whole patches of a clip.

    Raises:
        ValueError: it is shorter than one patch.
    """
    columns = num_frames(num_samples) // PATCH
    if columns < 1:
        shortest = (LENGTH + (PATCH - 1) * HOP) / SAMPLE_RATE
        message = (
            f"clips of {num_samples / SAMPLE_RATE:g} s are too short: one patch of the spectrogram needs {shortest} s"
        )
        raise ValueError(message)
    return columns * ROWS


def embedding_shape(pooling: Pooling, width: int) -> tuple[int, int]:
    """Return the shape of ``pooled`` embeddings of a clip."""
    return (1 if pooling == "mean" else ROWS, width)


def pooled(tokens: Tensor, pooling: Pooling) -> Tensor:
    """Return the mean of the tokens, float (batch, 1, width), or their mean over time per band, (batch, 8, width).

    Args:
        tokens: float (batch, patches, width), the bands of a time next to each other.
    """
    if pooling == "mean":
        return tokens.mean(dim=1, keepdim=True)
    return tokens.unflatten(1, (-1, ROWS)).mean(dim=1)
