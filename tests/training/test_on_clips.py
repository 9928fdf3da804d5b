"""Training on clips: a small one, and a step at the paper's size."""

import functools

import numpy as np
import pytest
import torch

from asdpipe.config.networks import MultiResolution
from asdpipe.config.reading import read_config
from asdpipe.errors import UserError
from asdpipe.method.losses import SubspaceLoss
from asdpipe.models.build import build_extractor
from asdpipe.training.batches import TrainingSet
from asdpipe.training.fit import fit
from asdpipe.training.job import Trained
from tests.conftest import ROOT
from tests.training.jobs import Clips, small_method, train

SAMPLES, RATE = 4000, 16_000
SMALL = MultiResolution(width=16, windows=(256, 64), dft_kernels=(32, 8, 4), dft_strides=(8, 4, 2))
NO_TRIPLET = {"enabled": False}


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


def small_training(seed: int, epochs: int = 1, learning_rate: float = 1e-3, **changes) -> Trained:
    training = {"epochs": epochs, "learning_rate": learning_rate, **changes.pop("training", {})}
    method = small_method(SMALL, training=training, **changes)
    return train(tones(), method, SAMPLES, seed=(seed, 1))


def test_training_is_determined_by_the_seed():
    first, second, other = (small_training(seed) for seed in (5, 5, 6))
    assert first.history.equals(second.history)
    weights = [trained.extractor.state_dict() for trained in (first, second, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_training_learns_to_tell_three_tones_apart():
    # After eight epochs rounding, which depends on the threads, decides whether the last assertion holds.
    trained = small_training(0, epochs=12, learning_rate=0.01, loss={"mixup_probability": 0})
    network, log = trained.extractor, trained.history
    assert not network.training
    assert log.columns.tolist() == ["epoch", "loss", "subspace_loss", "triplet_loss", "learning_rate"]
    assert log.epoch.tolist() == list(range(1, 13))
    assert np.allclose(log.loss, log.subspace_loss + log.triplet_loss)
    # Four SCAC terms of a guess among three classes cost 4 log 3 = 4.4.
    assert log.subspace_loss.iloc[0] > 3
    assert log.subspace_loss.iloc[-1] < 2.2
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
    # A compiled network embeds view by view.
    monkeypatch.setattr("asdpipe.training.forward.MAX_JOINT_SIZE", 0)
    method = small_method(SMALL, training={"epochs": 1, "source_per_batch": 4})
    plain, trained = (train(tones(), method, SAMPLES, torch_compile=switch) for switch in (False, True))
    assert compiled == [trained.extractor]
    assert plain.history.equals(trained.history)
    for name, value in trained.extractor.state_dict().items():
        assert torch.equal(value, plain.extractor.state_dict()[name]), name


def test_without_the_triplet_its_loss_is_zero():
    log = small_training(0, triplet=NO_TRIPLET).history
    assert log.triplet_loss.tolist() == [0]
    assert log.subspace_loss[0] > 0


def test_the_settings_of_the_network_that_comes_back_build_it_again():
    trained = small_training(0)
    again = build_extractor(trained.network, num_samples=SAMPLES)
    again.load_state_dict(trained.extractor.state_dict())
    x = torch.randn(2, SAMPLES)
    assert torch.equal(again.eval()(x), trained.extractor(x))
    assert trained.checkpoints


@pytest.mark.parametrize(("epoch", "steps"), [("all", 8), ("random_half", 5)])
def test_an_epoch_takes_all_source_clips_or_a_random_half(monkeypatch, epoch, steps):
    counted = []
    monkeypatch.setattr(
        "asdpipe.training.epochs.fit", lambda *arguments: (counted.append(1) or each for each in fit(*arguments))
    )
    # 30 source clips in batches of four.
    small_training(0, training={"epoch": epoch, "source_per_batch": 4}, triplet=NO_TRIPLET)
    assert len(counted) == steps


@pytest.mark.parametrize(("source", "per_batch", "targets"), [(1, 10, 2), (5, 1, 2), (1, 10, 0), (5, 1, 0)])
def test_batches_of_one_clip_are_refused_with_a_way_out(source, per_batch, targets):
    clips = tones()
    members = np.flatnonzero(~clips.is_target)[:source]
    chosen = TrainingSet(
        clips.waveforms, members, clips.class_index[members], clips.machine_index[members], clips.is_target[members]
    )
    method = small_method(SMALL, training={"epochs": 1, "source_per_batch": per_batch, "target_per_batch": targets})
    with pytest.raises(UserError, match=rf"{source} training clips make batches of a single clip.*source_per_batch"):
        train(chosen, method, SAMPLES)


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
    monkeypatch.setattr("asdpipe.method.objectives.SubspaceLoss", Recorded)
    small_training(0, loss={"branches": branches, "feat_ex": feat_ex}, triplet=NO_TRIPLET)
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
    first, second, plain = (
        small_training(5, loss={"branches": False, "feat_ex": switch}, triplet=NO_TRIPLET)
        for switch in (True, True, False)
    )
    assert first.history.equals(second.history)
    weights = first.extractor.state_dict(), second.extractor.state_dict()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert first.history.loss[0] > plain.history.loss[0] + 1


def test_two_branches_with_feat_ex_learn_to_tell_three_tones_apart():
    method = small_method(
        SMALL.model_copy(update={"windows": (256,)}),
        loss={"branches": False, "feat_ex": True},
        triplet=NO_TRIPLET,
        training={"epochs": 8, "learning_rate": 0.01},
    )
    trained = train(tones(), method, SAMPLES)
    network, log = trained.extractor, trained.history
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
    samples = config.resolve_dataset(config.dataset).num_samples
    rng = np.random.default_rng(0)
    clips = TrainingSet(
        # 6, 18 and 10 s.
        Clips(rng.integers(-3000, 3000, length, dtype=np.int16) for length in (96_000, 288_000, 160_000)),
        row=np.arange(3),
        class_index=np.array([0, 1, 2]),
        machine_index=np.array([0, 1, 2]),
        is_target=np.array([False, False, True]),
    )
    # Two source clips and twenty draws of one target clip would be a batch of 22: two draws are enough here.
    training = method.training.model_copy(update={"epochs": 1, "target_per_batch": 2})
    trained = train(clips, method.model_copy(update={"training": training}), samples)
    network, history = trained.extractor, trained.history
    assert sum(each.numel() for each in network.parameters()) == 4_158_520
    with torch.inference_mode():
        assert network(torch.randn(1, samples)).shape == (1, 3, 128)
    assert history.loss.notna().all()
    assert history.triplet_loss[0] > 0
