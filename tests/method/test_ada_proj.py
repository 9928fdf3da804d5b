"""AdaProj against projections by least squares, and AdaCos' scale by plain loops."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from asdpipe.method.ada_proj import AdaProjObjective
from asdpipe.method.objectives import Batch

SHAPE, CLASSES = (2, 6), 4
LABEL = torch.tensor([0, 3, 1, 1, 2])


def make(subspace_dim: int = 3, shape: tuple[int, int] = SHAPE, classes: int = CLASSES) -> AdaProjObjective:
    torch.manual_seed(0)
    return AdaProjObjective(shape, classes, subspace_dim=subspace_dim)


def draw(seed: int = 1) -> Tensor:
    return torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(seed))


def loss_of(objective: AdaProjObjective, x: Tensor) -> Tensor:
    (loss,) = objective.terms(lambda x: x, Batch(x, LABEL, LABEL), torch.Generator())
    return loss


def cosines(x: Tensor, objective: AdaProjObjective) -> np.ndarray:
    """Cosine between every embedding and its nearest point of every subspace, found by least squares."""
    found = np.zeros((len(x), CLASSES))
    for clip, vector in enumerate(x.flatten(1).double().numpy()):
        for c, basis in enumerate(objective.basis.double().numpy()):
            projection = basis @ np.linalg.lstsq(basis, vector, rcond=None)[0]
            found[clip, c] = vector @ projection / np.linalg.norm(vector) / np.linalg.norm(projection)
    return found


def cross_entropy(cosine: np.ndarray, scale: float) -> float:
    own = [row[label] for row, label in zip(cosine, LABEL, strict=True)]
    sums = [sum(math.exp(scale * each) for each in row) for row in cosine]
    return -sum(scale * each - math.log(total) for each, total in zip(own, sums, strict=True)) / len(cosine)


def test_the_loss_is_the_cross_entropy_of_cosines_to_the_projections():
    objective, x = make().eval(), draw()
    assert float(objective.scale) == pytest.approx(math.sqrt(2) * math.log(CLASSES - 1))
    expected = cross_entropy(cosines(x, objective), float(objective.scale))
    assert loss_of(objective, x).item() == pytest.approx(expected, rel=1e-5)


def test_training_updates_the_scale_as_ada_cos_does_and_uses_it():
    objective, x = make(), draw()
    cosine, scale = cosines(x, objective), math.sqrt(2) * math.log(CLASSES - 1)
    for _ in range(3):
        loss = loss_of(objective, x)
        mean = 0.0
        for row, label in zip(cosine, LABEL.tolist(), strict=True):
            mean += (1 + sum(math.exp(scale * each) for c, each in enumerate(row) if c != label)) / len(x)
        median = sorted(math.acos(row[label]) for row, label in zip(cosine, LABEL, strict=True))[2]
        scale = math.log(mean) / math.cos(min(math.pi / 4, median))
        assert float(objective.scale) == pytest.approx(scale, rel=1e-5)
        assert loss.item() == pytest.approx(cross_entropy(cosine, scale), rel=1e-5)


def test_an_embedding_within_its_subspace_is_optimal_wherever_it_lies_there():
    objective = make().eval()
    weights = draw().flatten(1)[:, :3]
    x = torch.stack([objective.basis[c] @ weight for c, weight in zip(LABEL, weights, strict=True)])
    cosine = torch.einsum("bd,cds->bcs", x / x.norm(dim=1, keepdim=True), objective.basis).norm(dim=2)
    assert cosine[torch.arange(5), LABEL].tolist() == pytest.approx([1] * 5, abs=1e-6)
    assert cosine.max() <= 1 + 1e-6


def test_subspaces_are_fixed_saved_and_never_fill_the_embedding():
    objective = make(32)
    assert list(objective.parameters()) == []
    assert objective.state_dict().keys() == {"basis", "scale"}
    assert objective.basis.shape == (CLASSES, 12, 6)
    torch.testing.assert_close(objective.basis.mT @ objective.basis, torch.eye(6).expand(CLASSES, 6, 6))


def test_repeated_updates_keep_a_positive_scale_and_finite_gradients():
    objective = make()
    x = draw().requires_grad_()
    for _ in range(20):
        loss_of(objective, x).backward()
    assert float(objective.scale) > 0
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0
