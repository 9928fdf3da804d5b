"""What a training is given and what it makes, whatever is trained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from asdpipe.method.objectives import Objective
from asdpipe.models.base import FeatureExtractor
from asdpipe.training.batches import TrainingSet
from asdpipe.training.state import Checkpoint


@dataclass(frozen=True)
class Job:
    """A training: its clips, what is built for it, and where its state is kept."""

    clips: TrainingSet
    machine: NDArray[np.object_]
    """Machine type of every clip."""
    network: Mapping[str, Any]
    """Settings of the extractor: kind and arguments."""
    build_extractor: Callable[..., FeatureExtractor]
    """Takes what the extractor depends on beside its settings."""
    build_objective: Callable[[tuple[int, int]], Objective]
    """Takes the extractor's embedding_shape."""
    seed: Sequence[int]
    """Entropy of every random draw, e.g. (seed, stage)."""
    device: torch.device
    checkpoint: Callable[[str], Checkpoint]
    """The state of a training by name; empty: the only one."""
    torch_compile: bool = False
    """Train a compiled network; it shares its weights with the one returned."""


class Trained(NamedTuple):
    """What a training made."""

    extractor: FeatureExtractor
    """On the CPU, in evaluation mode."""
    network: Mapping[str, Any]
    """Settings that it is built from again."""
    history: pd.DataFrame
    """Losses and learning rate of every epoch."""
    checkpoints: Sequence[Checkpoint]
    """To be removed once all of it is written."""


class Trainer(Protocol):
    """A way to train."""

    def train(self, job: Job) -> Trained:
        """Train from scratch, or continue an interrupted training.

        Raises:
            UserError: the clips cannot be trained on, or the losses are no longer finite.
            Interrupted: a signal asked the process to end.
        """
