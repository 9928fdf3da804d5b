"""Steps with a network that starts from pre-trained weights."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from asdpipe.artifacts.files import file_digest
from asdpipe.artifacts.tables import read_facts, read_table, write_table
from asdpipe.config.base import as_json
from asdpipe.config.data import Decoding
from asdpipe.config.method import ExternalScoreSettings, Method, NetworkSettings
from asdpipe.errors import UserError
from asdpipe.models.build import build_extractor
from asdpipe.models.pretrained import load_pretrained
from asdpipe.models.tensors import write_tensors
from asdpipe.steps.embed import embed
from asdpipe.steps.score_external import score_external
from asdpipe.steps.train import train
from asdpipe.training.on_clips import ClipTrainer
from tests.models.checkpoints import NETWORKS, tensors_of
from tests.steps.test_train import OUTPUTS, SAMPLES, write_inputs

NAMES = ("labels", "weights", "description", "history")
NUM_SAMPLES = 2 * SAMPLES
BEATS = NETWORKS["beats"] | {"weights": "mine"}
TRAINING = {"triplet": {"enabled": False}, "training": {"epochs": 1, "source_per_batch": 5, "target_per_batch": 2}}


class Reached(Exception):
    """The training would begin now."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    names = {"clips": "clips.parquet", "index": "waveforms.parquet", "samples": "waveforms.int16"}
    return {option: folder / name for option, name in names.items()}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("mine") / "weights.safetensors"
    write_tensors(tensors_of(NETWORKS["beats"]), NETWORKS["beats"], file)
    return file


def embedded(inputs, tmp_path, network, **files) -> list[list[float]]:
    """Embed the clips; return the embeddings."""
    settings, table = as_json(NetworkSettings(network=network)), tmp_path / "train.parquet"
    embed(settings, NUM_SAMPLES, **inputs, embeddings=table, device="cpu", **files)
    return [vector.tolist() for vector in read_table("embeddings", table).embedding]


def trained(inputs, stage: Path, pretrained: Path | None, **network) -> None:
    settings = as_json(Method(network=BEATS | network, **TRAINING).training_settings())
    outputs = {name: stage / file for name, file in zip(NAMES, OUTPUTS, strict=True)}
    train(settings, NUM_SAMPLES, 1, 0, **inputs, **outputs, pretrained=pretrained, device="cpu")


@torch.no_grad()
def test_a_frozen_network_embeds_with_its_weights(inputs, pretrained, tmp_path):
    found = embedded(inputs, tmp_path, BEATS, pretrained=pretrained)
    extractor = build_extractor(NETWORKS["beats"], num_samples=NUM_SAMPLES).eval()
    load_pretrained(extractor, pretrained, NETWORKS["beats"])
    clip = torch.frombuffer(bytearray(inputs["samples"].read_bytes()), dtype=torch.int16)[:2500] / 2**15
    expected = extractor(torch.cat([clip, clip])[None, :NUM_SAMPLES]).flatten()
    torch.testing.assert_close(torch.tensor(found[0]), expected, atol=1e-5, rtol=0)
    facts = read_facts(tmp_path / "train.parquet")
    assert facts == {"network": NETWORKS["beats"], "pretrained_sha256": file_digest(pretrained)}


def test_random_weights_that_are_not_trained_are_the_same_in_every_run(inputs, tmp_path):
    network = BEATS | {"weights": "random"}
    first = embedded(inputs, tmp_path, network)
    torch.manual_seed(5)
    assert embedded(inputs, tmp_path, network) == first


def test_weights_that_are_missing_or_not_used_are_named(inputs, pretrained, tmp_path):
    with pytest.raises(UserError, match=r"network.weights is mine: give its file .--pretrained"):
        embedded(inputs, tmp_path, BEATS)
    with pytest.raises(UserError, match=r"network.weights is mine: give its file .--pretrained"):
        trained(inputs, tmp_path, None)
    for network in (BEATS | {"weights": "random"}, {"kind": "log_mel"}):
        with pytest.raises(UserError, match=r"--pretrained: .*weights.safetensors is not used"):
            embedded(inputs, tmp_path, network, pretrained=pretrained)


def test_a_training_starts_from_its_weights_and_names_them(inputs, pretrained, tmp_path, monkeypatch):
    started = []

    def begin(_, job):
        started.append((job.build_extractor().state_dict(), job.checkpoint("")._identity))
        raise Reached

    monkeypatch.setattr(ClipTrainer, "train", begin)
    other = tmp_path / "other.safetensors"
    write_tensors(tensors_of(NETWORKS["beats"], seed=3), NETWORKS["beats"], other)
    for file in (pretrained, other):
        with pytest.raises(Reached):
            trained(inputs, tmp_path, file)
    (first, identity), (second, other_identity) = started
    expected = tensors_of(NETWORKS["beats"])
    assert all(torch.equal(first[name], expected[name]) for name in expected)
    assert not torch.equal(first["post_extract_proj.weight"], second["post_extract_proj.weight"])
    assert identity != other_identity


def test_adapters_are_trained_saved_alone_and_embed_on_the_weights(inputs, pretrained, tmp_path):
    network = {"lora": {"rank": 2, "alpha": 4.0}}
    trained(inputs, tmp_path, pretrained, **network)
    files = {"weights": tmp_path / "model.safetensors", "description": tmp_path / "model.json"}
    described = json.loads(files["description"].read_text())
    assert described["pretrained_sha256"] == file_digest(pretrained)
    assert described["network"] == NETWORKS["beats"] | network
    assert files["weights"].stat().st_size < pretrained.stat().st_size / 5
    found = embedded(inputs, tmp_path, BEATS | network, **files, pretrained=pretrained)
    assert found != embedded(inputs, tmp_path, BEATS, pretrained=pretrained)
    with pytest.raises(UserError, match=r"model.safetensors: holds adapters alone"):
        embedded(inputs, tmp_path, BEATS | network, **files)
    # External clips are embedded by the same network: here those of the training.
    vectors = np.random.default_rng(0).standard_normal((2, NETWORKS["beats"]["width"])).astype(np.float32)
    frame = pd.DataFrame({"machine": "fan", "domain": "source", "representative": [0, 1], "clip_id": "x"})
    write_table("representatives", frame.assign(vector=list(vectors), threshold=2.0), tmp_path / "representatives")
    score_external(
        as_json(ExternalScoreSettings(decoding=Decoding(), similarity="cosine")),
        "pool",
        **files,
        pretrained=pretrained,
        representatives=tmp_path / "representatives",
        scores=tmp_path / "scores",
        skipped=tmp_path / "skipped",
        **{name: inputs[name] for name in ("index", "samples")},
        device="cpu",
    )
    unit, centres = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (np.array(found), vectors))
    scores = read_table("external_scores", tmp_path / "scores").set_index("clip_id").score
    clip_ids = read_table("embeddings", tmp_path / "train.parquet").clip_id
    np.testing.assert_allclose(scores[clip_ids], -(unit @ centres.T).max(axis=1), atol=1e-5)
