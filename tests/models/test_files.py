"""Models on disk: they come back as they were, and what somebody else made of them is refused."""

import json
import pickle
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
import safetensors.torch
import torch

from asdpipe.artifacts.files import file_digest
from asdpipe.config.networks import MultiResolution
from asdpipe.errors import UserError
from asdpipe.models.build import build_extractor
from asdpipe.models.files import load_model, save_model

SMALL = MultiResolution(width=8, windows=(512, 256), dft_kernels=(32, 16, 8), dft_strides=(16, 8, 4)).model_dump(
    mode="json"
)
AUTOENCODERS = {"kind": "autoencoder", "machines": ["fan", "pump"]}
NUM_SAMPLES = 4000


class Trap:
    """What pickle would run."""

    def __reduce__(self):
        return Path.touch, (Path("sprung"),)


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Weights and description of a small network, in the current folder."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    weights, description = tmp_path / "model.safetensors", tmp_path / "model.json"
    save_model(build_extractor(SMALL, num_samples=NUM_SAMPLES), SMALL, NUM_SAMPLES, weights, description, stage=1)
    return weights, description


@pytest.fixture
def autoencoders(tmp_path):
    """Weights and description of two autoencoders; one has not seen a target clip."""
    torch.manual_seed(0)
    weights, description = tmp_path / "model.safetensors", tmp_path / "model.json"
    extractor = build_extractor(AUTOENCODERS)
    covariances = torch.eye(128, dtype=torch.float64).repeat(2, 1, 1)
    extractor.of_machine("fan").inverse_covariances.copy_(covariances)
    extractor.of_machine("pump").inverse_covariances[0] = 2 * covariances[0]
    save_model(extractor, AUTOENCODERS, NUM_SAMPLES, weights, description)
    return extractor.eval(), weights, description


def describe(description: Path, **facts) -> None:
    """Change a description."""
    description.write_text(json.dumps(json.loads(description.read_text()) | facts))


def test_a_network_comes_back_as_it_was(model):
    torch.manual_seed(0)
    expected = build_extractor(SMALL, num_samples=NUM_SAMPLES).eval()
    network = load_model(*model)
    assert (network.num_samples, network.embedding_shape) == (NUM_SAMPLES, (3, 8))
    assert not network.training
    x = 0.1 * torch.randn(2, NUM_SAMPLES)
    assert torch.equal(network(x), expected(x))


def test_autoencoders_come_back_with_those_of_every_machine_type(autoencoders):
    expected, weights, description = autoencoders
    found = load_model(weights, description)
    assert not found.training
    x = 0.1 * torch.randn(2, NUM_SAMPLES)
    with torch.inference_mode():
        for machine in ("fan", "pump"):
            here, there = found.of_machine(machine)(x), expected.of_machine(machine)(x)
            torch.testing.assert_close(here, there, rtol=0, atol=0, equal_nan=True)
        assert found.of_machine("pump")(x)[:, 0, 2].isnan().all()
    with pytest.raises(UserError, match="no autoencoder for machine type valve"):
        found.of_machine("valve")


def test_an_untrained_extractor_can_be_written_and_read(tmp_path):
    files = tmp_path / "model.safetensors", tmp_path / "model.json"
    expected = build_extractor({"kind": "log_mel"}, num_samples=NUM_SAMPLES)
    save_model(expected, {"kind": "log_mel"}, NUM_SAMPLES, *files)
    x = torch.randn(2, NUM_SAMPLES)
    assert torch.equal(load_model(*files)(x), expected(x))


def test_the_description_says_kind_and_arguments_and_the_facts_it_was_given(model):
    said = json.loads(model[1].read_text())
    assert said == {
        "network": SMALL,
        "num_samples": NUM_SAMPLES,
        "stage": 1,
        "weights_sha256": file_digest(model[0]),
    }
    assert said["network"]["kind"] == "multi_resolution"


def crafted(weights: Path) -> dict[str, tuple[bytes, str]]:
    """Return weights that are not what they should be, and what is said of them."""
    data = weights.read_bytes()
    tensors = safetensors.torch.load(data)
    name = "branches.1.head.1.weight"
    header = json.dumps({name: {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    return {
        "pickle": (pickle.dumps(Trap()), "is not a file of weights in safetensors"),
        "a pickle of torch": (b"PK\3\4" + pickle.dumps(Trap()), "is not a file of weights in safetensors"),
        "a huge header": (struct.pack("<Q", 2**40) + data[8:], "is not a file of weights in safetensors"),
        "huge tensors": (struct.pack("<Q", len(header)) + header, "is not a file of weights in safetensors"),
        "a deep header": (struct.pack("<Q", 10**5) + b"[" * 10**5, "is not a file of weights in safetensors"),
        "nothing": (b"", "is not a file of weights in safetensors"),
        "half of it": (data[: len(data) // 2], "is not a file of weights in safetensors"),
        "a tensor less": (safetensors.torch.save({k: v for k, v in tensors.items() if k != name}), f"lacks '{name}'"),
        "a tensor more": (safetensors.torch.save(tensors | {"x": torch.ones(1)}), "has an unknown tensor, 'x'"),
        "another shape": (
            safetensors.torch.save(tensors | {name: tensors[name][1:].clone()}),
            rf"{name} is float32 \[",
        ),
        "another type": (safetensors.torch.save(tensors | {name: tensors[name].double()}), f"{name} is float64"),
        "NaN": (safetensors.torch.save(tensors | {name: torch.nan * tensors[name]}), f"{name} is not finite"),
        "infinity": (safetensors.torch.save(tensors | {name: tensors[name] / 0}), f"{name} is not finite"),
    }


def test_weights_that_somebody_crafted_are_refused_and_nothing_is_run(model, tmp_path):
    weights, description = model
    for what, (content, said) in crafted(weights).items():
        weights.write_bytes(content)
        # Somebody who means harm knows how to compute a digest.
        describe(description, weights_sha256=file_digest(weights))
        with pytest.raises(UserError, match=rf"model.safetensors: {said}") as error:
            load_model(weights, description)
        assert len(str(error.value)) < 1000, what
    assert not (tmp_path / "sprung").exists()


def test_a_flipped_bit_and_the_weights_of_another_training_are_noticed(model):
    weights, description = model
    data = bytearray(weights.read_bytes())
    data[-10] ^= 4
    weights.write_bytes(data)
    with pytest.raises(UserError, match=r"model.safetensors: is damaged, or is not the file that .*model.json"):
        load_model(weights, description)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"network": SMALL | {"width": 16}}, r"branches.* is float32 \[8.*not \[16|is float32 \[8"),
        ({"network": SMALL | {"width": 1024, "windows": [2**50]}}, "model.json: describes no possible"),
        ({"network": SMALL | {"windows": [2**200]}}, "model.json: describes no possible network"),
        ({"network": SMALL | {"windows": [512] * 10**5}}, "describes no possible network .network.windows is longer"),
        ({"network": SMALL | {"x" * 10**6: 1}}, "model.json: describes no possible network"),
        ({"network": SMALL | {"x" * 10**6: [1] * 10**5}}, "model.json: describes no possible network"),
        ({"network": SMALL | {"hidden": 1}}, r"describes no possible network \(network.hidden: Extra inputs"),
        ({"network": SMALL | {"width": "wide"}}, r"describes no possible network \(network.width: Input should be"),
        ({"network": {"width": 8}}, "describes no possible network .network.kind = 'None': unknown kind"),
        ({"network": SMALL | {"kind": "cnn"}}, "describes no possible network .network.kind = 'cnn': unknown"),
        ({"network": {"kind": "log_mel"}}, "has an unknown tensor, 'branches"),
        ({"network": {"kind": "autoencoder", "machines": ["fan"]}}, "has an unknown tensor, 'branches"),
        ({"network": {"kind": "autoencoder", "machines": ["a"] * 10**5}}, "network.machines is longer than there are"),
        ({"network": [1]}, r"does not describe a model \(network"),
        ({"num_samples": 10**12}, r"branches.0.linears.0.weight is float32 \[8, .*not float32 \[8, "),
        ({"num_samples": 10**30}, "model.json: describes no possible network"),
        ({"num_samples": 1e400}, r"does not describe a model \(num_samples"),
        ({"num_samples": 100}, "model.json: describes no possible network"),
        ({"num_samples": -1}, r"does not describe a model \(num_samples"),
        ({"weights_sha256": None}, r"does not describe a model \(weights_sha256"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused_soon_and_without_building_the_network(model, facts, said):
    weights, description = model
    describe(description, **facts)
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(UserError, match=said) as error:
            load_model(weights, description)
        assert time.process_time() - start < 1
        assert len(str(error.value)) < 1500
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 10**5, b'{"a":' * 10**5, b"1" * 10**5])
def test_descriptions_that_are_none_are_refused(model, content):
    weights, description = model
    description.write_bytes(content)
    with pytest.raises(UserError, match=r"model.json: does not describe a model \(") as error:
        load_model(weights, description)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("machines", "said"),
    [
        (["fan"], "has an unknown tensor, 'by_machine.1."),
        (["fan", "pump", "valve"], "lacks 'by_machine.2."),
        (["fan"] * 100, "lacks 'by_machine.10."),
        (["fan"] * 1000, "network.machines is longer than there are weights"),
        ("fan", "network.machines: .*str"),
        ([1, 2], "network.machines.0: Input should be a valid string"),
    ],
)
def test_autoencoders_of_other_machine_types_are_refused(autoencoders, machines, said):
    _, weights, description = autoencoders
    describe(description, network={"kind": "autoencoder", "machines": machines})
    with pytest.raises(UserError, match=said):
        load_model(weights, description)


def test_only_covariances_may_be_nan(autoencoders):
    _, weights, description = autoencoders
    tensors = safetensors.torch.load(weights.read_bytes())
    name = "by_machine.1.model.layers.0.weight"
    weights.write_bytes(safetensors.torch.save(tensors | {name: torch.nan * tensors[name]}))
    describe(description, weights_sha256=file_digest(weights))
    with pytest.raises(UserError, match=f"{name} is not finite"):
        load_model(weights, description)


def test_missing_files_are_named(model):
    weights, description = model
    weights.unlink()
    with pytest.raises(UserError, match=r"model.safetensors: cannot be read \(No such file"):
        load_model(weights, description)
