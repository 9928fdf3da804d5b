"""A disk that is full: a message that names the file, no half file taken for whole."""

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

from asdpipe.artifacts.files import whole_folder, write_csv, written
from asdpipe.artifacts.tables import write_table
from asdpipe.config.base import as_json
from asdpipe.config.data import DemoRecordings, DemoSize
from asdpipe.config.networks import MultiResolution
from asdpipe.errors import UserError
from asdpipe.models.build import build_extractor
from asdpipe.models.files import save_model
from asdpipe.models.tensors import save_tensors
from asdpipe.steps.generate_dataset import generate_dataset
from asdpipe.training.state import Checkpoint, TrainingState

FULL = "the disk is full"


def embeddings(folder: Path) -> None:
    vectors = list(np.random.default_rng(0).standard_normal((400, 100)).astype(np.float32))
    frame = pd.DataFrame({"clip_id": [str(number) for number in range(400)], "embedding": vectors})
    write_table("embeddings", frame, folder / "artifact")


def save(network: dict, folder: Path) -> None:
    extractor = build_extractor(network, num_samples=4000)
    save_model(extractor, network, 4000, folder / "artifact", folder / "model.json")


def model(folder: Path) -> None:
    settings = MultiResolution(width=16, windows=(256,), dft_kernels=(32, 8, 4), dft_strides=(8, 4, 2))
    save(settings.model_dump(mode="json"), folder)


def autoencoders(folder: Path) -> None:
    save({"kind": "autoencoder", "machines": ["fan"]}, folder)


def state(folder: Path) -> None:
    network = torch.nn.Linear(200, 200)
    training = TrainingState({"network": network}, torch.optim.AdamW(network.parameters()), torch.Generator())
    Checkpoint(folder / "artifact", {}).save(training)


def samples(folder: Path) -> None:
    with written(folder / "artifact") as temporary, temporary.open("wb") as file:
        file.write(bytes(100_000))


def table(folder: Path) -> None:
    write_csv(pd.DataFrame({"value": np.random.default_rng(0).standard_normal(20_000)}), folder / "artifact")


def recordings(folder: Path) -> None:
    generate_dataset(as_json(DemoRecordings(clip_seconds=1, demo=DemoSize())), folder / "artifact")


WRITERS = [embeddings, model, autoencoders, state, samples, table, recordings]


@pytest.mark.parametrize("write", WRITERS)
def test_every_kind_of_artifact_tells_a_full_disk_and_is_not_there(mount, write):
    folder = mount("tmpfs", "-t", "tmpfs", "-o", "size=64k")
    (folder / "artifact").write_text("old")
    with pytest.raises(
        UserError, match=rf"{folder}/artifact: cannot be written, {FULL}.*make room there and run again"
    ):
        write(folder)
    # What was there before still is, and nothing else.
    assert [file.name for file in folder.iterdir()] == ["artifact"]
    assert (folder / "artifact").read_text() == "old"


def test_a_quota_is_told_like_a_full_disk_and_other_errors_as_they_are(tmp_path):
    with pytest.raises(UserError, match="or your share of it"), written(tmp_path / "a"):
        raise OSError(122, "Disk quota exceeded")
    with pytest.raises(PermissionError, match="elsewhere"), written(tmp_path / "a"):
        raise PermissionError(13, "Permission denied", "elsewhere")
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "b"):
        _ = 1 / 0
    with pytest.raises(UserError, match=r"^mine$"), written(tmp_path / "a"):
        raise UserError("mine")
    assert list(tmp_path.iterdir()) == []


def test_the_cause_of_a_failed_write_of_tensors_is_read_from_its_text(tmp_path, monkeypatch):
    for number, error in ((122, UserError), (5, OSError), (None, SafetensorError)):
        text = "Error while serializing: I/O error: no reason" + (f" (os error {number})" if number else "")
        monkeypatch.setattr(safetensors.torch, "save_file", Mock(side_effect=SafetensorError(text)))
        with pytest.raises(error, match="or your share of it" if number == 122 else "no reason"):
            save_tensors({}, {}, tmp_path / "artifact")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_behind_goes_when_the_artifact_is_written(tmp_path):
    left = [".a.csv.abcdefg_", ".a.csv.12345678"]
    for name in [*left, ".a.csv.note", ".b.csv.12345678", "a.csv.12345678"]:
        (tmp_path / name).write_text("half")
    (tmp_path / ".folder.abcdefgh/deep").mkdir(parents=True)
    write_csv(pd.DataFrame({"a": [1]}), tmp_path / "a.csv")
    with whole_folder(tmp_path / "folder"):
        pass
    found = {file.name for file in tmp_path.iterdir()}
    assert found == {"a.csv", "folder", ".a.csv.note", ".b.csv.12345678", "a.csv.12345678"}
