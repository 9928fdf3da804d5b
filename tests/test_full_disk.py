"""A disk that is full: a message that names the file, no half file taken for whole."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from asdpipe.models.autoencoder_files import Trained, save_autoencoders
from asdpipe.steps.manifest import demo_dataset

from asdpipe.artifacts.files import whole_folder, write_csv, written
from asdpipe.artifacts.tables import write_table
from asdpipe.config.sections import Network
from asdpipe.errors import UserError
from asdpipe.models.autoencoder import Autoencoder
from asdpipe.models.files import save_model
from asdpipe.training.fit import build_network
from asdpipe.training.state import Checkpoint, Running

FULL = "the disk is full"


def embeddings(folder: Path) -> None:
    vectors = list(np.random.default_rng(0).standard_normal((400, 100)).astype(np.float32))
    frame = pd.DataFrame({"clip_id": [str(number) for number in range(400)], "embedding": vectors})
    write_table("embeddings", frame, folder / "artifact")


def model(folder: Path) -> None:
    settings = Network(width=16, windows=(256,), dft_kernels=(32, 8, 4), dft_strides=(8, 4, 2))
    save_model(build_network(settings, 4000), folder / "artifact", folder / "model.json", settings, 4000)


def autoencoders(folder: Path) -> None:
    save_autoencoders({"fan": Trained(Autoencoder(), torch.zeros(2, 128, 128))}, folder / "artifact", folder / "x.json")


def state(folder: Path) -> None:
    network = torch.nn.Linear(200, 200)
    running = Running({"network": network}, torch.optim.AdamW(network.parameters()), torch.Generator())
    Checkpoint(folder / "artifact", {}).save(running)


def samples(folder: Path) -> None:
    with written(folder / "artifact") as temporary, temporary.open("wb") as file:
        file.write(bytes(100_000))


def table(folder: Path) -> None:
    write_csv(pd.DataFrame({"value": np.random.default_rng(0).standard_normal(20_000)}), folder / "artifact")


def recordings(folder: Path) -> None:
    demo_dataset('{"format": "demo", "clip_seconds": 1}', folder / "artifact")


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
    assert [each.name for each in folder.iterdir()] == ["artifact"]
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


def test_what_a_killed_process_left_behind_goes_when_the_artifact_is_written(tmp_path):
    left = [".a.csv.abcdefg_", ".a.csv.12345678"]
    for name in [*left, ".a.csv.note", ".b.csv.12345678", "a.csv.12345678"]:
        (tmp_path / name).write_text("half")
    (tmp_path / ".folder.abcdefgh/deep").mkdir(parents=True)
    write_csv(pd.DataFrame({"a": [1]}), tmp_path / "a.csv")
    with whole_folder(tmp_path / "folder"):
        pass
    found = {each.name for each in tmp_path.iterdir()}
    assert found == {"a.csv", "folder", ".a.csv.note", ".b.csv.12345678", "a.csv.12345678"}
