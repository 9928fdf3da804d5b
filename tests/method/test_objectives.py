"""Objectives: their losses and gradients against direct computation, and where their draws come from."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from asdpipe.method.objectives import (
    Batch,
    Objective,
    ReconstructionObjective,
    SubspaceObjective,
    Sum,
    TripletObjective,
)
from asdpipe.models.multi_resolution import MultiResolutionNetwork

SAMPLES, RATE = 4000, 16_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(clips: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(clips, SAMPLES, generator=generator(seed))


def small_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return MultiResolutionNetwork(SAMPLES, width=16, windows=(256, 64), dft_kernels=(32, 8, 4), dft_strides=(8, 4, 2))


def batch_of(x: Tensor, machine: list[int] | Tensor, label: list[int] | Tensor | None = None) -> Batch:
    machine = torch.as_tensor(machine)
    return Batch(x, torch.as_tensor(machine if label is None else label), machine)


def subspace_objective(shape: tuple[int, int] = (3, 4), num_classes: int = 3, **changes) -> SubspaceObjective:
    """Return the paper's, but with two sub-clusters."""
    paper = {"branches": True, "feat_ex": False, "subclusters": 2, "scale": "fixed"}
    mixup = {"mixup_probability": 0.5, "mixup_partner": "reversed"}
    torch.manual_seed(7)
    return SubspaceObjective(shape, num_classes, **{**paper, **mixup, **changes})


def triplet_objective(**changes) -> TripletObjective:
    """Return the paper's."""
    paper = {"enabled": True, "tau": 0.2, "gamma": 0.5, "margin": "gamma_plus_one", "reduction": "mean"}
    draws = {"snr_db": (-5.0, 20.0), "semitones": (6, 12), "shift_per": "clip", "noise_from": "other_machine"}
    return TripletObjective(**{**paper, **draws, **changes})


def triplet_loss_of(embed, x: Tensor, machine, rng: torch.Generator, **changes) -> Tensor:
    (loss,) = triplet_objective(**changes).terms(embed, batch_of(x, machine), rng)
    return loss


# ---------------------------------------------------------------- all of them


class Linear(nn.Module):
    """A linear embedding (batch, branches, width), which can be computed by hand."""

    def __init__(self, dim: int, branches: int = 3, width: int = 4, seed: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim, branches * width, generator=generator(seed)) / math.sqrt(dim))
        self.shape = branches, width

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight).unflatten(1, self.shape)


OBJECTIVES = {
    "subspace": lambda: subspace_objective(feat_ex=True, mixup_partner="random"),
    # A margin that no batch reaches, so that the hinge is open.
    "triplet": lambda: triplet_objective(gamma=20.0),
    "reconstruction": ReconstructionObjective,
    "sum": lambda: Sum([subspace_objective(feat_ex=True), triplet_objective(gamma=20.0)]),
}


def embedding_for(kind: str) -> nn.Module:
    return nn.Linear(SAMPLES, SAMPLES) if kind == "reconstruction" else Linear(SAMPLES)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_there_is_a_scalar_for_every_name_and_gradients_for_network_and_centres(kind):
    objective, embed = OBJECTIVES[kind](), embedding_for(kind)
    losses = list(objective.terms(embed, batch_of(noise(6), [0, 1, 2, 0, 1, 2]), generator()))
    assert [loss.shape for loss in losses] == [()] * len(objective.names)
    sum(losses).backward()
    parameters = [*embed.parameters(), *objective.parameters()]
    assert all(float(each.grad.abs().sum()) > 0 for each in parameters)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_draws_come_from_the_given_generator_alone(kind):
    objective, embed = OBJECTIVES[kind](), embedding_for(kind)
    batch = batch_of(noise(6), [0, 1, 2, 0, 1, 2])

    def losses(seed: int) -> list[float]:
        return [loss.item() for loss in objective.terms(embed, batch, generator(seed))]

    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 (the global state is what must not be used)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first = losses(5)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    torch.manual_seed(2)
    assert losses(5) == first
    if kind != "reconstruction":
        assert losses(6) != first


# ---------------------------------------------------------------- subspace loss


def soft_labels(x: Tensor, label: list[int], num_classes: int, probability: float, rng: torch.Generator, partner: str):
    """Return clips and labels after mixup, clip by clip, in float64, from draws in the documented order."""
    size = len(x)
    weight = torch.rand(size, generator=rng)
    weight[torch.rand(size, generator=rng) >= probability] = 1
    other = list(range(size))[::-1] if partner == "reversed" else torch.randperm(size, generator=rng).tolist()
    clips, labels = [], []
    for clip in range(size):
        share, soft = float(weight[clip]), np.zeros(num_classes)
        soft[label[clip]] += share
        soft[label[other[clip]]] += 1 - share
        clips.append(share * x[clip].double() + (1 - share) * x[other[clip]].double())
        labels.append(soft)
    return torch.stack(clips), torch.from_numpy(np.array(labels))


def adacos(z: Tensor, centres: Tensor, label: Tensor) -> Tensor:
    """Return sub-cluster AdaCos with the fixed scale, by explicit softmax over all centres."""
    total = centres.shape[1]
    scale = math.sqrt(2) * math.log(total - 1)
    losses = []
    for vector, soft in zip(z, label, strict=True):
        weights = torch.stack([torch.exp(scale * vector @ c / (vector.norm() * c.norm())) for c in centres.T])
        by_class = (weights / weights.sum()).reshape(label.shape[1], -1).sum(dim=1)
        losses.append(-(soft * by_class.log()).sum())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("partner", ["reversed", "random"])
@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("branches", [True, False])
def test_the_subspace_objective_is_the_loss_of_mixed_clips(branches, probability, partner):
    objective = subspace_objective(branches=branches, mixup_probability=probability, mixup_partner=partner)
    embed, label = Linear(9), [0, 1, 2, 2, 1]
    x = torch.randn(5, 9, generator=generator(3))
    (loss,) = objective.terms(embed, batch_of(x, [0] * 5, label), generator(4))
    loss.backward()
    weight = embed.weight.detach().double().requires_grad_()
    fixed, *learned = (
        each.weight.detach().double() for each in (objective.loss.concatenated, *objective.loss.subspaces)
    )
    learned = [each.requires_grad_() for each in learned]
    mixed, soft = soft_labels(x, label, 3, probability, generator(4), partner)
    z = (mixed @ weight).reshape(5, 3, 4)
    expected = adacos(z.flatten(1), fixed, soft)
    for branch, centres in enumerate(learned):
        expected = expected + adacos(z[:, branch], centres, soft)
    expected.backward()
    assert len(learned) == (3 if branches else 0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(embed.weight.grad.double(), weight.grad, rtol=1e-4, atol=1e-6)
    for scac, centres in zip(objective.loss.subspaces, learned, strict=True):
        torch.testing.assert_close(scac.weight.grad.double(), centres.grad, rtol=1e-4, atol=1e-6)


def test_feat_ex_adds_the_loss_on_exchanged_branches_of_mixed_clips():
    plain, added = (subspace_objective(branches=False, feat_ex=switch) for switch in (False, True))
    embed, label = Linear(9), [0, 1, 2, 2, 1, 0]
    x, rng = torch.randn(6, 9, generator=generator(3)), generator(4)
    given = batch_of(x, [0] * 6, label)
    (loss,), (without,) = (list(each.terms(embed, given, generator(4))) for each in (added, plain))
    mixed, soft = soft_labels(x, label, 3, 0.5, rng, "reversed")
    # Draws of FeatEx follow those of mixup.
    chosen = (torch.rand(6, generator=rng) < 0.5).tolist()
    givers = [list(range(6)), list(range(6))[::-1], torch.randperm(6, generator=rng).tolist()]
    z = (mixed @ embed.weight.detach().double()).reshape(6, 3, 4)
    vectors, labels = [], torch.zeros(6, 12, dtype=torch.float64)
    for clip in range(6):
        if chosen[clip]:
            vectors.append(torch.cat([z[giver[clip], branch] for branch, giver in enumerate(givers)]))
            for branch, giver in enumerate(givers):
                labels[clip, 3 * (1 + branch) : 3 * (2 + branch)] = soft[giver[clip]] / 3
        else:
            vectors.append(z[clip].flatten())
            labels[clip, :3] = soft[clip]
    assert {True, False} == set(chosen)
    expected = adacos(torch.stack(vectors), added.loss.exchanged.weight.detach().double(), labels)
    assert (loss - without).item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_adaptive_scale_changes_in_training_and_the_fixed_one_does_not():
    for scale, changes in (("adaptive", True), ("fixed", False)):
        objective = subspace_objective(scale=scale)
        before = objective.loss.concatenated.scale.item()
        list(objective.terms(Linear(9), batch_of(torch.randn(5, 9), [0, 1, 2, 2, 1]), generator()))
        assert (objective.loss.concatenated.scale.item() != before) == changes


# ---------------------------------------------------------------- reconstruction


def test_the_reconstruction_objective_is_the_mean_squared_error():
    weight = torch.randn(6, 6, generator=generator(1), dtype=torch.float64)
    x = torch.randn(4, 6, generator=generator(2), dtype=torch.float64)
    embed = nn.Linear(6, 6, bias=False).double()
    embed.weight.data = weight.T.clone()
    (loss,) = ReconstructionObjective().terms(embed, batch_of(x, [0] * 4), generator())
    loss.backward()
    error = (x @ weight - x).numpy()
    assert loss.item() == pytest.approx(sum(float(each) ** 2 for each in error.ravel()) / 24, rel=1e-12)
    # d/dW of the mean of (xW - x)^2.
    np.testing.assert_allclose(embed.weight.grad.T, 2 / 24 * x.numpy().T @ error, rtol=1e-12)


# ---------------------------------------------------------------- sums


class Counting(Objective):
    """A draw from the generator, and how often the extractor has run."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.names = (name,)
        self.weight = nn.Parameter(torch.ones(()))

    def terms(self, embed, batch: Batch, rng: torch.Generator) -> Iterator[Tensor]:
        yield self.weight * torch.rand((), generator=rng) + 0 * embed(batch.x).sum()


def test_a_sum_is_its_objectives_one_after_the_other_with_one_generator():
    parts = [subspace_objective(), triplet_objective(), Counting("third")]
    whole, embed, batch = Sum(parts), Linear(SAMPLES), batch_of(noise(6), [0, 1, 2, 0, 1, 2])
    assert whole.names == ("subspace_loss", "triplet_loss", "third")
    rng = generator(3)
    expected = [loss.item() for part in parts for loss in part.terms(embed, batch, rng)]
    assert [loss.item() for loss in whole.terms(embed, batch, generator(3))] == expected
    assert sum(each.numel() for each in whole.parameters()) == sum(
        each.numel() for part in parts for each in part.parameters()
    )
    assert len(set(whole.state_dict())) == sum(len(part.state_dict()) for part in parts)


def test_a_loss_is_computed_when_it_is_asked_for():
    runs = []

    def embed(x: Tensor) -> Tensor:
        runs.append(len(x))
        return x

    losses = Sum([Counting("a"), Counting("b")]).terms(embed, batch_of(noise(2), [0, 1]), generator())
    assert runs == []
    next(losses)
    assert runs == [2]
    next(losses)
    assert runs == [2, 2]


def test_no_objective_is_a_sum_without_losses():
    assert Sum([]).names == ()
    assert list(Sum([]).terms(None, batch_of(noise(1), [0]), generator())) == []
