"""What training does to waveforms, measured from the waveforms."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from asdpipe.method.augment import add_noise, mixup, noise_partners, random_offset


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------- crops


@pytest.mark.parametrize(
    ("length", "samples", "offsets"),
    [
        (4, 10, range(4)),  # shorter clip: anywhere in it
        (5, 5, range(5)),  # equal length: anywhere, it repeats
        (12, 10, range(3)),  # longer clip: only where the crop fits
        (11, 10, range(2)),
        (1, 10, range(1)),
    ],
)
def test_random_offset_takes_every_allowed_value_and_no_other(length, samples, offsets):
    rng = np.random.default_rng(0)
    drawn = [random_offset(length, samples, rng) for _ in range(400)]
    assert set(drawn) == set(offsets)
    counts = [drawn.count(each) for each in offsets]
    assert len(counts) == 1 or stats.chisquare(counts).pvalue > 1e-3


# ---------------------------------------------------------------- mixup


@pytest.mark.parametrize("partner", ["reversed", "random"])
def test_mixup_mixes_audio_and_labels_with_the_same_weights(partner):
    # With the identity as waveforms, row i of the result holds clip i's weights of all clips.
    weights, labels = mixup(torch.eye(200), torch.eye(200), probability=0.7, partner=partner, generator=generator())
    assert torch.equal(weights, labels)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(200))
    assert float(weights.min()) >= 0
    assert int((weights > 0).sum(dim=1).max()) == 2


def test_mixup_is_the_weighted_sum_of_the_clip_and_its_partner():
    x = torch.randn(6, 50, generator=generator(1))
    label = torch.eye(3)[[0, 1, 2, 0, 1, 2]]
    lam, _ = mixup(torch.eye(6), label, probability=1.0, partner="reversed", generator=generator(2))
    mixed, soft = mixup(x, label, probability=1.0, partner="reversed", generator=generator(2))
    for i in range(6):
        weight = float(lam[i, i])
        assert 0 < weight < 1
        np.testing.assert_allclose(mixed[i], weight * x[i] + (1 - weight) * x[5 - i], atol=1e-6)
        np.testing.assert_allclose(soft[i], weight * label[i] + (1 - weight) * label[5 - i], atol=1e-6)


def test_mixup_reversed_partner_is_the_mirror_clip():
    weights, _ = mixup(torch.eye(8), torch.eye(8), probability=1.0, partner="reversed", generator=generator())
    for i in range(8):
        assert set(weights[i].nonzero().flatten().tolist()) == {i, 7 - i}


def test_mixup_random_partners_are_a_permutation_that_differs_from_the_mirror():
    weights, _ = mixup(torch.eye(64), torch.eye(64), probability=1.0, partner="random", generator=generator())
    others = weights - torch.diag(weights.diagonal())
    partner = [int(row.argmax()) if row.max() > 0 else i for i, row in enumerate(others)]
    assert sorted(partner) == list(range(64))
    assert partner != list(range(63, -1, -1))


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.5, 1.0])
def test_mixup_changes_the_given_share_of_the_clips_with_uniform_weights(probability):
    size = 2000
    weights = torch.stack([torch.arange(size) % 2, 1 - torch.arange(size) % 2], dim=1).float()
    # Clip i and its mirror are of different parity, so the larger column tells the clip's own weight.
    mixed, _ = mixup(weights, weights, probability=probability, partner="reversed", generator=generator(3))
    own = (mixed * weights).sum(dim=1).numpy()
    changed = own[own < 1]
    deviation = math.sqrt(probability * (1 - probability) / size)
    assert len(changed) / size == pytest.approx(probability, abs=4 * deviation + 1e-9)
    if probability:
        assert stats.kstest(changed, "uniform").pvalue > 1e-3
    else:
        assert torch.equal(mixed, weights)


def test_mixup_leaves_its_input_as_it_is_and_is_repeatable():
    x, label = torch.randn(10, 20, generator=generator(1)), torch.eye(10)
    copy = x.clone()
    first = mixup(x, label, probability=0.5, partner="random", generator=generator(7))
    second = mixup(x, label, probability=0.5, partner="random", generator=generator(7))
    other = mixup(x, label, probability=0.5, partner="random", generator=generator(8))
    assert torch.equal(x, copy)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])


# ---------------------------------------------------------------- noise partners

MACHINES = torch.tensor([0, 0, 0, 1, 1, 2])


@pytest.mark.parametrize("noise_from", ["other_machine", "same_machine"])
def test_noise_partners_are_uniform_over_the_allowed_clips(noise_from):
    draws, machine = generator(), MACHINES.tolist()
    drawn = torch.stack([noise_partners(MACHINES, noise_from, draws) for _ in range(800)])
    for i in range(6):
        if noise_from == "other_machine":
            allowed = [j for j in range(6) if machine[j] != machine[i]]
        else:
            allowed = [j for j in range(6) if machine[j] == machine[i] and j != i]
        column = drawn[:, i].tolist()
        assert set(column) == set(allowed or [-1])
        counts = [column.count(each) for each in allowed]
        assert len(counts) < 2 or stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    ("machine", "noise_from", "expected"),
    [
        ([4, 4, 4], "other_machine", [-1, -1, -1]),
        ([0, 1, 2], "same_machine", [-1, -1, -1]),
        ([3, 8], "other_machine", [1, 0]),
        ([3, 3, 8], "same_machine", [1, 0, -1]),
        ([5], "other_machine", [-1]),
        ([5], "same_machine", [-1]),
    ],
)
def test_noise_partners_by_hand(machine, noise_from, expected):
    assert noise_partners(torch.tensor(machine), noise_from, generator()).tolist() == expected


# ---------------------------------------------------------------- noise


@pytest.mark.parametrize("alpha", [-5.0, 0.0, 3.3, 20.0])
def test_snr_measured_from_the_mixed_signal_is_alpha(alpha):
    anchor = torch.randn(3, 16_000, generator=generator(1)) * torch.tensor([[0.001], [0.1], [1.0]])
    noise = torch.randn(3, 16_000, generator=generator(2)) * torch.tensor([[1.0], [0.1], [0.02]])
    mixed = add_noise(anchor, noise, torch.full((3,), alpha))
    added = (mixed - anchor).double()
    measured = 10 * torch.log10(anchor.double().square().sum(dim=1) / added.square().sum(dim=1))
    np.testing.assert_allclose(measured, alpha, atol=1e-3)


def test_every_clip_has_its_own_snr_and_the_noise_keeps_its_shape_and_sign():
    anchor, noise = torch.randn(4, 5000, generator=generator(1)), torch.randn(4, 5000, generator=generator(2))
    alpha = torch.tensor([-5.0, 1.0, 7.0, 20.0])
    added = (add_noise(anchor, noise, alpha) - anchor).double()
    for i in range(4):
        gain = 10 ** (-float(alpha[i]) / 20) * math.sqrt(float((anchor[i] ** 2).sum()) / float((noise[i] ** 2).sum()))
        np.testing.assert_allclose(added[i], gain * noise[i].double(), atol=2e-6)


def test_silent_noise_adds_nothing_and_a_silent_anchor_gets_none():
    x = torch.randn(1, 100, generator=generator())
    assert torch.equal(add_noise(x, torch.zeros(1, 100), torch.tensor([-5.0])), x)
    assert torch.equal(add_noise(torch.zeros(1, 100), x, torch.tensor([-5.0])), torch.zeros(1, 100))
