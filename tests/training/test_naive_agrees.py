"""The training loop and the plain implementation of ``make bench`` come to the same losses and gradients."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from asdpipe.config.losses import Subspace, Triplet
from asdpipe.config.method import Method
from asdpipe.config.networks import MultiResolution
from asdpipe.config.training import ClipTraining
from asdpipe.method.losses import SubspaceLoss
from asdpipe.training.batches import TrainingSet, epoch_batches
from asdpipe.training.crop import make_crop
from benchmarks import naive
from tests.training import jobs

SAMPLES, CLASSES, SEED = 6000, 6, (3, 1)
# From width 64 on the project's network runs in another memory format than the plain one.
NETWORK = MultiResolution(width=64, windows=(512, 128), dft_kernels=(32, 8, 4), dft_strides=(8, 4, 2))
TRAINING = ClipTraining(epochs=1, source_per_batch=9, target_per_batch=3, precision="float32")


class Result(NamedTuple):
    """The first step of a training."""

    losses: list[float]
    """L_ss, L_trp."""
    weights: list[Tensor]
    """Before the step: of the network, then the learned centres."""
    gradients: list[Tensor]


def humming_machines() -> TrainingSet:
    """Nine source and three target clips of three machine types, in noise; with TRAINING an epoch is one batch."""
    rng = np.random.default_rng(0)
    machine = np.arange(12, dtype=np.int32) % 3
    t = np.arange(SAMPLES + 500) / 16_000
    samples = [
        (3000 * np.sin(2 * np.pi * (300, 900, 2500)[m] * t) + 1000 * rng.normal(size=len(t))).astype(np.int16)
        for m in machine
    ]
    is_target = np.arange(12) >= 9
    return TrainingSet(samples, np.arange(12), machine + 3 * is_target.astype(np.int32), machine, is_target)


def first_step(method: Method) -> Result:
    """Of the project's training."""
    found = []

    def note(optimizer: Optimizer, *_: object) -> None:
        parameters = optimizer.param_groups[0]["params"]
        found.append([[each.detach().clone(), each.grad.clone()] for each in parameters])

    hook = register_optimizer_step_pre_hook(note)
    try:
        log = jobs.train(humming_machines(), method, SAMPLES, num_classes=CLASSES, seed=SEED).history
    finally:
        hook.remove()
    (step,) = found
    weights, gradients = (list(each) for each in zip(*step, strict=True))
    return Result([log.subspace_loss[0], log.triplet_loss[0]], weights, gradients)


def plain_first_step(method: Method, pitch: naive.Pitch, dtype: torch.dtype = torch.float32) -> Result:
    """Of the plain implementation, with the weights, the batch and the draws of the project's seed."""
    order_seed, draw_seed, weight_seed = (int(each) for each in np.random.SeedSequence(SEED).generate_state(3))
    sizes = method.training.source_per_batch, method.training.target_per_batch
    (batch,) = epoch_batches(humming_machines(), SAMPLES, *sizes, np.random.default_rng(order_seed))
    draws = naive.draw(batch.machine_index, method, torch.Generator().manual_seed(draw_seed))
    torch.manual_seed(weight_seed)
    network = naive.PlainNetwork(method.network, SAMPLES).train().to(dtype)
    start = SubspaceLoss(len(network.layers.branches), method.network.width, CLASSES, 16, adaptive=False).to(dtype)
    centres = [each.weight for each in (start.concatenated, *start.subspaces)]
    x = make_crop(humming_machines(), SAMPLES, jobs.CPU)(batch)
    terms = naive.losses(network, centres, x.to(dtype), batch.class_index, draws, method, pitch)
    sum(terms).backward()
    learned = [*network.parameters(), *centres[1:]]
    return Result([each.item() for each in terms], [each.detach() for each in learned], [each.grad for each in learned])


def difference(a: list[Tensor], b: list[Tensor]) -> float:
    """Return |a - b| / |b| of all tensors together."""
    joined_a, joined_b = (torch.cat([each.flatten() for each in tensors]).double() for tensors in (a, b))
    return float((joined_a - joined_b).norm() / joined_b.norm())


METHODS = pytest.mark.parametrize(
    ("loss", "triplet"),
    [
        (Subspace(), Triplet()),
        (Subspace(mixup_partner="random"), Triplet(shift_per="batch", margin="gamma", gamma=3)),
        (Subspace(mixup_probability=1), Triplet(noise_from="same_machine", reduction="sum")),
        (Subspace(), Triplet(enabled=False)),
    ],
)


@METHODS
def test_losses_and_gradients_of_a_training_step_are_those_of_the_plain_one(loss, triplet):
    method = Method(network=NETWORK, training=TRAINING, loss=loss, triplet=triplet)
    ours, plain = first_step(method), plain_first_step(method, "ours")
    assert all(torch.equal(a, b) for a, b in zip(ours.weights, plain.weights, strict=True))
    assert ours.losses == pytest.approx(plain.losses, rel=1e-4)
    assert plain.losses[0] > 1
    assert (plain.losses[1] > 0.1) == triplet.enabled
    # Usually 1e-5; where rounding turns one maximum into another it moves gradients by this much.
    assert difference(ours.gradients, plain.gradients) < 2e-3


def test_in_bfloat16_the_losses_are_those_of_the_plain_step_to_a_hundredth():
    method = Method(network=NETWORK, training=TRAINING.model_copy(update={"precision": "bfloat16"}))
    ours, plain = first_step(method), plain_first_step(method, "ours")
    # The triplet loss has two cosines over tau = 0.2, and a cosine of bfloat16 embeddings is 2^-9 off: up to 0.02.
    assert ours.losses == pytest.approx(plain.losses, rel=0.01, abs=0.02)
    assert ours.losses != pytest.approx(plain.losses, rel=1e-5)
    # An untrained network with batch statistics of nine clips makes much of rounding; the direction stays.
    assert difference(ours.gradients, plain.gradients) < 0.5


@METHODS
def test_in_double_precision_gradients_are_those_of_the_plain_step_to_a_ten_thousandth(monkeypatch, loss, triplet):
    make_network = jobs.build_extractor
    monkeypatch.setattr(jobs, "build_extractor", lambda *args, **options: make_network(*args, **options).double())
    monkeypatch.setattr(
        "asdpipe.training.epochs.make_crop", lambda *arguments: lambda batch: make_crop(*arguments)(batch).double()
    )
    method = Method(network=NETWORK, training=TRAINING, loss=loss, triplet=triplet)
    ours, plain = first_step(method), plain_first_step(method, "ours", torch.float64)
    assert ours.losses == pytest.approx(plain.losses, rel=1e-5)
    assert difference(ours.gradients, plain.gradients) < 1e-4


def test_with_torchaudios_own_pitch_shift_an_octave_changes_little():
    # The octave is the only shift whose kernel there is small.
    method = Method(network=NETWORK, training=TRAINING, triplet=Triplet(semitones=(12, 12)))
    ours, plain = first_step(method), plain_first_step(method, "torchaudio")
    assert ours.losses == pytest.approx(plain.losses, rel=1e-2)


def test_the_plain_network_keeps_the_default_memory_format():
    formats = []
    network = naive.PlainNetwork(NETWORK, SAMPLES)
    for branch in network.layers.branches[1:]:
        branch.blocks[3].norm.register_forward_pre_hook(lambda _, x: formats.append(x[0].is_contiguous()))
    network(torch.randn(2, SAMPLES))
    assert formats == [True, True]


def test_the_plain_pitch_shift_takes_part_in_the_backward_pass():
    x = torch.randn(2, SAMPLES)
    assert naive.shift(x, torch.tensor([12, -12]), "torchaudio").requires_grad
    assert not naive.shift(x, torch.tensor([12, -12]), "ours").requires_grad
