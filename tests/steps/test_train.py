"""A real process that trains a stage, killed and stopped on the way: its artifacts are those of an undisturbed one."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.base import as_json
from asdpipe.config.method import Method
from asdpipe.method import data_size
from asdpipe.models.files import load_model
from asdpipe.steps import train as step
from asdpipe.steps.train import CHECKPOINT
from asdpipe.training.on_clips import ClipTrainer

RATE, SAMPLES, EPOCHS = 16_000, 2000, 12
CHANGES = {
    "network": {"width": 8, "windows": [64], "dft_kernels": [32, 8, 4], "dft_strides": [8, 4, 2]},
    "triplet": {"semitones": [6, 7]},
    "training": {"epochs": EPOCHS, "source_per_batch": 5, "target_per_batch": 2},
}
SETTINGS = Method(**CHANGES).training_settings()
OUTPUTS = ["labels.parquet", "model.safetensors", "model.json", "training.csv"]


def write_inputs(folder: Path) -> None:
    """Write manifest and packed noise of two machine types."""
    machines, domains = ["fan"] * 6 + ["pump"] * 6, (["source"] * 5 + ["target"]) * 2
    names = [f"{machine}/{number}.wav" for number, machine in enumerate(machines)]
    clips = pd.DataFrame({"clip_id": names, "path": names, "machine": machines, "domain": domains})
    facts = {"section": "00", "split": "train", "part": "dev", "is_normal": True, "attributes": "spd_1"}
    clips = clips.assign(dataset="d", sample_rate=RATE, num_frames=2500, **facts)
    write_table("clips", clips, folder / "clips.parquet")
    noise = np.random.default_rng(0).integers(-3000, 3000, 2500 * len(names), dtype=np.int16)
    (folder / "waveforms.int16").write_bytes(noise.astype("<i2").tobytes())
    index = pd.DataFrame({"clip_id": names, "offset": 2500 * np.arange(len(names)), "num_samples": 2500})
    write_table("waveforms", index, folder / "waveforms.parquet")


def start(inputs: Path, stage: Path, seed: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "asdpipe", "--log", f"{stage}.log", "step", "train"]
    command += ["--settings", as_json(SETTINGS), "--num-samples", str(SAMPLES)]
    command += ["--stage", "1", "--seed", str(seed), "--device", "cpu"]
    for option, file in (("clips", "clips.parquet"), ("index", "waveforms.parquet"), ("samples", "waveforms.int16")):
        command += [f"--{option}", str(inputs / file)]
    for option, file in zip(("labels", "weights", "description", "history"), OUTPUTS, strict=True):
        command += [f"--{option}", str(stage / file)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def run(inputs: Path, stage: Path, seed: int = 0) -> None:
    process = start(inputs, stage, seed)
    error = process.communicate()[1]
    assert process.returncode == 0, error


def wait_for_epoch(checkpoint: Path, process: subprocess.Popen[str]) -> None:
    """Wait until the process has written the checkpoint."""
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    while not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before:
        assert process.poll() is None, "the training ended before it could be disturbed"
        time.sleep(0.005)


def digests(stage: Path) -> dict[str, bytes]:
    return {file: (stage / file).read_bytes() for file in OUTPUTS}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(inputs, tmp_path_factory) -> dict[str, bytes]:
    stage = tmp_path_factory.mktemp("undisturbed") / "stage1"
    run(inputs, stage)
    # Nothing else is left, the state of the training neither.
    assert sorted(each.name for each in stage.iterdir()) == sorted([*OUTPUTS, "provenance"])
    return digests(stage)


def test_a_killed_and_then_stopped_training_ends_with_the_same_bytes(inputs, undisturbed, tmp_path):
    stage = tmp_path / "stage1"
    rng = np.random.default_rng(0)
    for _ in range(2):
        process = start(inputs, stage)
        wait_for_epoch(stage / CHECKPOINT, process)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.communicate()
        assert not any((stage / file).exists() for file in OUTPUTS)
    process = start(inputs, stage)
    wait_for_epoch(stage / CHECKPOINT, process)
    process.terminate()
    error = process.communicate()[1]
    assert process.returncode == 1
    assert "nothing is lost: run the same command again" in error
    assert "Traceback" not in error
    assert not any((stage / file).exists() for file in OUTPUTS)
    run(inputs, stage)
    assert digests(stage) == undisturbed
    assert "resuming after epoch" in (tmp_path / "stage1.log").read_text()
    assert sorted(each.name for each in stage.iterdir()) == sorted([*OUTPUTS, "provenance"])


@pytest.mark.parametrize("change", ["seed", "samples", "labels"])
def test_the_state_of_a_training_of_other_things_is_not_taken(inputs, tmp_path, change):
    own, stage, seed = tmp_path / "inputs", tmp_path / "stage1", 0
    own.mkdir()
    write_inputs(own)
    process = start(own, stage)
    wait_for_epoch(stage / CHECKPOINT, process)
    process.kill()
    process.communicate()
    if change == "seed":
        seed = 1
    elif change == "samples":
        noise = np.fromfile(own / "waveforms.int16", dtype="<i2")
        (own / "waveforms.int16").write_bytes(noise[::-1].tobytes())
    else:
        table = pd.read_parquet(own / "clips.parquet")
        write_table("clips", table.assign(machine=table.machine.iloc[::-1].to_numpy()), own / "clips.parquet")
    process = start(own, stage, seed)
    wait_for_epoch(stage / CHECKPOINT, process)
    process.kill()
    assert "other settings, inputs or code, starting from the beginning" in process.communicate()[1]


class Reached(Exception):
    """The training would begin now."""


def test_settings_that_are_auto_train_as_the_numbers_do_that_they_come_to(inputs, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(data_size, "MIN_STEPS", 3)
    monkeypatch.setattr(data_size, "EPOCHS", 2)

    def trained(name: str, loss: dict, training: dict) -> Path:
        used = Method(**CHANGES | {"loss": loss, "training": training}).training_settings()
        files = {"clips": "clips.parquet", "index": "waveforms.parquet", "samples": "waveforms.int16"}
        outputs = dict(zip(("labels", "weights", "description", "history"), OUTPUTS, strict=True))
        step.train(
            **{"settings": as_json(used), "num_samples": SAMPLES, "stage": 1, "seed": 0, "device": "cpu"},
            **{option: inputs / file for option, file in files.items()},
            **{option: tmp_path / name / file for option, file in outputs.items()},
        )
        return tmp_path / name

    keys = ("epochs", "source_per_batch", "target_per_batch")
    with caplog.at_level("INFO"):
        auto = trained("auto", {"subclusters": "auto"}, dict.fromkeys(keys, "auto"))
    # Ten source clips: one batch of at most 16 + 4 clips, in three epochs.
    values = dict(zip(keys, (3, 16, 4), strict=True))
    stated = trained("stated", {"subclusters": 2}, values)
    for file in ("labels.parquet", "model.safetensors", "training.csv"):
        assert (auto / file).read_bytes() == (stated / file).read_bytes()
    said, plain = (json.loads((folder / "model.json").read_text()) for folder in (auto, stated))
    assert said["resolved"] == {"loss.subclusters": 2, **{f"training.{key}": value for key, value in values.items()}}
    assert {said["training"]["training"][key] for key in keys} == {"auto"}
    assert said["training"]["loss"]["subclusters"] == "auto"
    assert "resolved" not in plain
    assert load_model(auto / "model.safetensors", auto / "model.json").embedding_shape[0] == 2
    order = "auto: loss.subclusters 2, training.source_per_batch 16, training.target_per_batch 4, training.epochs 3"
    assert order in caplog.text
    assert "3 epochs of 1 optimiser steps, 3 in all" in caplog.text


def test_all_that_decides_how_a_training_ends_is_in_the_identity_of_its_state(inputs, tmp_path, monkeypatch):
    def identity(**changes) -> str:
        found = []

        def begin(_, job):
            found.append(job.checkpoint("")._identity)
            raise Reached

        monkeypatch.setattr(ClipTrainer, "train", begin)
        files = {"clips": "clips.parquet", "index": "waveforms.parquet", "samples": "waveforms.int16"}
        outputs = dict(zip(("labels", "weights", "description", "history"), OUTPUTS, strict=True))
        arguments = {"settings": as_json(SETTINGS), "num_samples": SAMPLES, "stage": 1, "seed": 0, "device": "cpu"}
        arguments |= {name: inputs / file for name, file in files.items()}
        arguments |= {name: tmp_path / file for name, file in outputs.items()}
        with pytest.raises(Reached):
            step.train(**arguments | changes)
        return found[0]

    found = [identity()]
    assert identity(device="auto", torch_compile=True, history=tmp_path / "elsewhere.csv") == found[0]
    found += [identity(**change) for change in ({"seed": 1}, {"stage": 2}, {"num_samples": SAMPLES + 1})]
    for section, value in (
        ("labels", {"kind": "attribute"}),
        ("network", CHANGES["network"] | {"width": 16}),
        ("loss", {"subclusters": 3}),
        ("loss", {"subclusters": "auto"}),
        ("triplet", {"semitones": [5, 7]}),
        ("training", CHANGES["training"] | {"epochs": 13}),
    ):
        other = Method(**CHANGES | {section: value}).training_settings()
        found.append(identity(settings=as_json(other)))
    # The same clips with other samples: cut elsewhere, or of another time.
    index, samples = tmp_path / "index", tmp_path / "samples"
    packed = read_table("waveforms", inputs / "waveforms.parquet")
    lengths = np.array([2400, 2600, *[2500] * (len(packed) - 2)])
    write_table("waveforms", packed.assign(num_samples=lengths, offset=lengths.cumsum() - lengths), index)
    found.append(identity(index=index))
    samples.write_bytes((inputs / "waveforms.int16").read_bytes())
    time_ns = (inputs / "waveforms.int16").stat().st_mtime_ns
    os.utime(samples, ns=(time_ns, time_ns))
    assert identity(samples=samples) == found[0]
    os.utime(samples, ns=(time_ns, time_ns + 1))
    found.append(identity(samples=samples))
    clips = tmp_path / "clips"
    table = read_table("clips", inputs / "clips.parquet")
    write_table("clips", table.assign(domain=table.domain.iloc[::-1].to_numpy()), clips)
    found.append(identity(clips=clips))
    monkeypatch.setattr(step, "code_digest", lambda *_: "another")
    found.append(identity())
    assert len({*found}) == len(found)
