"""FeatEx: the exchange of branches, traced clip by clip, and its loss against plain numpy loops."""

import itertools
import math

import numpy as np
import pytest
import torch

from asdpipe.method.augment import exchange_branches
from asdpipe.method.losses import SubspaceLoss
from tests.method.test_losses import adapted, array, draw, fixed_scale, scac, soft_labels


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------- the exchange of branches


def traced(clips: int, branches: int) -> torch.Tensor:
    """Embeddings (clips, branches, 2) that tell where they come from: (clip, branch)."""
    clip, branch = torch.meshgrid(torch.arange(clips), torch.arange(branches), indexing="ij")
    return torch.stack([clip, branch], dim=2).float()


def test_an_exchange_of_two_branches_by_hand():
    label = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.75, 0.25]])
    embedding, extended = exchange_branches(traced(3, 2), label, probability=1, generator=generator())
    assert embedding[:, 0].tolist() == [[0, 0], [1, 0], [2, 0]]
    assert embedding[:, 1].tolist() == [[2, 1], [1, 1], [0, 1]]
    # Not exchanged | class of the first branch | class of the second.
    assert extended.tolist() == [
        [0, 0, 0.5, 0, 0.375, 0.125],
        [0, 0, 0, 0.5, 0, 0.5],
        [0, 0, 0.375, 0.125, 0.5, 0],
    ]
    embedding, extended = exchange_branches(traced(3, 2), label, probability=0, generator=generator())
    assert torch.equal(embedding, traced(3, 2))
    assert extended.tolist() == [[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0.75, 0.25, 0, 0, 0, 0]]


@pytest.mark.parametrize("branches", [2, 3, 4])
def test_the_labels_of_an_exchange_name_the_classes_that_every_branch_comes_from(branches):
    size, classes = 60, 5
    soft = np.random.default_rng(0).dirichlet(np.ones(classes), size).astype(np.float32)
    embedding, extended = exchange_branches(
        traced(size, branches), torch.from_numpy(soft), probability=0.5, generator=generator(4)
    )
    assert embedding.shape == (size, branches, 2)
    assert extended.shape == (size, (branches + 1) * classes)
    np.testing.assert_allclose(extended.sum(dim=1), 1, atol=1e-6)
    exchanged = 0
    for i in range(size):
        givers = [int(embedding[i, k, 0]) for k in range(branches)]
        assert embedding[i, :, 1].tolist() == list(range(branches))  # no branch takes the place of another
        expected = np.zeros((branches + 1, classes))
        if givers == [i] * branches:
            expected[0] = soft[i]
        else:
            exchanged += 1
            assert givers[:2] == [i, size - 1 - i]
            for k, giver in enumerate(givers):
                expected[k + 1] = soft[giver] / branches
        np.testing.assert_allclose(extended[i].reshape(branches + 1, classes), expected, atol=1e-6)
    assert 15 < exchanged < 45


def test_every_clip_gives_each_further_branch_once_to_random_clips():
    embedding, _ = exchange_branches(traced(64, 4), torch.eye(64), probability=1, generator=generator())
    own, mirror, third, fourth = embedding[..., 0].T.int().tolist()
    assert own == list(range(64))
    assert mirror == own[::-1]
    assert sorted(third) == sorted(fourth) == own
    assert own != third != mirror
    assert third != fourth not in (own, mirror)


def test_exchanged_clips_are_drawn_with_the_given_probability_and_independently():
    draws, label = generator(5), torch.eye(50)
    for probability in (0.2, 0.5):
        kept = [
            exchange_branches(traced(50, 2), label, probability=probability, generator=draws)[1][:, :50].sum(dim=1)
            for _ in range(60)
        ]
        counts = (1 - torch.stack(kept)).sum(dim=1)
        assert float(counts.mean()) / 50 == pytest.approx(
            probability, abs=4 * math.sqrt(probability * (1 - probability) / 3000)
        )
        # The variance of a binomial distribution; drawing once per batch would give 50 times as much.
        assert float(counts.var()) == pytest.approx(50 * probability * (1 - probability), rel=0.6)


def test_the_gradient_of_an_exchanged_branch_goes_to_the_clip_that_gave_it():
    embedding = torch.randn(6, 2, 3, generator=generator()).requires_grad_()
    exchanged, _ = exchange_branches(embedding, torch.eye(6), probability=1, generator=generator())
    exchanged[1].sum().backward()
    expected = torch.zeros(6, 2, 3)
    expected[1, 0] = expected[4, 1] = 1
    assert torch.equal(embedding.grad, expected)


def test_an_exchange_leaves_its_input_as_it_is_and_is_repeatable():
    embedding, label = torch.randn(20, 3, 4, generator=generator(1)), torch.eye(20)
    copy = embedding.clone()
    first, second, other = (
        exchange_branches(embedding, label, probability=0.5, generator=generator(seed)) for seed in (7, 7, 8)
    )
    assert torch.equal(embedding, copy)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[1], other[1])


# ---------------------------------------------------------------- the loss


def feat_ex_terms(loss: SubspaceLoss, z: np.ndarray, label: np.ndarray, scale: float) -> tuple[list, list]:
    """The FeatEx loss of every clip of two branches, kept as it is and exchanged with its mirror."""
    centres, none = array(loss.exchanged.weight), np.zeros(label.shape[1])
    kept, exchanged = [], []
    for i in range(len(z)):
        j = len(z) - 1 - i
        for terms, second, y in (
            (kept, z[i, 1], [label[i], none, none]),
            (exchanged, z[j, 1], [none, label[i] / 2, label[j] / 2]),
        ):
            terms.append(scac(np.concatenate([z[i, 0], second])[None], centres, np.concatenate(y)[None], scale))
    return kept, exchanged


@pytest.mark.parametrize("per_branch", [True, False])
def test_feat_ex_adds_scac_of_three_times_the_classes_on_embeddings_of_which_half_are_exchanged(per_branch):
    torch.manual_seed(0)
    clips, width, classes, subclusters = 6, 4, 3, 2
    loss = SubspaceLoss(2, width, classes, subclusters, adaptive=False, per_branch=per_branch, feat_ex=True)
    embedding, label = draw(clips, 2, width), soft_labels(clips, classes)
    z, y = array(embedding), array(label)
    plain = scac(z.reshape(clips, -1), array(loss.concatenated.weight), y, fixed_scale(classes, subclusters))
    for branch, each in enumerate(loss.subspaces):
        plain += scac(z[:, branch], array(each.weight), y, fixed_scale(classes, subclusters))
    assert len(loss.subspaces) == (2 if per_branch else 0)
    terms = feat_ex_terms(loss, z, y, fixed_scale(3 * classes, subclusters))
    totals = {
        choice: plain + np.mean([terms[exchanged][i] for i, exchanged in enumerate(choice)])
        for choice in itertools.product((0, 1), repeat=clips)
    }
    draws, found = generator(1), []
    for _ in range(50):
        value = loss(embedding, label, draws).item()
        matches = [choice for choice, total in totals.items() if value == pytest.approx(total, rel=1e-6)]
        assert len(matches) == 1
        found += matches[0]
    assert np.mean(found) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(len(found)))


def test_feat_ex_gradients_equal_finite_differences_and_pass_over_the_fixed_centres():
    torch.manual_seed(0)
    loss = SubspaceLoss(2, 3, 3, 2, adaptive=False, per_branch=False, feat_ex=True)
    embedding, label = draw(4, 2, 3).requires_grad_(), soft_labels(4, 3)
    loss(embedding, label, generator(0)).backward()
    extended = exchange_branches(embedding, label, probability=0.5, generator=generator(0))[1]
    choice = (extended[:, :3].sum(dim=1) == 0).tolist()
    assert any(choice)
    assert not all(choice)

    def total(z: np.ndarray) -> float:
        terms = feat_ex_terms(loss, z, array(label), fixed_scale(9, 2))
        plain = scac(z.reshape(4, -1), array(loss.concatenated.weight), array(label), fixed_scale(3, 2))
        return plain + np.mean([terms[exchanged][i] for i, exchanged in enumerate(choice)])

    numeric, step = np.zeros((4, 2, 3)), 1e-5
    for index in np.ndindex(4, 2, 3):
        shift = np.zeros((4, 2, 3))
        shift[index] = step
        numeric[index] = (total(array(embedding) + shift) - total(array(embedding) - shift)) / (2 * step)
    np.testing.assert_allclose(array(embedding.grad), numeric, atol=1e-5)
    assert loss.concatenated.weight.grad is None
    assert float(loss.exchanged.weight.grad.abs().max()) > 0.01


@pytest.mark.parametrize("branches", [2, 3])
def test_feat_ex_has_learned_centres_of_one_block_of_classes_more_than_there_are_branches(branches):
    loss = SubspaceLoss(branches, 8, 5, 4, adaptive=False, per_branch=False, feat_ex=True)
    assert [name for name, _ in loss.named_parameters()] == ["exchanged.weight"]
    assert loss.exchanged.weight.shape == (branches * 8, (branches + 1) * 5 * 4)
    assert float(loss.exchanged.scale) == pytest.approx(fixed_scale((branches + 1) * 5, 4), rel=1e-6)
    assert float(loss.concatenated.scale) == pytest.approx(fixed_scale(5, 4), rel=1e-6)
    fixed, learned = loss.concatenated.weight.clone(), loss.exchanged.weight.detach().clone()
    optimizer = torch.optim.AdamW(loss.parameters(), lr=1e-3)
    loss(draw(6, branches, 8), soft_labels(6, 5), generator(0)).backward()
    optimizer.step()
    assert torch.equal(loss.concatenated.weight, fixed)
    assert not torch.equal(loss.exchanged.weight, learned)


def test_feat_ex_follows_its_generator_and_without_it_nothing_is_drawn():
    embedding, label = draw(20, 3, 8), soft_labels(20, 4)
    plain, feat_ex = (SubspaceLoss(3, 8, 4, 2, adaptive=False, feat_ex=switch) for switch in (False, True))
    draws = generator(0)
    before, everywhere = draws.get_state(), torch.get_rng_state()
    plain(embedding, label, draws)
    assert torch.equal(draws.get_state(), before)
    values = [feat_ex(embedding, label, generator(seed)).item() for seed in (3, 3, 4)]
    assert values[0] == values[1] != values[2]
    assert torch.equal(torch.get_rng_state(), everywhere)


def test_feat_ex_leaves_the_other_centres_as_they_start_without_it():
    states = []
    for feat_ex in (False, True):
        torch.manual_seed(0)
        states.append(SubspaceLoss(3, 8, 4, 2, adaptive=False, feat_ex=feat_ex).state_dict())
    assert states[1].keys() - states[0].keys() == {"exchanged.weight", "exchanged.scale"}
    assert all(torch.equal(states[1][name], value) for name, value in states[0].items())


@pytest.mark.parametrize("common", [0.0, 1.0], ids=["median above 45 degrees", "median below 45 degrees"])
def test_with_feat_ex_every_part_adapts_a_scale_of_its_own(common):
    torch.manual_seed(0)
    clips, width, classes, subclusters = 7, 6, 4, 3
    loss = SubspaceLoss(2, width, classes, subclusters, adaptive=True, per_branch=False, feat_ex=True)
    # Centres and embeddings that share a direction are near each other.
    for each in (loss.concatenated, loss.exchanged):
        each.weight.data += common
    scales = [fixed_scale(classes, subclusters), fixed_scale(3 * classes, subclusters)]
    draws, again = (generator(2) for _ in range(2))
    for step in range(3):
        embedding, label = common + 0.3 * draw(clips, 2, width, seed=step), soft_labels(clips, classes, seed=step)
        value = loss(embedding, label, draws).item()
        exchanged = exchange_branches(embedding, label, probability=0.5, generator=again)
        expected = 0.0
        for part, (each, (z, y)) in enumerate(
            zip((loss.concatenated, loss.exchanged), ((embedding, label), exchanged), strict=True)
        ):
            inputs = array(z).reshape(clips, -1), array(each.weight), array(y)
            scales[part] = adapted(*inputs, scales[part])
            assert float(each.scale) == pytest.approx(scales[part], rel=1e-4)
            expected += scac(*inputs, scales[part])
        assert value == pytest.approx(expected, rel=1e-4)
