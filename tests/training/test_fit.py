"""The steps of the training loop, and a small training."""

import functools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from asdpipe.config.method import Loss, Method, Network, Training, Triplet
from asdpipe.config.reading import read_config
from asdpipe.method.losses import SubspaceLoss
from asdpipe.training import fit as loop
from asdpipe.training.batches import TrainingSet
from asdpipe.training.fit import build_network, draw_semitones, train, triplet_step
from tests.conftest import ROOT

SAMPLES, RATE = 4000, 16_000
SMALL = Network(width=16, windows=(256, 64), dft_kernels=(32, 8, 4), dft_strides=(8, 4, 2))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(clips: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(clips, SAMPLES, generator=generator(seed))


def small_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_network(SMALL, SAMPLES)


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


# ---------------------------------------------------------------- a small training


def tones(clips_per_machine: int = 12) -> TrainingSet:
    """Three machine types that hum at 500, 1500 and 4000 Hz, in noise."""
    rng = np.random.default_rng(0)
    count = 3 * clips_per_machine
    machine = np.arange(count) % 3
    t = np.arange(SAMPLES) / RATE
    samples = [
        ((0.3 * np.sin(2 * np.pi * (500, 1500, 4000)[m] * t) + 0.05 * rng.normal(size=SAMPLES)) * 20_000).astype(
            np.int16
        )
        for m in machine
    ]
    return TrainingSet(
        samples, np.arange(count), machine.astype(np.int32), machine.astype(np.int32), np.arange(count) % 6 == 5
    )


def small_training(seed: int, epochs: int = 1, learning_rate: float = 1e-3, **changes):
    settings = Training(epochs=epochs, source_per_batch=10, target_per_batch=2, learning_rate=learning_rate)
    method = Method(network=SMALL, training=settings, **changes)
    return train(tones(), 3, method, SAMPLES, (seed, 1), torch.device("cpu"))


def test_training_is_determined_by_the_seed():
    (first, log), (second, same), (other, _) = (small_training(seed) for seed in (5, 5, 6))
    assert log.equals(same)
    weights = [network.state_dict() for network in (first, second, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_training_learns_to_tell_three_tones_apart():
    network, log = small_training(0, epochs=8, learning_rate=0.01, loss=Loss(mixup_probability=0))
    assert not network.training
    assert log.epoch.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert np.allclose(log.loss, log.subspace_loss + log.triplet_loss)
    # Four SCAC terms of a guess among three classes cost 4 log 3 = 4.4.
    assert log.subspace_loss.iloc[0] > 3
    assert log.subspace_loss.iloc[-1] < 2.5
    clips = tones()
    with torch.no_grad():
        z = network(torch.from_numpy(np.stack(clips.waveforms)).float() / 32768).flatten(1)
    cosine = torch.nn.functional.cosine_similarity(z[:, None], z[None], dim=2).numpy()
    same = clips.machine_index[:, None] == clips.machine_index[None]
    assert cosine[same].min() > cosine[~same].max()


def test_a_compiled_network_is_trained_as_the_network_is(monkeypatch):
    compiled = []
    # TorchDynamo without code generation: no C++ compiler, and the same kernels.
    compile_it = functools.partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or compile_it(network))
    method = Method(network=SMALL, training=Training(epochs=1, source_per_batch=4, target_per_batch=2))
    (plain, log), (network, same) = (
        train(tones(), 3, method, SAMPLES, (0, 1), torch.device("cpu"), torch_compile=switch)
        for switch in (False, True)
    )
    assert compiled == [network]
    assert log.equals(same)
    for name, value in network.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name


def test_without_the_triplet_its_loss_is_zero():
    _, log = small_training(0, triplet=Triplet(enabled=False))
    assert log.triplet_loss.tolist() == [0]
    assert log.subspace_loss[0] > 0


class Recorded(SubspaceLoss):
    """The loss, the state it starts from, and the labels and random draws it gets."""

    last: "Recorded"

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        Recorded.last = self
        self.start = {name: value.clone() for name, value in self.state_dict().items()}
        self.inputs = []

    def forward(self, embedding: torch.Tensor, label: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
        self.inputs.append((label, draws))
        return super().forward(embedding, label, draws)


@pytest.mark.parametrize("branches", [True, False])
@pytest.mark.parametrize("feat_ex", [True, False])
def test_training_uses_the_parts_of_the_loss_that_the_config_asks_for(monkeypatch, branches, feat_ex):
    monkeypatch.setattr(loop, "SubspaceLoss", Recorded)
    small_training(0, loss=Loss(branches=branches, feat_ex=feat_ex), triplet=Triplet(enabled=False))
    loss = Recorded.last
    learned = {f"subspaces.{branch}.weight" for branch in range(3) if branches}
    learned |= {"exchanged.weight"} if feat_ex else set()
    moved = {name for name, value in loss.state_dict().items() if not torch.equal(value, loss.start[name])}
    assert moved == learned
    # Mixup comes before: some labels are soft.
    assert any(bool(((label > 0) & (label < 1)).any()) for label, _ in loss.inputs)
    # The draws of the training itself, not torch's global ones.
    assert all(isinstance(draws, torch.Generator) for _, draws in loss.inputs)


def test_training_with_feat_ex_is_determined_by_the_seed():
    (first, log), (second, same), (_, plain) = (
        small_training(5, loss=Loss(branches=False, feat_ex=switch), triplet=Triplet(enabled=False))
        for switch in (True, True, False)
    )
    assert log.equals(same)
    weights = first.state_dict(), second.state_dict()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert log.loss[0] > plain.loss[0] + 1


def test_two_branches_with_feat_ex_learn_to_tell_three_tones_apart():
    settings = Training(epochs=8, source_per_batch=10, target_per_batch=2, learning_rate=0.01)
    method = Method(
        network=SMALL.model_copy(update={"windows": (256,)}),
        loss=Loss(branches=False, feat_ex=True),
        triplet=Triplet(enabled=False),
        training=settings,
    )
    network, log = train(tones(), 3, method, SAMPLES, (0, 1), torch.device("cpu"))
    assert log.subspace_loss.iloc[-1] < log.subspace_loss.iloc[0] - 1
    clips = tones()
    with torch.no_grad():
        z = network(torch.from_numpy(np.stack(clips.waveforms)).float() / 32768)
    assert z.shape == (36, 2, 16)
    cosine = torch.nn.functional.cosine_similarity(z.flatten(1)[:, None], z.flatten(1)[None], dim=2).numpy()
    same = clips.machine_index[:, None] == clips.machine_index[None]
    assert cosine[same].min() > cosine[~same].max()


# ---------------------------------------------------------------- the paper's size


def test_the_full_size_config_trains_a_step_with_every_loss():
    config = read_config([ROOT / "config/full.yaml"], {"data_root": "unused"})
    method = config.resolve_method("ba_trp_ps_ex")
    method = method.model_copy(update={"training": method.training.model_copy(update={"epochs": 1})})
    samples = config.resolve_dataset(config.dataset).num_samples
    rng = np.random.default_rng(0)
    clips = TrainingSet(
        [rng.integers(-3000, 3000, length, dtype=np.int16) for length in (96_000, 288_000, 160_000)],  # 6, 18, 10 s
        row=np.arange(3),
        class_index=np.array([0, 1, 2]),
        machine_index=np.array([0, 1, 2]),
        is_target=np.array([False, False, True]),
    )
    # Two source clips and twenty draws of one target clip would be a batch of 22: two draws are enough here.
    training = method.training.model_copy(update={"target_per_batch": 2})
    network, history = train(
        clips, 3, method.model_copy(update={"training": training}), samples, (0, 1), torch.device("cpu")
    )
    assert sum(each.numel() for each in network.parameters()) == 4_158_520
    with torch.inference_mode():
        assert network(torch.randn(1, samples)).shape == (1, 3, 128)
    assert history.loss.notna().all()
    assert history.triplet_loss[0] > 0
