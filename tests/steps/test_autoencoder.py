"""The steps of the DCASE baseline on generated tones: what they write, and what a clip's distances depend on."""

import json
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from asdpipe.artifacts.files import file_digest
from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.base import as_json
from asdpipe.config.method import Method
from asdpipe.config.training import FrameTraining
from asdpipe.errors import UserError
from asdpipe.method.objectives import ReconstructionObjective
from asdpipe.models.autoencoder import MachineAutoencoder
from asdpipe.steps.embed import embed as embed_step
from asdpipe.steps.train import CHECKPOINT
from asdpipe.steps.train import train as train_step
from asdpipe.training import on_frames
from tests.conftest import read_facts
from tests.training.jobs import NoCheckpoint

RATE = 16_000
SETTINGS = {"epochs": 3, "batch_size": 16, "learning_rate": 3e-3}
SPLITS = ("train", "test")
# Not used: whole clips are embedded.
NUM_SAMPLES = RATE
OUTPUTS = ("labels", "weights", "description", "history")
# One name is the beginning of the other; neither is a Python or shell word.
MACHINES = {"fan": 400, "fan.layers ä=1": 700}
SHORTEST = 2048


class Clip(NamedTuple):
    """One clip of the data set: a tone in noise."""

    machine: str
    split: str
    domain: str | None
    tone: float
    seconds: float = 1.0
    is_normal: bool = True

    def samples(self, number: int) -> np.ndarray:
        rng = np.random.default_rng(number)
        t = np.arange(round(self.seconds * RATE)) / RATE + rng.uniform()
        x = 0.2 * np.sin(2 * np.pi * self.tone * t) + 0.02 * rng.standard_normal(len(t))
        return (x * 32767).astype(np.int16)


def clips_of(machine: str) -> list[Clip]:
    """Source clips at one pitch, target clips half as high again, one of unknown domain; anomalies have others."""
    pitch = MACHINES[machine]
    train = [Clip(machine, "train", "source", pitch, 0.7 + 0.05 * number) for number in range(8)]
    train += [Clip(machine, "train", None, pitch)] + [Clip(machine, "train", "target", 1.5 * pitch)] * 3
    normal = [Clip(machine, "test", "source", f * pitch, seconds) for f in (1, 1.5) for seconds in (0.9, 1.3)]
    anomalous = [Clip(machine, "test", None, f * pitch, is_normal=False) for f in (0.6, 2.3, 3.1)]
    return train + normal + anomalous


class Files(NamedTuple):
    """The inputs of both steps, for one split."""

    clips: Path
    index: Path
    samples: Path


def write(folder: Path, clips: list[Clip]) -> dict[str, Files]:
    """Write lists and packed clips of both splits, these in the opposite order."""
    return {split: write_split(folder / split, clips, split) for split in SPLITS}


def write_split(folder: Path, clips: list[Clip], split: str) -> Files:
    folder.mkdir(exist_ok=True)
    files = Files(folder / "clips.parquet", folder / "waveforms.parquet", folder / "waveforms.int16")
    everything = pd.DataFrame(clips).drop(columns=["tone", "seconds"])
    everything["clip_id"] = everything["path"] = name(clips)
    everything["domain"] = pd.Series([clip.domain for clip in clips], dtype=object)
    facts = {"dataset": "d", "section": "00", "part": "dev", "attributes": None}
    table = everything[everything.split == split].assign(sample_rate=RATE, num_frames=RATE, **facts)
    write_table("clips", table, files.clips)
    packed = [clips[number].samples(number) for number in table.index[::-1]]
    files.samples.write_bytes(np.concatenate([np.zeros(0, np.int16), *packed]).astype("<i2").tobytes())
    lengths = np.array([len(samples) for samples in packed], dtype=np.int64)
    offset = lengths.cumsum() - lengths
    index = pd.DataFrame({"clip_id": table.clip_id.tolist()[::-1], "offset": offset, "num_samples": lengths})
    write_table("waveforms", index, files.index)
    return files


def name(clips: list[Clip]) -> list[str]:
    return [f"{clip.machine}/{clip.split}/{number}" for number, clip in enumerate(clips)]


def train(folder: Path, files: dict[str, Files], seed: int = 0, **settings: float) -> dict[str, Path]:
    """Run the first step; return its outputs."""
    outputs = {output: folder / output for output in OUTPUTS}
    method = Method(network="autoencoder", training={"kind": "frames", **SETTINGS, **settings})
    train_step(as_json(method.training_settings()), NUM_SAMPLES, 1, seed, *files["train"], **outputs, device="cpu")
    return outputs


def embed_split(folder: Path, files: Files, trained: dict[str, Path]) -> pd.DataFrame:
    """Run the second step for one split; return the distances by clip."""
    out = folder / "embeddings"
    network = json.dumps({"network": {"kind": "autoencoder"}})
    embed_step(network, NUM_SAMPLES, *files, out, trained["weights"], trained["description"], device="cpu")
    assert read_facts(out) == {"weights_sha256": file_digest(trained["weights"])}
    table = read_table("embeddings", out).set_index("clip_id").embedding
    columns = ["mse", "source", "target"]
    return pd.DataFrame(np.array(table.tolist()).reshape(-1, 3), index=table.index, columns=columns)


def embed(folder: Path, files: dict[str, Files], trained: dict[str, Path]) -> pd.DataFrame:
    """Return the distances of the clips of both splits."""
    return pd.concat([embed_split(folder, files[split], trained) for split in SPLITS])


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Matrices this small gain nothing from threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [clip for machine in MACHINES for clip in clips_of(machine)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("autoencoder")


@pytest.fixture(scope="module")
def files(folder, clips) -> dict[str, Files]:
    return write(folder, clips)


@pytest.fixture(scope="module")
def trained(folder, files) -> dict[str, Path]:
    return train(folder, files)


@pytest.fixture(scope="module")
def distances(folder, files, trained) -> pd.DataFrame:
    return embed(folder, files, trained)


def test_another_tone_is_farther_than_every_normal_test_clip(tmp_path):
    clips = clips_of("fan")
    files = write(tmp_path, clips)
    table = embed(tmp_path, files, train(tmp_path, files, epochs=20))
    test = np.array([clip.split == "test" for clip in clips])
    normal = np.array([clip.is_normal for clip in clips])
    scores = pd.DataFrame({"simple": table.mse, "selective": table[["source", "target"]].min(axis=1)})
    for score in scores:
        value = scores[score].loc[name(clips)].to_numpy()
        assert value[test & ~normal].min() > 1.5 * value[test & normal].max(), score


def test_every_packed_clip_has_the_distances_of_the_model_in_memory_bit_for_bit(clips, distances, folder, trained):
    assert sorted(distances.index) == sorted(name(clips))
    for machine in MACHINES:
        own = [(clip, n, clip.samples(i)) for i, (clip, n) in enumerate(zip(clips, name(clips), strict=True))]
        own = [each for each in own if each[0].machine == machine]
        training = [each for each in own if each[0].split == "train"]
        model = MachineAutoencoder().eval()
        model.model, inverse, _ = (
            FrameTraining(**SETTINGS)
            .build()
            .train_machine(
                [samples for *_, samples in training],
                np.array([clip.domain != "target" for clip, *_ in training]),
                (0, *machine.encode()),
                ReconstructionObjective(),
                torch.device("cpu"),
                NoCheckpoint(),
            )
        )
        model.inverse_covariances.copy_(inverse)
        for _, n, samples in own:
            x = torch.from_numpy(samples / np.float32(32768))[None]
            with torch.inference_mode():
                expected = model(x)[0, 0].float().tolist()
            assert distances.loc[n].tolist() == expected


def test_classes_are_machine_types_and_unknown_domains_count_as_source(clips, trained):
    table = read_table("labels", trained["labels"])
    training = [clip for clip in clips if clip.split == "train"]
    assert table.clip_id.tolist() == [n for n, clip in zip(name(clips), clips, strict=True) if clip.split == "train"]
    assert table.class_name.tolist() == table.machine.tolist() == [clip.machine for clip in training]
    assert table.domain.tolist() == [clip.domain or "source" for clip in training]
    assert set(table.origin) == {"original"}
    assert table.class_index.tolist() == [0] * 12 + [1] * 12


def test_the_history_has_every_epoch_of_every_machine_type(trained):
    table = pd.read_csv(trained["history"])
    assert table.columns.tolist() == ["machine", "epoch", "loss", "validation_loss", "learning_rate"]
    assert table.machine.tolist() == [machine for machine in MACHINES for _ in range(3)]
    assert table.epoch.tolist() == [*range(1, 4)] * 2
    for _, part in table.groupby("machine"):
        assert part.loss.iloc[-1] < part.loss.iloc[0]


def test_the_description_says_what_the_weights_are(trained):
    assert json.loads(trained["description"].read_text()) == {
        "network": {"kind": "autoencoder", "machines": list(MACHINES)},
        "num_samples": NUM_SAMPLES,
        "stage": 1,
        "seed": 0,
        "classes": [f"original:{machine}" for machine in MACHINES],
        "training": {"training": {"kind": "frames", **SETTINGS, "validation": 0.1}},
        "weights_sha256": file_digest(trained["weights"]),
    }


def test_another_machine_type_leaves_the_first_ones_weights_as_they_are(folder, trained, caplog):
    caplog.set_level(logging.INFO)
    both = safetensors.torch.load_file(trained["weights"])
    for number, machine in enumerate(MACHINES):
        # Alone, and with the file names that it has beside the other.
        everything = [clip for each in MACHINES for clip in clips_of(each)]
        own = [clip if clip.machine == machine else clip._replace(split="supplemental") for clip in everything]
        (folder / f"{number}").mkdir()
        alone = train(folder / f"{number}", write(folder / f"{number}", own))
        tensors = safetensors.torch.load_file(alone["weights"])
        beside = {key.replace("by_machine.0.", f"by_machine.{number}."): key for key in tensors}
        assert set(beside) == {key for key in both if key.startswith(f"by_machine.{number}.")}
        assert all(torch.equal(tensors[key], both[name]) for name, key in beside.items())
        assert f"{machine} (1/1): 9 source and 3 target clips" in caplog.text


def test_a_signal_after_the_last_epoch_of_a_machine_type_ends_the_step_before_the_next(
    folder, files, trained, tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)
    real = on_frames.inverse_covariances

    def signalled(batches):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(batches)

    with monkeypatch.context() as patch:
        patch.setattr(on_frames, "inverse_covariances", signalled)
        with pytest.raises(UserError, match=r"^fan: stopped by a signal after epoch 3 .*nothing is lost"):
            train(tmp_path, files)
    states = sorted(each.name for each in tmp_path.iterdir())
    assert states == [f"fan.{CHECKPOINT}"]
    # The state of one machine type is not that of another.
    (tmp_path / states[0]).rename(tmp_path / f"fan.layers ä=1.{CHECKPOINT}")
    again = train(tmp_path, files)
    assert "other settings, inputs or code, starting from the beginning" in caplog.text
    assert again["weights"].read_bytes() == trained["weights"].read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(OUTPUTS)


def test_machine_types_and_seeds_have_draws_of_their_own(tmp_path):
    # The same clips under two names.
    training = [Clip("a", "train", "source", 400, 0.3)] * 3
    files = write(tmp_path, [*training, *(clip._replace(machine="b") for clip in training)])
    weights = {}
    for seed in (0, 1):
        tensors = safetensors.torch.load_file(train(tmp_path, files, seed, epochs=1)["weights"])
        weights |= {
            (seed, machine): tensors[f"by_machine.{number}.model.layers.0.weight"]
            for number, machine in enumerate("ab")
        }
    # Training moves them by less than the learning rate a step; other draws of the initial values are far off.
    values = list(weights.values())
    assert all((values[i] - values[j]).abs().mean() > 0.01 for i in range(4) for j in range(i))


def test_a_machine_type_without_target_clips_has_no_distance_to_the_target(tmp_path):
    files = write(tmp_path, [Clip("fan", "train", "source", 400, 0.3)] * 2)
    table = embed(tmp_path, files, train(tmp_path, files, epochs=1))
    assert table[["mse", "source"]].notna().all(axis=None)
    assert table.target.isna().all()


def test_a_machine_type_that_was_not_trained_is_named(tmp_path, trained):
    files = write(tmp_path, [Clip("fan", "test", "source", 400), Clip("pump", "test", "source", 400)])
    with pytest.raises(UserError, match="no autoencoder for machine type pump, only for fan, "):
        embed_split(tmp_path, files["test"], trained)
    assert not (tmp_path / "embeddings").exists()


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_clip_below_five_frames_is_named_before_anything_is_computed(tmp_path, trained, split):
    whole = [Clip("fan", "train", "source", 400, 0.3)] * 2
    shortest = write(tmp_path, [*whole, Clip("fan", split, "source", 400, SHORTEST / RATE)])
    assert embed(tmp_path, shortest, trained).notna().all(axis=None)
    (tmp_path / "embeddings").unlink()
    files = write(tmp_path, [*whole, Clip("fan", split, "source", 400, (SHORTEST - 1) / RATE)])
    steps = [lambda folder, files: embed_split(folder, files[split], trained)]
    if split == "train":
        steps.append(train)
    message = rf"clips shorter than 0\.128 s.*: 1, e\.g\. fan/{split}/2; .* min_seconds: 0\.128 and on_bad_clip"
    for step in steps:
        with pytest.raises(UserError, match=message):
            step(tmp_path, files)
    assert not {*OUTPUTS, "embeddings"} & {each.name for each in tmp_path.iterdir()}


def test_a_machine_type_with_too_little_to_train_on_is_named(tmp_path):
    clips = [*clips_of("fan")[:4], Clip("pump", "train", "source", 400, SHORTEST / RATE)]
    with pytest.raises(UserError, match=r"^pump: 1 training clips leave 0 runs of 5 frames.*add clips"):
        train(tmp_path, write(tmp_path, clips), epochs=1)
    assert not set(OUTPUTS) & {each.name for each in tmp_path.iterdir()}


def changed(content: str) -> list[tuple[str, str]]:
    """Return damaged descriptions and what is said of them."""
    good = json.loads(content)
    return [
        ("", "Invalid JSON: EOF"),
        (content[:20], "Invalid JSON: EOF"),
        ("[]", "Input should be an object"),
        (json.dumps({"network": {}, "num_samples": 1}), "weights_sha256: Field required"),
        (json.dumps({key: good[key] for key in good if key != "num_samples"}), "num_samples: Field required"),
    ]


def test_damaged_models_are_errors_for_the_user(tmp_path, files, trained):
    for content, said in changed(trained["description"].read_text()):
        (tmp_path / "description").write_text(content)
        with pytest.raises(UserError, match=rf"description: does not describe a model \({said}"):
            embed(tmp_path, files, trained | {"description": tmp_path / "description"})
    tensors = safetensors.torch.load_file(trained["weights"])
    truncated = trained["weights"].read_bytes()[:-100]
    fewer = safetensors.torch.save(
        {key: tensor for key, tensor in tensors.items() if not key.startswith("by_machine.0.")}
    )
    layerless = safetensors.torch.save({key: tensor for key, tensor in tensors.items() if "layers.3.bias" not in key})
    # Inverse covariances may be NaN: there may be no target clips.
    bias = "by_machine.0.model.layers.3.bias"
    broken = safetensors.torch.save(tensors | {bias: torch.full((128,), torch.nan)})
    own = {name: tmp_path / name for name in ("weights", "description")}
    description = json.loads(trained["description"].read_text())
    for content, said in (
        (b"", "is not a file of weights"),
        (truncated, "is not a file of weights"),
        (fewer, "lacks 'by_machine.0.inverse_covariances'"),
        (layerless, "lacks 'by_machine.0.model.layers.3.bias', among 2"),
        (broken, f"{bias} is not finite"),
    ):
        own["weights"].write_bytes(content)
        own["description"].write_text(json.dumps(description))
        with pytest.raises(UserError, match=r"weights: is damaged, or is not the file that .*description describes"):
            embed(tmp_path, files, trained | own)
        own["description"].write_text(json.dumps(description | {"weights_sha256": file_digest(own["weights"])}))
        with pytest.raises(UserError, match=f"weights: {said}"):
            embed(tmp_path, files, trained | own)
