"""Batches of a training stage: source and external clips once per epoch, target clips drawn again and again (§5.2)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asdpipe.data.waveforms import Waveforms
from asdpipe.method.augment import random_offset


@dataclass(frozen=True)
class TrainingSet:
    """The training clips of a stage; all arrays (clips,)."""

    waveforms: Waveforms
    row: NDArray[np.int64]
    """Where the clip is in the waveforms."""
    class_index: NDArray[np.int32]
    machine_index: NDArray[np.int32]
    """Groups for the triplet's noise: machine types; an external clip has the one that it was selected for."""
    is_target: NDArray[np.bool_]
    """External clips count as source."""

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, clip: int) -> NDArray[np.int16]:
        """Return the samples of a clip."""
        return self.waveforms[self.row[clip]]


@dataclass(frozen=True)
class Batch:
    """One batch: which clips and from which sample on, int64 (batch,), and what the losses need, int64 (batch,)."""

    clip: NDArray[np.int64]
    """Positions in the training set."""
    offset: NDArray[np.int64]
    class_index: Tensor
    machine_index: Tensor


def epoch_batches(
    clips: TrainingSet,
    num_samples: int,
    source_per_batch: int,
    target_per_batch: int,
    generator: np.random.Generator,
) -> Iterator[Batch]:
    """Yield the batches of one epoch: every source clip once, in nearly equal batches, among random target clips.

    Without target clips a batch has source clips only, without source clips target clips only.
    """
    source, target = np.flatnonzero(~clips.is_target), np.flatnonzero(clips.is_target)
    count = num_batches(len(source), source_per_batch)
    for part in np.array_split(generator.permutation(source), count):
        extra = generator.choice(target, target_per_batch) if len(target) else target
        # In random order: mixup pairs every clip with its mirror image in the batch.
        chosen = generator.permutation(np.concatenate([part, extra]))
        yield Batch(
            chosen,
            np.array([random_offset(len(clips[clip]), num_samples, generator) for clip in chosen]),
            torch.from_numpy(clips.class_index[chosen].astype(np.int64)),
            torch.from_numpy(clips.machine_index[chosen].astype(np.int64)),
        )


def num_batches(num_source: int, source_per_batch: int) -> int:
    """Return the number of batches of an epoch."""
    return max(1, -(-num_source // source_per_batch))
