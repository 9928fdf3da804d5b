"""Embeddings of whole clips: offset 0, evaluation mode, so that they can be reproduced."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from asdpipe.data.waveforms import Waveforms, to_float
from asdpipe.method.augment import tile
from asdpipe.progress import Progress

BATCH = 32


@torch.inference_mode()
def embed(
    network: nn.Module, waveforms: Waveforms, num_samples: int, device: torch.device
) -> Iterator[NDArray[np.float32]]:
    """Yield embeddings, float32 (up to BATCH, dim), of all clips in order.

    Args:
        network: maps (batch, num_samples) to (batch, ...); the rest is flattened.
    """
    network = network.eval().to(device)
    progress = Progress("embedding", len(waveforms), "clip")
    for start in range(0, len(waveforms), BATCH):
        rows = range(start, min(start + BATCH, len(waveforms)))
        x = torch.from_numpy(np.stack([to_float(tile(waveforms[row], num_samples)) for row in rows]))
        yield network(x.to(device)).flatten(1).float().cpu().numpy()
        progress.advance(len(rows))
    progress.close()
