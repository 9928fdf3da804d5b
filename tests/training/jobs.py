"""Trainings without steps: jobs made of clips and settings, with no file unless a test asks for one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asdpipe.config.method import Method
from asdpipe.config.networks import MultiResolution
from asdpipe.config.training import ClipTraining
from asdpipe.method.objectives import Sum
from asdpipe.models.base import FeatureExtractor
from asdpipe.models.build import build_extractor
from asdpipe.training.batches import TrainingSet
from asdpipe.training.job import Job, Trained, objective_context
from asdpipe.training.state import Checkpoint, TrainingState

CPU = torch.device("cpu")


class Clips(list):
    """Waveforms that know their names and lengths, as Waveforms does."""

    @property
    def clip_ids(self) -> np.ndarray:
        return np.array([f"clip {number}" for number in range(len(self))], dtype=object)

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(clip) for clip in self])


class NoCheckpoint(Checkpoint):
    """Saves nothing, and restores nothing."""

    def __init__(self) -> None:
        super().__init__(Path("no such file"), {})

    def save(self, state: TrainingState) -> None:
        self.end_if_asked(state)


def small_method(network: MultiResolution, **sections: Any) -> Method:
    """Return a method whose training is given by its arguments, e.g. ``training={"epochs": 1}``."""
    training = ClipTraining(**{"source_per_batch": 10, "target_per_batch": 2, **sections.pop("training", {})})
    return Method(network=network, training=training, **sections)


def job(
    clips: TrainingSet,
    method: Method,
    num_samples: int,
    num_classes: int = 3,
    seed: Sequence[int] = (0, 1),
    checkpoint: Checkpoint | Callable[[str], Checkpoint] | None = None,
    machine: Sequence[str] | None = None,
    torch_compile: bool = False,
    build: Callable[..., FeatureExtractor] | None = None,
) -> Job:
    """Return the job of a method, as the step makes it.

    Args:
        build: makes the network instead, given the switches of the training.
    """
    settings = method.training_settings()
    network = settings.network.arguments()
    given = checkpoint or NoCheckpoint()
    return Job(
        clips,
        np.array(clips.machine_index.astype(str) if machine is None else machine, dtype=object),
        network,
        build or (lambda **context: build_extractor(network, num_samples=num_samples, **context)),
        lambda extractor: Sum(settings.objectives(**objective_context(extractor), num_classes=num_classes)),
        seed,
        CPU,
        given if callable(given) else lambda name: given,
        torch_compile,
    )


def train(clips: TrainingSet, method: Method, num_samples: int, **options: Any) -> Trained:
    """Train; options are those of ``job``."""
    return method.training_settings().training.build().train(job(clips, method, num_samples, **options))
