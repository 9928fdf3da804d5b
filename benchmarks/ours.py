"""The project's training without its artifacts: what the benchmarks measure, and tests watch."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asdpipe.config.method import Method
from asdpipe.method.objectives import Sum
from asdpipe.models.base import FeatureExtractor
from asdpipe.models.build import build_extractor
from asdpipe.training.batches import TrainingSet
from asdpipe.training.job import Job, Trained, objective_context
from asdpipe.training.state import Checkpoint


def new_network(method: Method, num_samples: int, **context: Any) -> FeatureExtractor:
    """Return the method's network, untrained; context are the switches of a training."""
    return build_extractor(method.network.arguments(), num_samples=num_samples, **context)


def train(
    clips: TrainingSet,
    num_classes: int,
    method: Method,
    num_samples: int,
    seed: Sequence[int],
    device: torch.device,
) -> Trained:
    """Train as the step does, from scratch; the state of the training goes to a temporary folder."""
    settings = method.training_settings()
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            clips,
            # Only autoencoders, one per machine type, ask for it.
            np.full(len(clips), "", dtype=object),
            method.network.arguments(),
            lambda **context: new_network(method, num_samples, **context),
            lambda extractor: Sum(settings.objectives(**objective_context(extractor), num_classes=num_classes)),
            seed,
            device,
            lambda name: Checkpoint(Path(folder, f"{name}.checkpoint"), {}),
        )
        return settings.training.build().train(job)
