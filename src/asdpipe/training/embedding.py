"""Embed clips reproducibly: from their first sample, in evaluation mode, in float32."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from asdpipe.data.audio import FULL_SCALE, SAMPLE_RATE, tile
from asdpipe.data.waveforms import Waveforms
from asdpipe.errors import UserError
from asdpipe.models.base import FeatureExtractor
from asdpipe.progress import Progress
from asdpipe.training.device import full_precision
from asdpipe.training.prefetch import prefetch

BATCH, GPU_BATCH = 32, 128


def embed(
    extractor: FeatureExtractor, waveforms: Iterable[NDArray[np.int16]], total: int, device: torch.device
) -> Iterator[NDArray[np.float32]]:
    """Yield the embeddings of clips in order, float32 (batch, branches * dim), computed without TF32.

    At most two batches of clips are in memory.

    Args:
        waveforms: 16 kHz clips of any length, tiled or cut to the extractor's ``num_samples``.
        total: number of clips, for the progress display.
    """
    progress = Progress("embedding", total, "clip")
    for embedding in embeddings(extractor.eval().to(device), waveforms, device):
        yield embedding
        progress.advance(len(embedding))
    progress.close()


@torch.inference_mode()
def embeddings(
    extractor: FeatureExtractor, waveforms: Iterable[NDArray[np.int16]], device: torch.device
) -> Iterator[NDArray[np.float32]]:
    """Yield what ``embed`` does, with an extractor that is in evaluation mode and on the device."""
    on_gpu = device.type == "cuda"
    for samples in prefetch(_batches(waveforms, extractor.num_samples, GPU_BATCH if on_gpu else BATCH)):
        packed = torch.from_numpy(samples)
        x = (packed.pin_memory() if on_gpu else packed).to(device, non_blocking=True).float().div_(FULL_SCALE)
        with full_precision():
            embedding = extractor(x)
        yield embedding.flatten(1).float().cpu().numpy()


def _batches(waveforms: Iterable[NDArray[np.int16]], num_samples: int | None, size: int) -> Iterator[NDArray[np.int16]]:
    clips = iter(waveforms)
    if num_samples is None:
        # Whole clips differ in length, so a batch has one.
        yield from (clip[None].copy() for clip in clips)
        return
    while batch := [tile(clip, num_samples) for clip in islice(clips, size)]:
        yield np.stack(batch)


def refuse_short(waveforms: Waveforms, min_samples: int) -> None:
    """Check that no clip is too short for an extractor.

    Raises:
        UserError: a clip has fewer than ``min_samples`` samples.
    """
    short = waveforms.clip_ids[waveforms.lengths < min_samples]
    if len(short):
        seconds = min_samples / SAMPLE_RATE
        message = (
            f"clips shorter than {seconds:g} s, which the network needs: {len(short)}, e.g. {short[0]}; "
            f"remove them, or set the data set's min_seconds: {seconds:g} and on_bad_clip: skip"
        )
        raise UserError(message)
