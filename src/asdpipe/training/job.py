"""Input and result of a training, shared by all trainers."""

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
    """The input of a training: clips, how to build extractor and objective, checkpoints."""

    clips: TrainingSet
    machine: NDArray[np.object_]
    """Machine type of every clip."""
    network: Mapping[str, Any]
    """Settings of the extractor: kind and arguments."""
    build_extractor: Callable[..., FeatureExtractor]
    """Builds the extractor; keyword arguments are added to its settings."""
    build_objective: Callable[[FeatureExtractor], Objective]
    """Builds the objective for an extractor."""
    seed: Sequence[int]
    """Entropy of the random generators, e.g. (seed, stage)."""
    device: torch.device
    checkpoint: Callable[[str], Checkpoint]
    """Returns the checkpoint of a named training; the name is empty if there is only one."""
    torch_compile: bool = False
    """Train with ``torch.compile``; the extractor that is returned is not compiled."""


def objective_context(extractor: FeatureExtractor) -> dict[str, Any]:
    """Return what objectives of an extractor may take beside their settings and the number of classes."""
    return {"embedding_shape": extractor.embedding_shape, "num_patches": extractor.num_patches}


class Trained(NamedTuple):
    """The result of a training."""

    extractor: FeatureExtractor
    """On the CPU, in evaluation mode."""
    network: Mapping[str, Any]
    """Settings to rebuild the extractor from."""
    history: pd.DataFrame
    """One row per epoch: losses and learning rate."""
    checkpoints: Sequence[Checkpoint]
    """Remove them once the results are written."""


class Trainer(Protocol):
    """A training procedure."""

    def train(self, job: Job) -> Trained:
        """Train from scratch, or continue an interrupted training.

        Raises:
            UserError: the clips cannot be trained on, or the training diverged.
            Interrupted: the process received SIGTERM or SIGINT.
        """
