"""Batches of an epoch: all clips once, or target clips with replacement beside source and external clips (§5.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asdpipe.data.waveforms import Waveforms
from asdpipe.method.augment import random_offset

Epoch = Literal["all", "random_half"]
"""Source and external clips of an epoch: all, or a random half (released code)."""


@dataclass(frozen=True)
class TrainingSet:
    """The training clips of a stage; all arrays have shape (clips,)."""

    waveforms: Waveforms
    row: NDArray[np.int64]
    """Index of the clip in ``waveforms``."""
    class_index: NDArray[np.int32]
    machine_index: NDArray[np.int32]
    """Machine type, for the background noise of triplets. An external clip has the type it was selected for."""
    is_target: NDArray[np.bool_]
    """False for external clips, which count as source."""

    def __len__(self) -> int:
        return len(self.row)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of samples of every clip, (clips,)."""
        return np.array([len(samples) for samples in self], dtype=np.int64)

    def __getitem__(self, clip: int) -> NDArray[np.int16]:
        """Return the samples of a clip, int16 (samples,) at 16 kHz."""
        return self.waveforms[self.row[clip]]

    def __iter__(self) -> Iterator[NDArray[np.int16]]:
        return (self[clip] for clip in range(len(self)))


@dataclass(frozen=True)
class Batch:
    """Clips, offsets and labels of one batch; all arrays are int64 (batch,)."""

    clip: NDArray[np.int64]
    """Indices into the training set."""
    offset: NDArray[np.int64]
    """First sample of each clip."""
    class_index: Tensor
    machine_index: Tensor


def epoch_batches(
    clips: TrainingSet,
    num_samples: int,
    source_per_batch: int,
    target_per_batch: int,
    generator: np.random.Generator,
    epoch: Epoch = "all",
) -> Iterator[Batch]:
    """Yield the batches of one epoch: source clips without replacement, target clips with replacement.

    The source clips are split into batches of nearly equal size, of which the first ``num_batches`` are used. A batch
    has source clips only if there are no target clips, and vice versa.

    Args:
        num_samples: length of the crops, in samples.
        generator: random generator; the same state gives the same batches.
        epoch: which source clips to use.
    """
    source, target = np.flatnonzero(~clips.is_target), np.flatnonzero(clips.is_target)
    parts = np.array_split(generator.permutation(source), num_batches(len(source), source_per_batch))
    for part in parts[: num_batches(len(source), source_per_batch, epoch)]:
        extra = generator.choice(target, target_per_batch) if len(target) else target
        # Shuffled, because mixup pairs every clip with its mirror image in the batch.
        yield _batch(clips, generator.permutation(np.concatenate([part, extra])), num_samples, generator)


def num_batches(num_source: int, source_per_batch: int, epoch: Epoch = "all") -> int:
    """Return the number of batches of an epoch, at least 1.

    "random_half" gives half the batches, rounded down, plus one, as in the released code.
    """
    count = max(1, -(-num_source // source_per_batch))
    return count if epoch == "all" else min(count, count // 2 + 1)


def shuffled_batches(
    clips: TrainingSet, num_samples: int, batch_size: int, micro_batch: int, generator: np.random.Generator
) -> Iterator[list[Batch]]:
    """Yield the micro-batches of each batch of one epoch: all clips once, in random order.

    The last batch has the clips that are left. Micro-batches of a batch have nearly equal sizes.

    Args:
        num_samples: length of the crops, in samples.
        micro_batch: largest number of clips of a micro-batch.
        generator: random generator; the same state gives the same batches.
    """
    order = generator.permutation(len(clips))
    for start in range(0, len(clips), batch_size):
        members = order[start : start + batch_size]
        parts = np.array_split(members, -(-len(members) // micro_batch))
        yield [_batch(clips, part, num_samples, generator) for part in parts]


def _batch(clips: TrainingSet, chosen: NDArray[np.int64], num_samples: int, generator: np.random.Generator) -> Batch:
    """Return a batch of clips, cropped at random."""
    return Batch(
        chosen,
        np.array([random_offset(len(clips[clip]), num_samples, generator) for clip in chosen]),
        torch.from_numpy(clips.class_index[chosen].astype(np.int64)),
        torch.from_numpy(clips.machine_index[chosen].astype(np.int64)),
    )
