"""Embed whole clips, reproducibly: from sample 0, in evaluation mode, in float32."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from asdpipe.data.audio import FULL_SCALE
from asdpipe.method.augment import tile
from asdpipe.progress import Progress
from asdpipe.training.device import full_precision
from asdpipe.training.prefetch import ahead

BATCH, GPU_BATCH = 32, 128


@torch.inference_mode()
def embed(
    network: nn.Module,
    waveforms: Iterable[NDArray[np.int16]],
    total: int,
    num_samples: int,
    device: torch.device,
) -> Iterator[NDArray[np.float32]]:
    """Yield the embeddings of all clips in order, float32 (batch, dim). At most two batches of clips are in memory.

    On a GPU this is float32 too, not TF32.

    Args:
        network: maps waveforms (batch, num_samples) to (batch, ...), which is flattened to (batch, dim).
        waveforms: int16 (samples,) per clip, of any length.
        total: number of clips, for the progress display.
    """
    network = network.eval().to(device)
    progress = Progress("embedding", total, "clip")
    on_gpu = device.type == "cuda"
    for samples in ahead(_batches(waveforms, num_samples, GPU_BATCH if on_gpu else BATCH)):
        packed = torch.from_numpy(samples)
        x = (packed.pin_memory() if on_gpu else packed).to(device, non_blocking=True).float().div_(FULL_SCALE)
        with full_precision():
            embedding = network(x)
        yield embedding.flatten(1).float().cpu().numpy()
        progress.advance(len(samples))
    progress.close()


def _batches(waveforms: Iterable[NDArray[np.int16]], num_samples: int, size: int) -> Iterator[NDArray[np.int16]]:
    clips = iter(waveforms)
    while batch := [tile(clip, num_samples) for clip in islice(clips, size)]:
        yield np.stack(batch)
