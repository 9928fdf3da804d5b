"""Transformers in the real trainer: augmentation, layer drop, bfloat16, checkpointing."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from asdpipe.config.method import Method
from asdpipe.config.training import FineTuning
from asdpipe.models.base import FeatureExtractor
from asdpipe.models.build import build_extractor
from asdpipe.training.batches import TrainingSet
from asdpipe.training.job import Trained
from tests.models.checkpoints import NETWORKS
from tests.training import jobs

SAMPLES, CLIPS = 8000, 6
CROSS_ENTROPY = {"kind": "cross_entropy", "time_mask": 40, "frequency_mask": 60}
# Two steps of three clips, in micro-batches of two and one.
SETTINGS = {
    "epochs": 2,
    "warm_up_epochs": 0,
    "batch_size": 3,
    "micro_batch": 2,
    "layer_drop": 0,
    "precision": "float32",
}

each_kind = pytest.mark.parametrize("kind", NETWORKS)


def train(
    kind: str,
    watch: Callable[[FeatureExtractor], Any] = lambda _: None,
    loss: dict[str, Any] | None = None,
    **training: Any,
) -> Trained:
    """Train a tiny network on noise.

    Args:
        watch: called with the network before its training.
    """
    network = NETWORKS[kind] | {"weights": "random"}
    method = Method(
        network=network,
        loss=CROSS_ENTROPY | (loss or {}),
        triplet={"enabled": False},
        training=FineTuning(**{**SETTINGS, **training}),
    )
    rng, machine = np.random.default_rng(0), np.arange(CLIPS, dtype=np.int32) % 3
    noise = jobs.Clips(rng.integers(-3000, 3000, SAMPLES, dtype=np.int16) for _ in range(CLIPS))
    clips = TrainingSet(noise, np.arange(CLIPS), machine, machine, np.zeros(CLIPS, dtype=np.bool_))

    def build(**context: Any) -> FeatureExtractor:
        extractor = build_extractor(NETWORKS[kind], num_samples=SAMPLES, **context)
        watch(extractor)
        return extractor

    return method.training.build().train(jobs.job(clips, method, SAMPLES, build=build))


def assert_same(one: Trained, other: Trained) -> None:
    assert one.history.equals(other.history)
    found = one.extractor.state_dict()
    assert all(torch.equal(found[name], value) for name, value in other.extractor.state_dict().items())


def first_linear(extractor: FeatureExtractor) -> torch.nn.Module:
    return next(module for module in extractor.modules() if isinstance(module, torch.nn.Linear))


@each_kind
@pytest.mark.parametrize("augmented", [True, False])
def test_the_network_sees_masked_spectrograms_if_the_loss_masks_them(kind, augmented):
    seen: list[Tensor] = []

    def watch(extractor: FeatureExtractor) -> None:
        patches = next(module for module in extractor.modules() if isinstance(module, torch.nn.Conv2d))
        patches.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().squeeze(1)))

    one, other = (train(kind, watch, {"spec_augment": augmented}) for _ in range(2))
    assert_same(one, other)
    # Two epochs of two steps in two micro-batches, two trainings.
    assert [len(spectrograms) for spectrograms in seen] == [2, 1] * 8
    # Noise and padding are nowhere the mean exactly. 4 masks in 10 are narrower than a fifth of the largest.
    masked = torch.cat([(spectrograms == 0).flatten(1).any(dim=1) for spectrograms in seen])
    assert masked.float().mean() > 0.8 if augmented else not masked.any()


@each_kind
def test_layer_drop_depends_on_the_seed_alone(kind):
    steps: list[int] = []

    def disturb(*_: object) -> None:
        # PyTorch's own generator has another state in every step of every training.
        steps.append(1)
        torch.manual_seed(len(steps))

    one, other = (train(kind, lambda each: each.register_forward_pre_hook(disturb), layer_drop=0.5) for _ in range(2))
    assert len(steps) == 16
    assert_same(one, other)
    assert not train(kind).history.equals(one.history)


@each_kind
def test_bfloat16_is_for_matrix_products_alone(kind):
    dtypes = []

    def watch(extractor: FeatureExtractor) -> None:
        first_linear(extractor).register_forward_hook(lambda _, inputs, output: dtypes.append(output.dtype))

    trained = {precision: train(kind, watch, precision=precision) for precision in ("bfloat16", "float32")}
    assert dtypes == [torch.bfloat16] * 8 + [torch.float32] * 8
    assert all(value.dtype != torch.bfloat16 for value in trained["bfloat16"].extractor.state_dict().values())
    losses = [each.history.loss for each in trained.values()]
    np.testing.assert_allclose(*losses, rtol=0.02)
    assert (losses[0] != losses[1]).all()


@each_kind
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_checkpointing_changes_no_result(kind, precision):
    settings = {"layer_drop": 0.3, "layer_decay": 0.6, "precision": precision}
    assert_same(*(train(kind, checkpointing=checkpointing, **settings) for checkpointing in (True, False)))
