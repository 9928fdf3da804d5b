"""The step that trains, with Transformers: fine-tuning on classes, and pre-training without."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from asdpipe.artifacts.tables import read_table
from asdpipe.config.base import as_json
from asdpipe.config.method import Method
from asdpipe.models.files import load_model
from asdpipe.steps.train import train
from asdpipe.training.schedule import warm_up_and_decay
from tests.steps.test_train import write_inputs

TINY = {"layers": 1, "width": 16, "heads": 2, "weights": "random"}
TRAINING = {"kind": "fine_tune", "epochs": 3, "warm_up_epochs": 1, "batch_size": 8, "micro_batch": 3}
FINE_TUNED = {
    "labels": "attribute",
    "network": {"kind": "beats", "ffn": 16, "patch_width": 8, **TINY},
    "loss": {"kind": "cross_entropy", "spec_augment": True},
    "training": TRAINING,
}
PRETRAINED = {
    "labels": "attribute",
    "network": {"kind": "masked_audio_mae", "frames": 32, **TINY}
    | {f"decoder_{name}": TINY[name] for name in ("layers", "width", "heads")},
    "loss": "masked_reconstruction",
    "training": TRAINING,
}


def run(inputs: Path, stage: Path, method: dict[str, Any]) -> None:
    outputs = {"labels": "labels.parquet", "weights": "model.safetensors", "description": "model.json"}
    files = {"clips": "clips.parquet", "index": "waveforms.parquet", "samples": "waveforms.int16"}
    train(
        settings=as_json(Method.model_validate(method).training_settings()),
        num_samples=4000,
        stage=1,
        seed=0,
        device="cpu",
        history=stage / "training.csv",
        **{name: inputs / file for name, file in files.items()},
        **{name: stage / file for name, file in outputs.items()},
    )


@pytest.mark.parametrize(
    ("method", "losses"),
    [
        # Two machine types, each with one attribute.
        (FINE_TUNED, ["cross_entropy", "triplet_loss"]),
        (PRETRAINED, ["reconstruction_loss"]),
    ],
)
def test_a_transformer_is_trained_and_loaded_again(tmp_path, method, losses):
    write_inputs(tmp_path)
    stage = tmp_path / "stage1"
    run(tmp_path, stage, method)
    history = pd.read_csv(stage / "training.csv")
    assert history.columns.tolist() == ["epoch", "loss", *losses, "learning_rate"]
    # The last of two steps of each epoch, with four significant digits.
    rates = [warm_up_and_decay(step, 2, 3, 1, 2e-4) for step in (1, 3, 5)]
    assert history.learning_rate.tolist() == pytest.approx(rates, rel=1e-3)
    assert read_table("labels", stage / "labels.parquet").class_index.nunique() == 2
    said = json.loads((stage / "model.json").read_text())["training"]
    assert ("labels" in said) == ("triplet" in said) == (method is FINE_TUNED)
    assert load_model(stage / "model.safetensors", stage / "model.json").embedding_shape == (1, 16)
    before = [(stage / file).read_bytes() for file in ("model.safetensors", "training.csv")]
    run(tmp_path, stage, method)
    assert [(stage / file).read_bytes() for file in ("model.safetensors", "training.csv")] == before
