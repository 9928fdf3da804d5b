"""The progress file of a step: there while it runs and after it failed, never in its way."""

import json
import os
import socket
from pathlib import Path

import pytest
from tqdm import tqdm

from asdpipe import progress
from asdpipe.progress import Progress, progress_file, with_progress_file


@pytest.fixture
def log(tmp_path) -> Path:
    return tmp_path / "train.log"


def content(log: Path) -> dict:
    return json.loads((log.parent / "train.progress.json").read_text())


def test_a_step_tells_how_far_it_is_and_leaves_nothing(log):
    found = []

    def train(epochs: int) -> None:
        found.append(content(log))
        shown = Progress("training", 8, "batch")
        shown.epoch(2, epochs, {"subspace_loss": 0.5, "validation_loss": float("nan")})
        shown.advance(3)
        # The file is replaced again and again, also where nothing advances.
        before = content(log)
        while content(log) == before:
            pass
        found.append(content(log))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "SECONDS_BETWEEN_SIGNS", 0.01)
        with_progress_file(train, log)(epochs=4)
    first, second = found
    assert first == {"step": "train", "state": "running", "host": socket.gethostname(), "pid": os.getpid()} | {
        "started": first["started"]
    }
    assert (
        second.items() >= {"task": "training", "done": 3, "total": 8, "unit": "batch", "epoch": 2, "epochs": 4}.items()
    )
    assert second["losses"] == {"subspace_loss": 0.5}
    assert second["rate"] > 0
    assert list(log.parent.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_a_step_that_fails_says_so(log, error):
    def train() -> None:
        raise error

    with pytest.raises(type(error)):
        with_progress_file(train, log)()
    assert content(log)["state"] == "failed"
    # The next attempt succeeds.
    with_progress_file(lambda: None, log)()
    assert not progress_file(log).exists()


def test_a_file_that_cannot_be_written_stops_no_step(tmp_path):
    done = []
    with_progress_file(lambda: done.append(1), tmp_path / "no such folder/train.log")()
    assert done == [1]


def test_the_bar_has_epoch_and_losses(monkeypatch, capsys):
    # As on a terminal.
    monkeypatch.setattr(progress, "tqdm", lambda **options: tqdm(**options | {"disable": False}))
    shown = Progress("training", 8, "batch")
    shown.epoch(2, 4, {"subspace_loss": 0.5})
    assert "epoch 2/4, subspace_loss 0.500" in capsys.readouterr().err
    shown.close()
