"""ArcFace and sub-center ArcFace against plain loops over angles."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from asdpipe.method.arc_face import ArcFaceObjective, arc_face_loss
from asdpipe.method.objectives import Batch
from asdpipe.method.sub_center_arc_face import SubCenterArcFaceObjective

SHAPE, CLASSES = (2, 5), 4
LABEL = torch.tensor([0, 3, 1, 1, 2, 0])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def angle(a: np.ndarray, b: np.ndarray) -> float:
    return math.acos(np.clip(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b), -1, 1))


def expected(x: np.ndarray, centres: np.ndarray, margin: float, scale: float) -> float:
    """Cross-entropy clip by clip; ``centres`` (classes, centres per class, dim)."""
    total = 0.0
    for vector, own in zip(x, LABEL.tolist(), strict=True):
        angles = [min(angle(vector, centre) for centre in each) for each in centres]
        logits = [scale * math.cos(each + (margin if c == own else 0)) for c, each in enumerate(angles)]
        total += math.log(sum(math.exp(each - logits[own]) for each in logits))
    return total / len(x)


def loss_of(objective: torch.nn.Module, x: Tensor) -> Tensor:
    (loss,) = objective.terms(lambda x: x, Batch(x, LABEL, LABEL), torch.Generator())
    return loss


@pytest.mark.parametrize(("margin", "scale"), [(0.5, 30.0), (0.0, 1.0), (0.3, 8.0)])
@pytest.mark.parametrize("subclusters", [None, 1, 3])
def test_the_loss_is_the_cross_entropy_of_cosines_with_the_margin_on_the_own_angle(subclusters, margin, scale):
    torch.manual_seed(0)
    given = {"margin": margin, "scale": scale}
    if subclusters is None:
        objective = ArcFaceObjective(SHAPE, CLASSES, **given)
    else:
        objective = SubCenterArcFaceObjective(SHAPE, CLASSES, subclusters=subclusters, **given)
    x = draw(6, *SHAPE, seed=1).requires_grad_()
    centres = objective.centres.detach().double().numpy().reshape(CLASSES, subclusters or 1, 10)
    loss = loss_of(objective, x)
    assert loss.item() == pytest.approx(expected(x.detach().double().numpy().reshape(6, 10), centres, margin, scale))
    loss.backward()
    numeric = np.zeros((6, 10))
    for index in np.ndindex(6, 10):
        moved = np.array([x.detach().double().numpy().reshape(6, 10)] * 2)
        moved[0][index] += 1e-6
        moved[1][index] -= 1e-6
        numeric[index] = (
            expected(moved[0], centres, margin, scale) - expected(moved[1], centres, margin, scale)
        ) / 2e-6
    np.testing.assert_allclose(x.grad.flatten(1), numeric, atol=1e-4)
    assert objective.centres.grad.abs().sum() > 0


def test_one_sub_center_is_arc_face():
    torch.manual_seed(0)
    one = ArcFaceObjective(SHAPE, CLASSES, margin=0.5, scale=30.0)
    torch.manual_seed(0)
    other = SubCenterArcFaceObjective(SHAPE, CLASSES, subclusters=1, margin=0.5, scale=30.0)
    assert loss_of(one, draw(6, *SHAPE)).item() == loss_of(other, draw(6, *SHAPE)).item()


def test_the_loss_grows_with_the_angle_up_to_pi_and_has_finite_gradients_at_both_ends():
    angles = torch.linspace(0, math.pi, 100, dtype=torch.float64)
    cosine = torch.stack([angles.cos(), torch.zeros(100)], dim=1).float().requires_grad_()
    label = torch.zeros(100, dtype=torch.int64)
    each = [arc_face_loss(cosine[[i]], label[[i]], margin=0.5, scale=5.0) for i in range(100)]
    losses = torch.stack(each)
    assert (losses.diff() > 0).all()
    losses.sum().backward()
    assert cosine.grad.isfinite().all()
