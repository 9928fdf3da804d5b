"""Fine-tuning: steps of micro-batches, schedule, switches of the extractor, interruptions."""

import dataclasses
import math
import os
import signal
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from asdpipe.config.method import Method
from asdpipe.config.networks import MultiResolution
from asdpipe.config.training import FineTuning
from asdpipe.errors import UserError
from asdpipe.imports import built
from asdpipe.method.objectives import SubspaceObjective
from asdpipe.models.base import FeatureExtractor
from asdpipe.models.beats import Beats
from asdpipe.models.build import build_extractor
from asdpipe.models.lora import Lora
from asdpipe.training import epochs
from asdpipe.training.batches import TrainingSet
from asdpipe.training.crop import make_crop
from asdpipe.training.job import Trained, objective_context
from asdpipe.training.state import Checkpoint, Interrupted
from tests.training import jobs
from tests.training.jobs import Clips

SAMPLES, CLIPS = 400, 10
# Steps of four, four and two clips, in micro-batches of two.
SETTINGS = {"epochs": 3, "warm_up_epochs": 1, "batch_size": 4, "micro_batch": 3, "learning_rate": 0.01}
STEPS, MICRO_BATCHES = 3, 5
PLAIN = {"loss": {"mixup_probability": 0}, "triplet": {"enabled": False}}


class Tiny(FeatureExtractor):
    """A convolution and three residual layers, which training may drop; no batch normalisation."""

    def __init__(
        self, num_samples: int, *, layer_drop: float = 0.0, layer_decay: float = 1.0, checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.num_samples, self.embedding_shape = num_samples, (1, 8)
        self.switches = {"layer_drop": layer_drop, "layer_decay": layer_decay, "checkpointing": checkpointing}
        self.convolution = nn.Conv1d(1, 8, 16, 8)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.convolution(10 * x.unsqueeze(1)).relu().mean(dim=2)
        for layer in self.layers:
            if not self.training or torch.rand((), generator=self.rng) >= self.switches["layer_drop"]:
                tokens = tokens + layer(tokens).tanh()
        return tokens.unsqueeze(1)


def clips(count: int = CLIPS) -> TrainingSet:
    """Three machine types that hum, in clips of other lengths than the crops."""
    rng, machine = np.random.default_rng(0), np.arange(count, dtype=np.int32) % 3
    t = np.arange(SAMPLES + 100)
    samples = [
        (3000 * np.sin((0.2, 0.5, 1.1)[kind] * t) + 500 * rng.normal(size=len(t))).astype(np.int16) for kind in machine
    ]
    return TrainingSet(Clips(samples), np.arange(count), machine, machine, np.arange(count) % 5 == 4)


def train(
    data: TrainingSet | None = None,
    build: Any = Tiny,
    samples: int = SAMPLES,
    checkpoint: Checkpoint | None = None,
    training: dict[str, Any] | None = None,
    **sections: Any,
) -> Trained:
    method = Method(training=FineTuning(**{**SETTINGS, **(training or {})}), **sections)
    job = jobs.job(data or clips(), method, samples, checkpoint=checkpoint)
    job = dataclasses.replace(job, build_extractor=lambda **context: build(samples, **context))
    return method.training.build().train(job)


def assert_same(one: Trained, other: Trained) -> None:
    assert one.history.equals(other.history)
    found = one.extractor.state_dict()
    for name, value in other.extractor.state_dict().items():
        assert torch.equal(found[name], value), name


def difference(one: Trained, other: Trained) -> float:
    pairs = zip(one.extractor.state_dict().values(), other.extractor.state_dict().values(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


@pytest.fixture(scope="module")
def undisturbed() -> Trained:
    # Everything that draws: mixup, noise, pitch shifts, layer drop.
    return train(**DRAWING)


DRAWING: dict[str, Any] = {
    "loss": {"scale": "adaptive", "mixup_partner": "random"},
    "triplet": {"semitones": (6, 7)},
    "training": {"layer_drop": 0.3},
}


def test_all_clips_are_learned_once_an_epoch_in_steps_of_all_micro_batches(monkeypatch):
    seen, rates = [], []

    def watched(*arguments):
        crop = make_crop(*arguments)
        return lambda batch: seen.append(batch.clip.tolist()) or crop(batch)

    monkeypatch.setattr(epochs, "make_crop", watched)
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    try:
        history = train(**PLAIN).history
    finally:
        hook.remove()
    assert [len(clip) for clip in seen] == [2] * MICRO_BATCHES * 3
    for epoch in range(3):
        of_epoch = seen[epoch * MICRO_BATCHES : (epoch + 1) * MICRO_BATCHES]
        assert sorted(clip for batch in of_epoch for clip in batch) == list(range(CLIPS))
    assert seen[:MICRO_BATCHES] != seen[MICRO_BATCHES : 2 * MICRO_BATCHES]
    # Warm-up in the first epoch, then half a cosine over six steps.
    cosine = [0.005 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]
    assert rates == pytest.approx([0, 0.01 / 3, 0.02 / 3, *cosine])
    # A row has the rate of the last step of its epoch.
    assert history.learning_rate.tolist() == [rates[2], rates[5], rates[8]]
    assert history.columns.tolist() == ["epoch", "loss", "subspace_loss", "triplet_loss", "learning_rate"]


@pytest.mark.parametrize(("micro_batch", "count"), [(1, 10), (3, 10), (100, 10), (100, 1), (3, 2)])
def test_micro_batches_change_nothing_but_the_memory(monkeypatch, micro_batch, count):
    monkeypatch.setattr(epochs, "make_crop", lambda *given: lambda batch: make_crop(*given)(batch).double())

    def build(samples: int, **context: Any) -> FeatureExtractor:
        return Tiny(samples, **context).double()

    # Batches of all clips, or of more than there are.
    settings = {"batch_size": 512, "layer_drop": 0, "precision": "float32"}
    parts, whole = (
        train(clips(count), build, training=settings | {"micro_batch": size}, **PLAIN) for size in (micro_batch, count)
    )
    assert whole.history.loss.iloc[-1] > 0 or count == 1
    np.testing.assert_allclose(parts.history.loss, whole.history.loss, rtol=1e-5)
    assert difference(parts, whole) < 1e-5


def test_training_learns_to_tell_three_tones_apart():
    settings = {"epochs": 30, "warm_up_epochs": 2, "layer_drop": 0}
    trained = train(clips(30), training=settings, **PLAIN)
    assert not trained.extractor.training
    # Two SCAC terms of a guess among three classes cost 2 log 3 = 2.2.
    assert trained.history.loss.iloc[0] > 1.8
    assert trained.history.loss.iloc[-1] < 1


def test_training_with_layer_drop_is_determined_by_its_seed_alone(undisturbed):
    torch.manual_seed(12345)
    assert_same(train(**DRAWING), undisturbed)
    kept = train(**{**DRAWING, "training": {"layer_drop": 0}})
    assert difference(kept, undisturbed) > 1e-4


def test_the_triplet_loss_takes_its_noise_from_the_other_machine_types_of_a_micro_batch(undisturbed):
    assert (undisturbed.history.triplet_loss > 0).all()


def test_the_switches_reach_an_extractor_that_takes_them():
    switches = {"layer_drop": 0.25, "layer_decay": 0.5, "checkpointing": True}
    assert train(training=switches | {"epochs": 1, "warm_up_epochs": 0}).extractor.switches == switches


def test_the_learning_rate_may_be_meant_for_256_clips():
    history = train(training={"scale_by_batch": True, "batch_size": 128, "epochs": 1, "warm_up_epochs": 0}).history
    assert history.learning_rate.tolist() == [0.005]


def test_adapters_alone_are_trained():
    initial = []

    def build(samples: int, **context: Any) -> FeatureExtractor:
        lora = Lora(rank=2, alpha=4.0)
        extractor = Beats(samples, 2, 16, 32, 2, 8, None, "mean", lora, **context)
        initial.append({name: value.clone() for name, value in extractor.state_dict().items()})
        return extractor

    data = dataclasses.replace(clips(6), waveforms=Clips(np.tile(clip, 10) for clip in clips(6)))
    settings = {"epochs": 2, "layer_drop": 0.1, "layer_decay": 0.6, "checkpointing": True}
    one, other = (train(data, build, 4000, training=settings, **PLAIN) for _ in range(2))
    assert_same(one, other)
    moved = {name for name, value in one.extractor.state_dict().items() if not torch.equal(value, initial[0][name])}
    assert moved == set(one.extractor.saved_state())


def test_a_masked_autoencoder_learns_to_reconstruct_without_classes():
    method = Method(training=FineTuning(**SETTINGS))
    data = dataclasses.replace(clips(6), waveforms=Clips(np.tile(clip, 20) for clip in clips(6)))
    settings = {"kind": "masked_audio_mae", "frames": 32, "layers": 1, "width": 16, "heads": 2, "pooling": "mean"}
    settings |= {"decoder_layers": 1, "decoder_width": 16, "decoder_heads": 2}
    job = dataclasses.replace(
        jobs.job(data, method, 5000),
        build_extractor=lambda **context: build_extractor(settings, num_samples=5000, **context),
        build_objective=lambda extractor: built(
            "asdpipe.method.masked_reconstruction.MaskedReconstruction",
            {"mask_ratio": 0.5},
            objective_context(extractor) | {"num_classes": 3},
        ),
    )
    long = FineTuning(**{**SETTINGS, "epochs": 12, "learning_rate": 0.003})
    one, other = (long.build().train(job) for _ in range(2))
    assert_same(one, other)
    assert one.history.columns.tolist() == ["epoch", "loss", "reconstruction_loss", "learning_rate"]
    # Patches are normalised: a prediction of zeros has an error of 1.
    assert one.history.loss.iloc[-1] < min(1, 0.9 * one.history.loss.iloc[0])


# ---------------------------------------------------------------- interruptions


def in_micro_batch(monkeypatch: pytest.MonkeyPatch, number: int, do: Any) -> list[int]:
    """Call a function in the n-th micro-batch from here; return a list that grows with every one."""
    real, counted = SubspaceObjective.terms, []

    def terms(*arguments):
        counted.append(1)
        if len(counted) == number:
            do()
        yield from real(*arguments)

    monkeypatch.setattr(SubspaceObjective, "terms", terms)
    return counted


# Of the micro-batches 1 to 5 of an epoch, 1 and 2, 3 and 4, and 5 are a step.
@pytest.mark.parametrize(("number", "finished"), [(1, 2), (3, 4), (4, 4), (5, 5), (6, 7), (15, 15)])
def test_a_signal_lets_the_step_end_and_the_training_resumes_with_the_same_bytes(
    undisturbed, tmp_path, monkeypatch, number, finished
):
    path = tmp_path / "state"
    with monkeypatch.context() as patch:
        counted = in_micro_batch(patch, number, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            train(checkpoint=Checkpoint(path, {}), **DRAWING)
        assert len(counted) == finished
    counted = in_micro_batch(monkeypatch, -1, None)
    assert_same(train(checkpoint=Checkpoint(path, {}), **DRAWING), undisturbed)
    assert len(counted) == 3 * MICRO_BATCHES - finished


class Killed(BaseException):
    """The process is gone."""


def test_a_killed_training_resumes_after_its_last_epoch(undisturbed, tmp_path, monkeypatch):
    path = tmp_path / "state"

    def die() -> None:
        raise Killed

    with monkeypatch.context() as patch:
        in_micro_batch(patch, MICRO_BATCHES + 3, die)
        with pytest.raises(Killed):
            train(checkpoint=Checkpoint(path, {}), **DRAWING)
    counted = in_micro_batch(monkeypatch, -1, None)
    assert_same(train(checkpoint=Checkpoint(path, {}), **DRAWING), undisturbed)
    assert len(counted) == 2 * MICRO_BATCHES


# ---------------------------------------------------------------- refusals


def test_a_training_that_diverges_names_the_step_and_its_rate(tmp_path, monkeypatch):
    real, counted = SubspaceObjective.terms, []

    def terms(*arguments):
        counted.append(1)
        for loss in real(*arguments):
            yield loss * math.nan if len(counted) == MICRO_BATCHES + 3 else loss

    monkeypatch.setattr(SubspaceObjective, "terms", terms)
    with pytest.raises(UserError) as error:
        train(checkpoint=Checkpoint(tmp_path / "state", {}), **PLAIN)
    message = str(error.value)
    # The second step after the warm-up: 0.01 (1 + cos(30 degrees)) / 2.
    assert "diverged in epoch 2, step 2: subspace loss nan, triplet loss 0; learning rate 0.00933013. " in message
    # The clips of both micro-batches.
    assert len(message.rpartition("Clips of the batch: ")[2].split(", ")) == 4


def test_the_message_of_a_large_batch_names_some_of_its_clips(monkeypatch):
    monkeypatch.setattr(epochs, "SHOWN_CLIPS", 3)
    monkeypatch.setattr(SubspaceObjective, "terms", lambda *_: iter([torch.tensor(math.inf)]))
    with pytest.raises(UserError, match=r"Clips of the batch: (clip \d, ){2}clip \d and 7 more$"):
        train(training={"batch_size": 512}, **PLAIN)


def test_batch_normalisation_is_refused():
    network = MultiResolution(width=8, windows=(64,), dft_kernels=(32, 8, 4), dft_strides=(8, 4, 2))
    method = Method(network=network, training=FineTuning(**SETTINGS))
    with pytest.raises(UserError, match="batch normalisation does not allow: use training: clips"):
        jobs.train(clips(), method, 2000)


def test_fixed_statistics_are_allowed():
    def build(samples: int, **context: Any) -> FeatureExtractor:
        settings = {"kind": "ced", "layers": 1, "width": 12, "heads": 3, "layer": None, "pooling": "mean"}
        return build_extractor(settings, num_samples=samples, **context)

    data = dataclasses.replace(clips(4), waveforms=Clips(np.tile(clip, 20) for clip in clips(4)))
    assert train(data, build, 8000, training={"epochs": 2}, **PLAIN).history.loss.notna().all()


def test_a_network_without_weights_is_refused():
    method = Method(network="log_mel", training=FineTuning(**SETTINGS))
    with pytest.raises(UserError, match="has no weights to train; use training: none"):
        jobs.train(clips(), method, 2000)


def test_whole_clips_of_any_length_are_refused():
    def build(samples: int, **context: Any) -> FeatureExtractor:
        extractor = Tiny(samples, **context)
        extractor.num_samples = None
        return extractor

    with pytest.raises(UserError, match="needs a network with a fixed input length"):
        train(build=build)


def test_the_warm_up_ends_before_the_training():
    with pytest.raises(ValueError, match=r"warm_up_epochs must be less than epochs \(4\), not 4"):
        FineTuning(epochs=4)
