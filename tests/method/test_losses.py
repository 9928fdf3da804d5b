"""The losses against plain numpy loops written from the formulas."""

import math

import numpy as np
import pytest
import torch

from asdpipe.method.losses import SubclusterAdaCos, SubspaceLoss, triplet_loss


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def soft_labels(batch: int, classes: int, seed: int = 0) -> torch.Tensor:
    """Two classes per clip, as mixup leaves them."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((batch, classes))
    for row in labels:
        weight = rng.uniform()
        row[rng.integers(classes)] += weight
        row[rng.integers(classes)] += 1 - weight
    return torch.from_numpy(labels).float()


def make(dim: int, classes: int, subclusters: int, *, trainable=True, adaptive=False, seed=0) -> SubclusterAdaCos:
    torch.manual_seed(seed)
    return SubclusterAdaCos(dim, classes, subclusters, trainable=trainable, adaptive=adaptive)


def array(x: torch.Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))


def scac(embedding: np.ndarray, centres: np.ndarray, label: np.ndarray, scale: float) -> float:
    """-sum_c y_c log p_c, p_c = the softmax over all C * S centres summed over the S of class c, clip by clip."""
    total, classes = 0.0, label.shape[1]
    subclusters = centres.shape[1] // classes
    for z, y in zip(embedding, label, strict=True):
        exponentials = [math.exp(scale * cosine(z, centres[:, k])) for k in range(classes * subclusters)]
        for c in range(classes):
            p = sum(exponentials[c * subclusters : (c + 1) * subclusters]) / sum(exponentials)
            total -= y[c] * math.log(p)
    return total / len(embedding)


def fixed_scale(classes: int, subclusters: int) -> float:
    return math.sqrt(2) * math.log(classes * subclusters - 1)


# ---------------------------------------------------------------- sub-cluster AdaCos


@pytest.mark.parametrize(("batch", "dim", "classes", "subclusters"), [(5, 8, 3, 4), (1, 3, 2, 1), (7, 24, 10, 16)])
@pytest.mark.parametrize("trainable", [True, False])
def test_scac_is_the_cross_entropy_of_the_class_sums_of_the_softmax_over_all_subclusters(
    batch, dim, classes, subclusters, trainable
):
    loss = make(dim, classes, subclusters, trainable=trainable)
    if classes * subclusters == 2:
        loss.scale.fill_(3.0)
    embedding, label = draw(batch, dim, seed=1), soft_labels(batch, classes)
    expected = scac(array(embedding), array(loss.weight), array(label), float(loss.scale))
    assert loss(embedding, label).item() == pytest.approx(expected, rel=1e-5)


def test_scac_ignores_the_length_of_embeddings_and_of_centres():
    loss = make(6, 4, 2)
    embedding, label = draw(3, 6), soft_labels(3, 4)
    before = loss(embedding, label).item()
    loss.weight.data *= torch.linspace(0.1, 7, 8)
    after = loss(embedding * torch.tensor([[0.01], [1.0], [300.0]]), label).item()
    assert after == pytest.approx(before, rel=1e-5)


def test_scac_of_labels_is_linear_in_the_labels():
    loss = make(6, 4, 2)
    embedding = draw(1, 6)
    each = [loss(embedding, torch.eye(4)[[c]]).item() for c in range(4)]
    mixed = loss(embedding, torch.tensor([[0.3, 0.0, 0.7, 0.0]])).item()
    assert mixed == pytest.approx(0.3 * each[0] + 0.7 * each[2], rel=1e-5)


def test_scac_where_all_centres_are_equally_near_is_the_logarithm_of_the_number_of_classes():
    loss = make(5, 6, 3)
    loss.weight.data[:] = torch.ones(5, 1)
    assert loss(draw(4, 5), soft_labels(4, 6)).item() == pytest.approx(math.log(6), rel=1e-5)


@pytest.mark.parametrize(("classes", "subclusters"), [(2, 2), (7, 16), (14, 16), (300, 16)])
def test_fixed_scale_is_sqrt_2_times_the_logarithm_of_the_number_of_centres_less_one(classes, subclusters):
    loss = make(4, classes, subclusters)
    assert float(loss.scale) == pytest.approx(fixed_scale(classes, subclusters), rel=1e-6)
    loss(draw(5, 4), soft_labels(5, classes))
    assert float(loss.scale) == pytest.approx(fixed_scale(classes, subclusters), rel=1e-6)


def test_centres_start_xavier_uniform():
    weight = make(384, 14, 16, trainable=False).weight
    assert weight.shape == (384, 14 * 16)
    bound = math.sqrt(6 / (384 + 14 * 16))
    assert 0.999 * bound < float(weight.abs().max()) <= bound
    # A uniform distribution on [-b, b] has mean 0 and standard deviation b / sqrt(3).
    assert float(weight.mean()) == pytest.approx(0, abs=4 * bound / math.sqrt(3 * weight.numel()))
    assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.01)


def test_only_trainable_centres_are_parameters_and_both_are_saved():
    trainable, fixed = make(4, 3, 2, trainable=True), make(4, 3, 2, trainable=False)
    assert [name for name, _ in trainable.named_parameters()] == ["weight"]
    assert list(fixed.parameters()) == []
    assert not fixed.weight.requires_grad
    assert "weight" in trainable.state_dict()
    assert "weight" in fixed.state_dict()


@pytest.mark.parametrize("trainable", [True, False])
def test_an_optimiser_step_moves_trainable_centres_and_leaves_fixed_ones(trainable):
    loss = make(4, 3, 2, trainable=trainable)
    embedding = draw(5, 4).requires_grad_()
    before = loss.weight.clone()
    optimizer = torch.optim.AdamW([*loss.parameters(), embedding], lr=0.1)
    loss(embedding, soft_labels(5, 3)).backward()
    optimizer.step()
    assert torch.equal(loss.weight, before) is not trainable
    assert not torch.equal(embedding, draw(5, 4))


def test_scac_gradients_equal_finite_differences_of_the_numpy_loss():
    loss = make(6, 3, 4)
    embedding, label = draw(4, 6).requires_grad_(), soft_labels(4, 3)
    loss(embedding, label).backward()
    step, scale = 1e-5, fixed_scale(3, 4)
    for tensor, of in ((embedding, 0), (loss.weight, 1)):
        numeric = np.zeros(tuple(tensor.shape))
        for index in np.ndindex(*tensor.shape):
            values = []
            for sign in (1, -1):
                moved = [array(embedding), array(loss.weight)]
                moved[of][index] += sign * step
                values.append(scac(*moved, array(label), scale))
            numeric[index] = (values[0] - values[1]) / (2 * step)
        assert np.abs(numeric).max() > 0.01
        np.testing.assert_allclose(array(tensor.grad), numeric, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("adaptive", [True, False])
def test_scac_and_its_gradients_stay_finite_for_extreme_half_precision_embeddings(kind, adaptive):
    loss = make(8, 50, 16, adaptive=adaptive)
    extreme = torch.finfo(kind)
    largest = extreme.max if kind == torch.float16 else 1e18
    rows = [
        torch.full((8,), largest),
        torch.full((8,), extreme.smallest_normal),
        torch.zeros(8),
        65504 * torch.eye(8)[0],
    ]
    embedding = torch.stack(rows).to(kind).requires_grad_()
    value = loss(embedding, torch.eye(50)[[0, 1, 2, 49]])
    value.backward()
    assert value.dtype == torch.float32
    assert math.isfinite(value.item())
    assert torch.isfinite(loss.weight.grad).all()
    assert not torch.isnan(embedding.grad).any()


def test_scac_is_exact_where_the_softmax_underflows():
    # Two centres e and -e, scale s: an embedding at the wrong one costs 2 s + log(1 + exp(-2 s)); exp(-300) is 0 in
    # float32, so log(softmax) would be -inf.
    loss = make(2, 2, 1)
    loss.weight.data = torch.tensor([[1.0, -1.0], [0.0, 0.0]])
    loss.scale.fill_(150.0)
    embedding = torch.tensor([[1.0, 0.0]], dtype=torch.float16)
    assert loss(embedding, torch.tensor([[0.0, 1.0]])).item() == pytest.approx(300, rel=1e-6)
    assert loss(embedding, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(0, abs=1e-6)


def test_scac_stays_finite_under_autocast():
    loss, embedding, label = make(384, 300, 16), draw(4, 384).bfloat16(), soft_labels(4, 300)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(embedding, label)
    expected = scac(array(embedding), array(loss.weight), array(label), fixed_scale(300, 16))
    assert value.item() == pytest.approx(expected, rel=0.01)


# ---------------------------------------------------------------- the adaptive scale


def adapted(embedding: np.ndarray, centres: np.ndarray, label: np.ndarray, scale: float) -> float:
    """AdaCos: log(mean_i sum_k exp(s cos_ik)) / cos(min(pi / 4, median angle to the nearest centre of the class)).

    A soft label averages the angles of its classes.
    """
    classes = label.shape[1]
    subclusters = centres.shape[1] // classes
    sums, angles = [], []
    for z, y in zip(embedding, label, strict=True):
        cosines = [cosine(z, centres[:, k]) for k in range(classes * subclusters)]
        sums.append(sum(math.exp(scale * each) for each in cosines))
        nearest = [math.acos(max(cosines[c * subclusters : (c + 1) * subclusters])) for c in range(classes)]
        angles.append(sum(y[c] * nearest[c] for c in range(classes)))
    return math.log(np.mean(sums)) / math.cos(min(math.pi / 4, float(np.median(angles))))


@pytest.mark.parametrize("spread", [5.0, 0.1], ids=["median above 45 degrees", "median below 45 degrees"])
def test_adaptive_scale_follows_the_adacos_rule_step_by_step(spread):
    classes, subclusters = 4, 3
    loss = make(10, classes, subclusters, adaptive=True)
    own = [0, 1, 2, 3, 3, 1, 0]
    scale = fixed_scale(classes, subclusters)
    for step in range(3):
        near = torch.nn.functional.normalize(loss.weight.detach(), dim=0)[:, [subclusters * c for c in own]].T
        embedding = near + spread * draw(len(own), 10, seed=step)
        value = loss(embedding, torch.eye(classes)[own])
        scale = adapted(array(embedding), array(loss.weight), np.eye(classes)[own], scale)
        assert float(loss.scale) == pytest.approx(scale, rel=1e-4)
        expected = scac(array(embedding), array(loss.weight), np.eye(classes)[own], scale)
        assert value.item() == pytest.approx(expected, rel=1e-4)


def test_the_two_adaptive_cases_lie_on_either_side_of_45_degrees():
    loss = make(10, 4, 3, adaptive=True)
    own = [0, 1, 2, 3, 3, 1, 0]
    near = torch.nn.functional.normalize(loss.weight.detach(), dim=0)[:, [3 * c for c in own]].T
    medians = []
    for spread in (5.0, 0.1):
        z = array(near + spread * draw(len(own), 10))
        angles = [
            math.acos(max(cosine(each, array(loss.weight)[:, 3 * c + k]) for k in range(3)))
            for each, c in zip(z, own, strict=True)
        ]
        medians.append(np.median(angles))
    assert medians[0] > math.pi / 4 > medians[1] + 0.1


def test_adaptive_scale_does_not_move_in_evaluation_and_gives_no_gradient():
    loss = make(6, 4, 2, adaptive=True)
    embedding = draw(5, 6).requires_grad_()
    loss.eval()
    loss(embedding, soft_labels(5, 4))
    assert float(loss.scale) == pytest.approx(fixed_scale(4, 2), rel=1e-6)
    loss.train()
    loss(embedding, soft_labels(5, 4)).backward()
    assert float(loss.scale) != pytest.approx(fixed_scale(4, 2), rel=1e-3)
    assert not loss.scale.requires_grad
    # The gradient is that of the loss at the new scale, held fixed.
    fixed = make(6, 4, 2)
    fixed.weight.data[:] = loss.weight.data
    fixed.scale.copy_(loss.scale)
    again = draw(5, 6).requires_grad_()
    fixed(again, soft_labels(5, 4)).backward()
    torch.testing.assert_close(embedding.grad, again.grad)


# ---------------------------------------------------------------- subspace loss


def test_subspace_loss_is_scac_on_z_cat_plus_scac_on_every_branch():
    torch.manual_seed(0)
    branches, width, classes, subclusters = 3, 5, 4, 2
    loss = SubspaceLoss(branches, width, classes, subclusters, adaptive=False)
    embedding, label = draw(6, branches, width), soft_labels(6, classes)
    z, y, scale = array(embedding), array(label), fixed_scale(classes, subclusters)
    z_cat = np.concatenate([z[:, 0], z[:, 1], z[:, 2]], axis=1)
    expected = scac(z_cat, array(loss.concatenated.weight), y, scale)
    for branch in range(branches):
        expected += scac(z[:, branch], array(loss.subspaces[branch].weight), y, scale)
    assert loss(embedding, label).item() == pytest.approx(expected, rel=1e-5)


def test_subspace_loss_learns_the_centres_of_the_branches_and_not_those_of_z_cat():
    torch.manual_seed(0)
    loss = SubspaceLoss(3, 128, 14, 16, adaptive=False)
    assert sum(each.numel() for each in loss.parameters()) == 3 * 128 * 14 * 16
    assert loss.concatenated.weight.shape == (384, 14 * 16)
    fixed = loss.concatenated.weight.clone()
    learned = [each.weight.detach().clone() for each in loss.subspaces]
    optimizer = torch.optim.AdamW(loss.parameters(), lr=1e-3)
    loss(draw(4, 3, 128), soft_labels(4, 14)).backward()
    optimizer.step()
    assert torch.equal(loss.concatenated.weight, fixed)
    assert not any(torch.equal(each.weight, old) for each, old in zip(loss.subspaces, learned, strict=True))


def test_without_the_branches_the_loss_is_scac_on_z_cat_and_learns_no_centres():
    torch.manual_seed(0)
    loss = SubspaceLoss(2, 5, 4, 3, adaptive=False, per_branch=False)
    embedding, label = draw(6, 2, 5).requires_grad_(), soft_labels(6, 4)
    value = loss(embedding, label)
    z_cat = np.concatenate([array(embedding)[:, 0], array(embedding)[:, 1]], axis=1)
    expected = scac(z_cat, array(loss.concatenated.weight), array(label), fixed_scale(4, 3))
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert list(loss.parameters()) == []
    value.backward()
    assert float(embedding.grad.abs().min(dim=2).values.max()) > 0
    assert loss.concatenated.weight.grad is None


# ---------------------------------------------------------------- triplet loss

PAPER = {"tau": 0.2, "gamma": 0.5}
EAST, NORTH, BETWEEN, WEST = (1.0, 0.0), (0.0, 1.0), (0.6, 0.8), (-1.0, 0.0)


@pytest.mark.parametrize(
    ("anchor", "positive", "negative", "expected"),
    [
        (EAST, EAST, NORTH, 0.0),  # 1.5 - 5 + 0 < 0
        (EAST, NORTH, EAST, 6.5),  # 1.5 - 0 + 5
        (EAST, NORTH, NORTH, 1.5),  # equally similar: the offset is left
        (EAST, BETWEEN, (0.8, 0.6), 2.5),  # 1.5 - 3 + 4
        (EAST, WEST, EAST, 11.5),  # 1.5 + 5 + 5, the largest value
        ((3.0, 0.0), (0.0, 0.1), (50.0, 0.0), 6.5),  # lengths do not matter
    ],
)
def test_triplet_loss_by_hand(anchor, positive, negative, expected):
    value = triplet_loss(*(torch.tensor([each]) for each in (anchor, positive, negative)), **PAPER)
    assert value.item() == pytest.approx(expected, abs=1e-5)


def test_margin_gamma_leaves_out_the_one():
    vectors = [torch.tensor([each]) for each in (EAST, BETWEEN, (0.8, 0.6))]
    assert float(triplet_loss(*vectors, **PAPER, margin="gamma")) == pytest.approx(1.5, abs=1e-5)
    assert float(triplet_loss(*vectors, **PAPER, margin="gamma_plus_one")) == pytest.approx(2.5, abs=1e-5)


@pytest.mark.parametrize("margin", ["gamma", "gamma_plus_one"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("tau", "gamma"), [(0.2, 0.5), (1.0, 0.0), (0.05, 2.0)])
def test_triplet_loss_of_a_batch_equals_a_loop_over_its_clips(margin, reduction, tau, gamma):
    a, p, n = (draw(9, 7, seed=seed) for seed in range(3))
    p[:3], n[:3] = a[:3], -a[:3]
    values = []
    for i in range(9):
        offset = gamma + 1 if margin == "gamma_plus_one" else gamma
        s_p, s_n = (cosine(array(a[i]), array(each[i])) / tau for each in (p, n))
        values.append(max(0.0, offset - s_p + s_n))
    assert min(values) == 0 < max(values)
    expected = sum(values) if reduction == "sum" else sum(values) / 9
    value = triplet_loss(a, p, n, tau=tau, gamma=gamma, margin=margin, reduction=reduction)
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_triplet_loss_has_no_gradient_where_the_hinge_is_zero_and_one_elsewhere():
    anchor = torch.tensor([EAST, EAST], requires_grad=True)
    positive = torch.tensor([EAST, NORTH])
    negative = torch.tensor([NORTH, BETWEEN])
    triplet_loss(anchor, positive, negative, **PAPER).backward()
    assert torch.equal(anchor.grad[0], torch.zeros(2))
    # Mean over 2 of (cos(a, n) - cos(a, p)) / tau; at a = (1, 0) only the second component of a matters: n_y - p_y.
    torch.testing.assert_close(anchor.grad[1], torch.tensor([0.0, (0.8 - 1.0) / 0.2 / 2]))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_triplet_loss_of_an_empty_batch_is_zero_and_can_be_differentiated(reduction):
    anchor = torch.zeros(0, 4, requires_grad=True)
    value = triplet_loss(anchor, torch.zeros(0, 4), torch.zeros(0, 4), **PAPER, reduction=reduction)
    value.backward()
    assert value.item() == 0
    assert anchor.grad.shape == (0, 4)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_triplet_loss_of_half_precision_is_computed_in_float32(kind):
    # In half precision the squares of 300 overflow and those of 1e-4 vanish.
    a, p, n = (draw(6, 8, seed=seed).to(kind) for seed in range(3))
    exact = float(triplet_loss(a.double(), p.double(), n.double(), **PAPER))
    factor = torch.tensor([300, 1e-4, 1, 300, 1e-4, 1])[:, None]
    rows = (a.float() * factor).to(kind).requires_grad_()
    value = triplet_loss(rows, p, n, **PAPER)
    value.backward()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact, rel=0.02)
    assert torch.isfinite(rows.grad).all()
