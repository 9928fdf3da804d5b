"""Interrupted trainings: whatever happens on the way, they end as an undisturbed one does."""

import logging
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from asdpipe.training.autoencoder import train_autoencoder

from asdpipe.config.method import Autoencoder as AutoencoderSettings
from asdpipe.config.method import Loss, Method, Network, Training, Triplet
from asdpipe.errors import UserError
from asdpipe.training import fit as loop
from asdpipe.training import state as resume
from asdpipe.training.batches import TrainingSet
from asdpipe.training.state import Checkpoint, Interrupted

CPU = torch.device("cpu")
SAMPLES = 2000
SMALL = Network(width=8, windows=(64,), dft_kernels=(32, 8, 4), dft_strides=(8, 4, 2))
EPOCHS, STEPS = 3, 2


class Clips(list):
    """Waveforms that know their names."""

    @property
    def clip_ids(self) -> np.ndarray:
        return np.array([f"clip {number}" for number in range(len(self))], dtype=object)


def clips() -> TrainingSet:
    """Clips of other lengths than the network's, so that each is cut at random."""
    rng = np.random.default_rng(0)
    count = 12
    samples = Clips(rng.integers(-3000, 3000, 2500, dtype=np.int16) for _ in range(count))
    machine = (np.arange(count) % 3).astype(np.int32)
    return TrainingSet(samples, np.arange(count), machine, machine, np.arange(count) % 6 == 5)


def method(learning_rate: float = 1e-3) -> Method:
    # Everything that draws, or changes itself: FeatEx, random partners, the adaptive scale.
    return Method(
        network=SMALL,
        loss=Loss(scale="adaptive", feat_ex=True, mixup_partner="random"),
        triplet=Triplet(semitones=(6, 7)),
        training=Training(epochs=EPOCHS, source_per_batch=5, target_per_batch=2, learning_rate=learning_rate),
    )


def train(checkpoint: Checkpoint | None = None, **changes):
    return loop.train(clips(), 3, method(**changes), SAMPLES, (0, 1), CPU, checkpoint)


def assert_same(one, other) -> None:
    (network, history), (expected, expected_history) = one, other
    assert history.equals(expected_history)
    for name, value in expected.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


@pytest.fixture(scope="module")
def undisturbed():
    return train()


class Killed(BaseException):
    """The process is gone."""


def die_in_step(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the training end without a word in its n-th step from here."""
    real, steps = loop.triplet_step, []

    def step(*arguments):
        steps.append(1)
        if len(steps) == number:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(loop, "triplet_step", step)


def signal_in_step(monkeypatch: pytest.MonkeyPatch, number: int, which: signal.Signals) -> None:
    real, steps = loop.triplet_step, []

    def step(*arguments):
        steps.append(1)
        if len(steps) == number:
            os.kill(os.getpid(), which)
        return real(*arguments)

    monkeypatch.setattr(loop, "triplet_step", step)


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
    found = [row.partition(",")[0] for row in caplog.messages if "going on" in row]
    assert found == ["going on after epoch 1 and 0 steps", "going on after epoch 2 and 0 steps"]


@pytest.mark.parametrize(
    ("step", "which"),
    [(1, signal.SIGTERM), (STEPS, signal.SIGINT), (STEPS + 1, signal.SIGTERM), (EPOCHS * STEPS, signal.SIGTERM)],
)
def test_a_signal_lets_the_step_end_and_nothing_is_lost(undisturbed, tmp_path, monkeypatch, step, which):
    path = tmp_path / "state"
    with monkeypatch.context() as patch:
        signal_in_step(patch, step, which)
        checkpoint = Checkpoint(path, {})
        with checkpoint.stoppable(), pytest.raises(Interrupted, match="nothing is lost: run the same command again"):
            train(checkpoint)
    # Of the epoch that was running, the losses of all its steps are there.
    assert len(safetensors.torch.load_file(path)[resume.LOSSES]) == step % STEPS
    counted = []
    real = loop.triplet_step
    monkeypatch.setattr(loop, "triplet_step", lambda *arguments: (counted.append(1), real(*arguments))[1])
    assert_same(train(Checkpoint(path, {})), undisturbed)
    assert len(counted) == EPOCHS * STEPS - step


def test_a_training_that_went_on_may_be_interrupted_within_that_epoch(undisturbed, tmp_path, monkeypatch):
    path = tmp_path / "state"
    interrupted_after_an_epoch(path, {}, monkeypatch)
    with monkeypatch.context() as patch:
        signal_in_step(patch, 1, signal.SIGTERM)
        checkpoint = Checkpoint(path, {})
        with checkpoint.stoppable(), pytest.raises(Interrupted, match="after epoch 1 and 1 steps"):
            train(checkpoint)
    assert_same(train(Checkpoint(path, {})), undisturbed)


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
    monkeypatch.setattr(loop, "triplet_step", None)
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
    real_step, real_batches, steps, seen = loop.triplet_step, loop.epoch_batches, [], []

    def step(embed, x, *arguments):
        steps.append(1)
        loss = real_step(embed, x, *arguments)
        if len(steps) != number:
            return loss
        return loss + (0 * embed(x).sum()).sqrt() if weights_only else loss * value

    def batches(*arguments):
        for batch in real_batches(*arguments):
            seen.append(sorted({f"clip {each}" for each in batch.clip}))
            yield batch

    monkeypatch.setattr(loop, "triplet_step", step)
    monkeypatch.setattr(loop, "epoch_batches", batches)
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
    assert len(safetensors.torch.load_file(path)[resume.LOSSES]) == 0
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
        checkpoint = Checkpoint(path, {})
        with checkpoint.stoppable(), pytest.raises(UserError, match="epoch 2, step 1: "):
            train(checkpoint)
    assert_same(train(Checkpoint(path, {})), undisturbed)


def test_too_large_a_learning_rate_diverges_with_a_message_and_not_with_numbers(tmp_path):
    with pytest.raises(UserError, match=r"learning rate 1e\+30\. Try a smaller"):
        train(Checkpoint(tmp_path / "state", {}), learning_rate=1e30)


# ---------------------------------------------------------------- the autoencoder


def test_an_interrupted_autoencoder_ends_as_an_undisturbed_one(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    recordings = [rng.integers(-3000, 3000, 8000, dtype=np.int16) for _ in range(4)]
    settings = AutoencoderSettings(epochs=3, batch_size=16)

    def run(checkpoint: Checkpoint | None):
        return train_autoencoder(recordings, np.arange(4) < 3, settings, [0], CPU, checkpoint)

    expected = run(None)
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
