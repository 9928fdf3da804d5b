"""The triplet objective: what it draws, the three passes, and its value by hand (paper §4.2.1, eq. 8-11)."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from asdpipe.config.losses import Triplet
from asdpipe.method.objectives import Batch
from asdpipe.models.multi_resolution import MultiResolutionNetwork

SAMPLES, RATE = 4000, 16_000


def draw_semitones(count, settings, rng):
    return settings.build().draw_semitones(count, rng)


def triplet_step(embed, x, machine, settings, rng):
    (loss,) = settings.build().terms(embed, Batch(x, machine, machine), rng)
    return loss


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(clips: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(clips, SAMPLES, generator=generator(seed))


def small_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return MultiResolutionNetwork(SAMPLES, 16, (256, 64), 200.0, (32, 8, 4), (8, 4, 2))


# ---------------------------------------------------------------- semitones


def test_semitones_are_uniform_over_both_signs_of_6_to_12():
    drawn = draw_semitones(7000, Triplet(), generator()).tolist()
    values = [*range(-12, -5), *range(6, 13)]
    assert set(drawn) == set(values)
    assert stats.chisquare([drawn.count(each) for each in values]).pvalue > 1e-3


@pytest.mark.parametrize("semitones", [(1, 1), (3, 4), (12, 12)])
def test_semitones_stay_in_the_configured_range(semitones):
    drawn = set(draw_semitones(200, Triplet(semitones=semitones), generator()).tolist())
    assert drawn == {sign * value for value in semitones for sign in (1, -1)}


def test_one_shift_per_batch_is_the_same_for_all_its_clips_and_differs_between_batches():
    draws = generator()
    batches = [draw_semitones(9, Triplet(shift_per="batch"), draws).tolist() for _ in range(300)]
    assert all(len(each) == 9 and len(set(each)) == 1 for each in batches)
    assert {each[0] for each in batches} == {*range(-12, -5), *range(6, 13)}


def test_one_shift_per_clip_differs_within_a_batch():
    assert len(set(draw_semitones(100, Triplet(shift_per="clip"), generator()).tolist())) > 10


# ---------------------------------------------------------------- the triplet step


class Waveform(nn.Module):
    """An embedding that is the waveform itself, and a record of what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.views = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.views.append(x)
        return x.unsqueeze(1)


def two_tones() -> torch.Tensor:
    """400 and 1000 Hz, of different loudness; whole periods, so they are orthogonal."""
    t = torch.arange(SAMPLES, dtype=torch.float64) / RATE
    return torch.stack([0.5 * torch.sin(2 * math.pi * 400 * t), 0.02 * torch.sin(2 * math.pi * 1000 * t)]).float()


@pytest.mark.parametrize("snr", [-5.0, 0.0, 20.0])
def test_triplet_step_of_two_orthogonal_tones_by_hand(snr):
    # cos(anchor, positive) = 1 / sqrt(1 + 10^(-snr / 10)); an octave up or down is orthogonal to the tone, but for the
    # edges of the shifted clip.
    settings = Triplet(snr_db=(snr, snr), semitones=(12, 12), gamma=10.0)
    value = triplet_step(Waveform(), two_tones(), torch.tensor([0, 1]), settings, generator())
    assert value.item() == pytest.approx(11 - 5 / math.sqrt(1 + 10 ** (-snr / 10)), abs=0.15)


def test_triplet_step_embeds_plain_noisy_and_shifted_clips_in_three_passes():
    network, x = Waveform(), two_tones()
    settings = Triplet(snr_db=(-5, 20), semitones=(12, 12))
    snrs = []
    for seed in range(60):
        triplet_step(network, x, torch.tensor([0, 1]), settings, generator(seed))
        anchor, positive, negative = network.views[-3:]
        assert torch.equal(anchor, x)
        added = (positive - anchor).double()
        snrs += (10 * torch.log10(anchor.double().square().sum(1) / added.square().sum(1))).tolist()
        # The noise is the clip of the other machine, whatever its loudness.
        cosine = torch.nn.functional.cosine_similarity(added, x.flip(0).double())
        torch.testing.assert_close(cosine, torch.ones(2, dtype=torch.float64), atol=1e-4, rtol=0)
        spectrum = torch.fft.rfft(negative).abs()
        peaks = spectrum.argmax(dim=1) * RATE / SAMPLES
        octaves = torch.log2(peaks / torch.tensor([400.0, 1000.0]))
        assert octaves.abs().tolist() == pytest.approx([1, 1], abs=0.02)
    assert len(network.views) == 3 * 60
    assert stats.kstest((np.array(snrs) + 5) / 25, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("machine", "settings"),
    [
        ([2, 2, 2, 2], Triplet()),  # one machine type only
        ([0, 1, 2, 3], Triplet(noise_from="same_machine")),  # no two clips of a machine type
        ([0, 0, 1, 1], Triplet(enabled=False)),
    ],
)
def test_triplet_step_without_partners_or_switched_off_is_zero_and_runs_no_network(machine, settings):
    network = Waveform()
    value = triplet_step(network, noise(4), torch.tensor(machine), settings, generator())
    assert value.shape == ()
    assert value.item() == 0
    assert network.views == []


def test_clips_without_a_partner_are_left_out():
    network, x = Waveform(), noise(5)
    settings = Triplet(noise_from="same_machine")
    triplet_step(network, x, torch.tensor([0, 1, 0, 2, 0]), settings, generator())
    assert torch.equal(network.views[0], x[[0, 2, 4]])


def test_a_batch_of_one_clip_has_no_triplet():
    assert triplet_step(Waveform(), noise(1), torch.tensor([0]), Triplet(), generator()).item() == 0


def test_triplet_step_sums_or_averages_over_its_clips():
    machine = torch.tensor([0, 1, 1, 0, 2])
    values = [
        triplet_step(Waveform(), noise(5), machine, Triplet(reduction=reduction, gamma=10), generator(3)).item()
        for reduction in ("sum", "mean")
    ]
    assert values[0] == pytest.approx(5 * values[1], rel=1e-5)
    assert values[1] > 0


def test_triplet_gradients_reach_the_weights_of_every_branch():
    network = small_network().train()
    triplet_step(network, noise(6), torch.tensor([0, 1, 0, 1, 2, 2]), Triplet(gamma=10), generator()).backward()
    for branch in network.branches:
        grads = [each.grad for each in branch.parameters()]
        assert all(torch.isfinite(each).all() for each in grads)
        assert sum(float(each.abs().sum()) for each in grads) > 0


def test_batch_norm_statistics_are_taken_per_pass():
    network = small_network().train()
    triplet_step(network, noise(4), torch.tensor([0, 1, 0, 1]), Triplet(), generator())
    counts = {int(value) for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    assert counts == {3}
