"""Interrupted trainings: whatever happens on the way, they end as an undisturbed one does."""

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from asdpipe.config.method import Method
from asdpipe.config.networks import MultiResolution
from asdpipe.config.training import FrameTraining
from asdpipe.errors import UserError
from asdpipe.method.objectives import ReconstructionObjective, TripletObjective
from asdpipe.training import on_clips
from asdpipe.training.batches import TrainingSet
from asdpipe.training.job import Trained
from asdpipe.training.state import LOSSES, Checkpoint, Interrupted
from tests.training import jobs
from tests.training.jobs import CPU, Clips, NoCheckpoint, small_method

SAMPLES = 2000
SMALL = MultiResolution(width=8, windows=(64,), dft_kernels=(32, 8, 4), dft_strides=(8, 4, 2))
EPOCHS, STEPS = 3, 2


def clips() -> TrainingSet:
    """Clips of other lengths than the network's, so that each is cut at random."""
    rng = np.random.default_rng(0)
    count = 12
    samples = Clips(rng.integers(-3000, 3000, 2500, dtype=np.int16) for _ in range(count))
    machine = (np.arange(count) % 3).astype(np.int32)
    return TrainingSet(samples, np.arange(count), machine, machine, np.arange(count) % 6 == 5)


def method(learning_rate: float = 1e-3) -> Method:
    # Everything that draws, or changes itself: FeatEx, random partners, the adaptive scale.
    return small_method(
        SMALL,
        loss={"scale": "adaptive", "feat_ex": True, "mixup_partner": "random"},
        triplet={"semitones": (6, 7)},
        training={"epochs": EPOCHS, "source_per_batch": 5, "learning_rate": learning_rate},
    )


def train(checkpoint: Checkpoint | None = None, **changes) -> Trained:
    return jobs.train(clips(), method(**changes), SAMPLES, checkpoint=checkpoint)


def assert_same(one: Trained, other: Trained) -> None:
    assert one.history.equals(other.history)
    found = one.extractor.state_dict()
    for name, value in other.extractor.state_dict().items():
        assert torch.equal(found[name], value), name


@pytest.fixture(scope="module")
def undisturbed():
    return train()


class Killed(BaseException):
    """The process is gone."""


def in_every_step(monkeypatch: pytest.MonkeyPatch, do: Callable[[int], None]) -> None:
    """Call a function with the number of the step, from 1 on, in every step of the trainings from here."""
    real, steps = TripletObjective.terms, []

    def terms(*arguments):
        steps.append(1)
        do(len(steps))
        yield from real(*arguments)

    monkeypatch.setattr(TripletObjective, "terms", terms)


def die_in_step(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the training end without a word in its n-th step from here."""

    def die(step: int) -> None:
        if step == number:
            raise Killed

    in_every_step(monkeypatch, die)


def signal_in_step(monkeypatch: pytest.MonkeyPatch, number: int, which: signal.Signals) -> None:
    in_every_step(monkeypatch, lambda step: os.kill(os.getpid(), which) if step == number else None)


def test_a_training_with_a_checkpoint_ends_as_one_without(undisturbed, tmp_path):
    assert_same(train(Checkpoint(tmp_path / "state", {})), undisturbed)


def test_killed_trainings_lose_at_most_one_epoch_and_end_the_same(undisturbed, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    # In the second step of the first epoch, of the second, and of the third; nothing of the epoch before is done again.
    for step in (2, STEPS + 2, STEPS + 2):
        with monkeypatch.context() as patch:
            die_in_step(patch, step)
            with pytest.raises(Killed):
                train(Checkpoint(tmp_path / "state", {}))
    assert_same(train(Checkpoint(tmp_path / "state", {})), undisturbed)
    found = [row.partition(",")[0] for row in caplog.messages if "resuming" in row]
    assert found == ["resuming after epoch 1 and 0 steps", "resuming after epoch 2 and 0 steps"]


@pytest.mark.parametrize(
    ("step", "which"),
    [(1, signal.SIGTERM), (STEPS, signal.SIGINT), (STEPS + 1, signal.SIGTERM), (EPOCHS * STEPS, signal.SIGTERM)],
)
def test_a_signal_lets_the_step_end_and_nothing_is_lost(undisturbed, tmp_path, monkeypatch, step, which):
    path = tmp_path / "state"
    with monkeypatch.context() as patch:
        signal_in_step(patch, step, which)
        with pytest.raises(Interrupted, match="nothing is lost: run the same command again"):
            train(Checkpoint(path, {}))
    # Of the epoch that was running, the losses of all its steps are there.
    assert len(safetensors.torch.load_file(path)[LOSSES]) == step % STEPS
    counted = []
    in_every_step(monkeypatch, counted.append)
    assert_same(train(Checkpoint(path, {})), undisturbed)
    assert len(counted) == EPOCHS * STEPS - step


def test_a_training_that_went_on_may_be_interrupted_within_that_epoch(undisturbed, tmp_path, monkeypatch):
    path = tmp_path / "state"
    interrupted_after_an_epoch(path, {}, monkeypatch)
    with monkeypatch.context() as patch:
        signal_in_step(patch, 1, signal.SIGTERM)
        with pytest.raises(Interrupted, match="after epoch 1 and 1 steps"):
            train(Checkpoint(path, {}))
    assert_same(train(Checkpoint(path, {})), undisturbed)


def test_handlers_of_signals_are_as_before_once_a_training_has_ended(tmp_path):
    before = [signal.getsignal(which) for which in (signal.SIGTERM, signal.SIGINT)]
    train(Checkpoint(tmp_path / "state", {}))
    assert [signal.getsignal(which) for which in (signal.SIGTERM, signal.SIGINT)] == before


def test_signals_that_are_ignored_stay_so_and_handlers_come_back(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        checkpoint = Checkpoint(tmp_path / "state", {})
        with checkpoint.stoppable():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            assert callable(signal.getsignal(signal.SIGTERM))
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_signal_ends_the_process_at_once(tmp_path):
    checkpoint = Checkpoint(tmp_path / "state", {})
    with checkpoint.stoppable(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        assert checkpoint.stop_asked.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        signal.sigtimedwait([], 0)


def interrupted_after_an_epoch(path: Path, made_of: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        die_in_step(patch, STEPS + 1)
        with pytest.raises(Killed):
            train(Checkpoint(path, made_of))


def test_a_checkpoint_of_other_settings_or_inputs_is_not_read_but_replaced(undisturbed, tmp_path, monkeypatch, caplog):
    path = tmp_path / "state"
    interrupted_after_an_epoch(path, {"seed": 0, "clips": "ab"}, monkeypatch)
    other = {"seed": 0, "clips": "cd"}
    assert_same(train(Checkpoint(path, other)), undisturbed)
    assert "other settings, inputs or code, starting from the beginning" in caplog.text
    # The one that replaced it is of a finished training: nothing is left to do.
    monkeypatch.setattr(TripletObjective, "terms", None)
    assert_same(train(Checkpoint(path, other)), undisturbed)


@pytest.mark.parametrize("damage", ["empty", "short", "pickle"])
def test_a_damaged_checkpoint_is_not_read_but_replaced(undisturbed, tmp_path, monkeypatch, caplog, damage):
    path = tmp_path / "state"
    interrupted_after_an_epoch(path, {}, monkeypatch)
    if damage == "pickle":
        torch.save({"network": 1}, path)
    else:
        path.write_bytes(path.read_bytes()[: 0 if damage == "empty" else -100])
    assert_same(train(Checkpoint(path, {})), undisturbed)
    assert f"{path}: cannot be read" in caplog.text


def test_a_checkpoint_that_only_pretends_to_fit_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "state"
    interrupted_after_an_epoch(path, {}, monkeypatch)
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = safetensors.torch.load_file(path)
    del tensors[next(name for name in tensors if name.endswith("weight"))]
    safetensors.torch.save_file(tensors, path, metadata)
    with pytest.raises(UserError, match=r"(?s)does not fit this training.*delete it and run again"):
        train(Checkpoint(path, {}))


# ---------------------------------------------------------------- numbers that are not finite


def spoil_step(monkeypatch: pytest.MonkeyPatch, number: int, value: float, weights_only: bool = False) -> list[list]:
    """Make the loss of the n-th step, or only its gradient, not finite; return the clips of all batches."""
    real_terms, real_batches, steps, seen = TripletObjective.terms, on_clips.epoch_batches, [], []

    def terms(objective, embed, batch, rng):
        steps.append(1)
        (loss,) = real_terms(objective, embed, batch, rng)
        if len(steps) != number:
            yield loss
        else:
            yield loss + (0 * embed(batch.x).sum()).sqrt() if weights_only else loss * value

    def batches(*arguments):
        for batch in real_batches(*arguments):
            seen.append(sorted({f"clip {each}" for each in batch.clip}))
            yield batch

    monkeypatch.setattr(TripletObjective, "terms", terms)
    monkeypatch.setattr(on_clips, "epoch_batches", batches)
    return seen


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_step_rate_and_clips_and_keeps_the_last_good_state(
    undisturbed, tmp_path, monkeypatch, value
):
    path = tmp_path / "state"
    with monkeypatch.context() as patch:
        seen = spoil_step(patch, STEPS + 2, value)
        with pytest.raises(UserError) as error:
            train(Checkpoint(path, {}))
    message = str(error.value)
    assert "diverged in epoch 2, step 2: subspace loss " in message
    assert f"triplet loss {value:g}; learning rate 0.001" in message
    assert "Try a smaller training.learning_rate" in message
    assert sorted(message.rpartition("Clips of the batch: ")[2].split(", ")) == seen[STEPS + 1]
    # What went wrong was the machine: started again, the training ends as if nothing had been.
    assert len(safetensors.torch.load_file(path)[LOSSES]) == 0
    assert_same(train(Checkpoint(path, {})), undisturbed)


def test_weights_that_are_not_finite_after_the_last_step_replace_no_checkpoint(undisturbed, tmp_path, monkeypatch):
    path = tmp_path / "state"
    with monkeypatch.context() as patch:
        # The gradient of a square root at 0 is infinite, its value is not.
        spoil_step(patch, 2 * STEPS, 1.0, weights_only=True)
        with pytest.raises(UserError, match=rf"epoch 2, step {STEPS}: .*weights that are not finite after it"):
            train(Checkpoint(path, {}))
    assert_same(train(Checkpoint(path, {})), undisturbed)


def test_a_signal_saves_no_state_that_has_diverged(undisturbed, tmp_path, monkeypatch):
    path = tmp_path / "state"
    with monkeypatch.context() as patch:
        spoil_step(patch, STEPS + 1, float("nan"))
        signal_in_step(patch, STEPS + 1, signal.SIGTERM)
        with pytest.raises(UserError, match="epoch 2, step 1: "):
            train(Checkpoint(path, {}))
    assert_same(train(Checkpoint(path, {})), undisturbed)


def test_too_large_a_learning_rate_diverges_with_a_message_and_not_with_numbers(tmp_path):
    with pytest.raises(UserError, match=r"learning rate 1e\+30\. Try a smaller"):
        train(Checkpoint(tmp_path / "state", {}), learning_rate=1e30)


# ---------------------------------------------------------------- the autoencoder


def test_an_interrupted_autoencoder_ends_as_an_undisturbed_one(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    recordings = [rng.integers(-3000, 3000, 8000, dtype=np.int16) for _ in range(4)]
    trainer = FrameTraining(epochs=3, batch_size=16).build()

    def run(checkpoint: Checkpoint):
        return trainer.train_machine(recordings, np.arange(4) < 3, [0], ReconstructionObjective(), CPU, checkpoint)

    expected = run(NoCheckpoint())
    path = tmp_path / "state"
    for done in (1, 2, 3, 3):
        checkpoint = Checkpoint(path, {})
        checkpoint.stop_asked.set()
        # Also when all epochs are done: another machine type's training may follow.
        with pytest.raises(Interrupted, match=f"after epoch {done} "):
            run(checkpoint)
    found = run(Checkpoint(path, {}))
    assert found[2].equals(expected[2])
    assert torch.equal(found[1], expected[1])
    for name, value in expected[0].state_dict().items():
        assert torch.equal(found[0].state_dict()[name], value), name
