"""Crop training batches from the packed waveforms, or from a copy of them on the GPU."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from asdpipe.data.audio import FULL_SCALE, tile, to_float
from asdpipe.training.batches import Batch, TrainingSet

# Largest share of the free GPU memory that the clips may take; 14,000 clips of 18 s are 8 GB.
RESIDENT_SHARE = 0.4

Crop = Callable[[Batch], Tensor]
"""Maps a batch to its waveforms, float32 (batch, samples) in [-1, 1)."""


def make_crop(clips: TrainingSet, num_samples: int, device: torch.device) -> Crop:
    """Return a function that crops batches: on the GPU if all clips fit into its memory, else on the CPU."""
    if device.type == "cuda":
        num_bytes = 2 * clips.lengths.sum()
        if num_bytes < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            return on_device(clips, num_samples, device)

    def crop(batch: Batch) -> Tensor:
        rows = [tile(clips[clip], num_samples, start) for clip, start in zip(batch.clip, batch.offset, strict=True)]
        x = torch.from_numpy(to_float(np.stack(rows)))
        return x.pin_memory() if device.type == "cuda" else x

    return crop


def on_device(clips: TrainingSet, num_samples: int, device: torch.device) -> Crop:
    """Copy all clips to the device and return a function that crops batches there."""
    lengths = clips.lengths
    ends = lengths.cumsum()
    samples = torch.empty(int(ends[-1]), dtype=torch.int16, device=device)
    for clip, end, length in zip(clips, ends, lengths, strict=True):
        # Copied because PyTorch warns about read-only memory maps.
        samples[end - length : end] = torch.from_numpy(clip.copy())
    steps = torch.arange(num_samples, device=device)

    def crop(batch: Batch) -> Tensor:
        start, length = (ends - lengths)[batch.clip], lengths[batch.clip]
        # One transfer instead of three.
        positions = torch.from_numpy(np.stack([start, length, batch.offset])).to(device, non_blocking=True)
        first, period, offset = positions[:, :, None]
        return samples[first + (offset + steps) % period].float() / FULL_SCALE

    return crop
