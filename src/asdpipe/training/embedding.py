"""Embeddings of whole clips: offset 0, evaluation mode, so that they can be reproduced."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from asdpipe.data.waveforms import to_float
from asdpipe.method.augment import tile
from asdpipe.progress import Progress

BATCH = 32


@torch.inference_mode()
def embed(
    network: nn.Module,
    waveforms: Iterable[NDArray[np.int16]],
    total: int,
    num_samples: int,
    device: torch.device,
) -> Iterator[NDArray[np.float32]]:
    """Yield embeddings, float32 (up to BATCH, dim), of all clips in order, taking one batch of clips at a time.

    Args:
        network: maps (batch, num_samples) to (batch, ...); the rest is flattened.
        total: how many clips to expect, for the progress.
    """
    network = network.eval().to(device)
    progress = Progress("embedding", total, "clip")
    clips = iter(waveforms)
    while batch := [to_float(tile(clip, num_samples)) for clip in islice(clips, BATCH)]:
        x = torch.from_numpy(np.stack(batch))
        yield network(x.to(device)).flatten(1).float().cpu().numpy()
        progress.advance(len(batch))
    progress.close()
