"""Official checkpoints: what they hold is found, and what is not as published is refused, without running any of it."""

import argparse
import io
import json
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from asdpipe.errors import UserError
from asdpipe.models.layouts import read_official
from tests.fuzz import mutations
from tests.models.checkpoints import (
    BEATS_CFG,
    NETWORKS,
    POSITION_BIAS,
    official_audio_mae,
    official_beats,
    official_ced,
    saved,
    tensors_of,
)


class Trap:
    """What pickle would run."""

    def __reduce__(self):
        return Path.touch, (Path("sprung"),)


def refused(content: bytes | object, tmp_path: Path, layout: str = "beats") -> str:
    """Return the message about a file."""
    file = tmp_path / "official.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(UserError) as error:
        read_official(file, layout)
    assert str(error.value).startswith(f"{file}: ")
    assert len(str(error.value)) < 1000
    return str(error.value).removeprefix(f"{file}: ")


def dumped(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def packed(content: bytes, change, **how) -> bytes:
    """Return a zip whose entries went through ``change(name, bytes)``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", **how) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))
    return buffer.getvalue()


# ------------------------------------------------------------------ what is published


@pytest.mark.parametrize("fine_tuned", [False, True])
def test_beats_is_read_by_its_settings_and_without_classifier_and_copies(tmp_path, fine_tuned):
    found = read_official(saved(official_beats(fine_tuned), tmp_path / "official.pt"), "beats")
    assert found.network == NETWORKS["beats"]
    assert found.classifier == ("predictor.bias" if fine_tuned else None)
    expected = tensors_of(NETWORKS["beats"])
    assert found.tensors.keys() == expected.keys()
    assert all(torch.equal(found.tensors[name], expected[name]) for name in expected)
    assert all(parameter.is_meta for parameter in found.extractor.parameters())


@pytest.mark.parametrize("fine_tuned", [False, True])
def test_audio_mae_is_read_by_the_shapes_of_its_tensors_and_without_decoder(tmp_path, fine_tuned):
    # Trainings save their arguments, too.
    content = official_audio_mae(fine_tuned) | {"epoch": 32, "args": argparse.Namespace(lr=2e-4, path="data")}
    found = read_official(saved(content, tmp_path / "official.pth"), "audio_mae")
    assert found.network == NETWORKS["audio_mae"]
    assert found.classifier == ("fc_norm.bias" if fine_tuned else None)
    expected = tensors_of(NETWORKS["audio_mae"])
    if not fine_tuned:
        expected |= {"fc_norm.weight": torch.ones(64), "fc_norm.bias": torch.zeros(64)}
    assert found.tensors.keys() == expected.keys()
    assert all(torch.equal(found.tensors[name], expected[name]) for name in expected)


def test_ced_is_read_from_safetensors(tmp_path):
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file(official_ced(), file)
    found = read_official(file, "ced")
    assert (found.network, found.classifier) == (NETWORKS["ced"], "outputlayer.1.bias")
    expected = tensors_of(NETWORKS["ced"])
    assert all(torch.equal(found.tensors[name], expected[name]) for name in expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(tmp_path, dtype):
    content = official_beats()
    content["model"] = {name: value.to(dtype) for name, value in content["model"].items()}
    found = read_official(saved(content, tmp_path / "official.pt"), "beats").tensors
    expected = tensors_of(NETWORKS["beats"])
    assert all(torch.equal(found[name], expected[name].to(dtype).float()) for name in expected)


# ------------------------------------------------------------------ what is not


def changed(**tensors: torch.Tensor | None) -> dict:
    """Return a checkpoint of BEATs with other tensors, by names with __ for a dot; None: without it."""
    content = official_beats()
    for name, value in tensors.items():
        content["model"][name.replace("__", ".")] = value
    content["model"] = {name: value for name, value in content["model"].items() if value is not None}
    return content


PROJECTION = torch.zeros(32, 24)
SECOND_BIAS = POSITION_BIAS.format(1)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"post_extract_proj__weight": None}, "lacks 'post_extract_proj.weight', among 1 that differ"),
        ({"quantize__embedding": PROJECTION}, "has an unknown tensor, 'quantize.embedding'"),
        ({"post_extract_proj__weight": PROJECTION.T}, r"float32 [24, 32], not float32 [32, 24]"),
        ({"post_extract_proj__weight": PROJECTION.double()}, "post_extract_proj.weight is float64"),
        ({"post_extract_proj__weight": PROJECTION.int()}, "post_extract_proj.weight is int32"),
        ({"post_extract_proj__weight": PROJECTION / 0}, "post_extract_proj.weight is not finite"),
        ({"post_extract_proj__weight": torch.full((32, 24), 1e9).half()}, "post_extract_proj.weight is not finite"),
        # What claims to be huge, or is no tensor of numbers.
        ({"post_extract_proj__weight": torch.zeros(1).expand(2**40)}, "claims 439"),
        ({"post_extract_proj__weight": torch.empty(2**40, device="meta")}, "is no plain tensor"),
        ({"post_extract_proj__weight": PROJECTION.to_sparse()}, "is no plain tensor"),
        ({"post_extract_proj__weight": "much"}, "'post_extract_proj.weight' is no tensor"),
        # The position bias of a layer is not that of the first.
        (
            {POSITION_BIAS.format(1).replace(".", "__"): torch.zeros(320, 4)},
            f"unknown tensor, '{POSITION_BIAS.format(1)}",
        ),
    ],
)
def test_tensors_that_are_not_as_published_are_named(tmp_path, tensors, said):
    assert said in refused(changed(**tensors), tmp_path)


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        ({"encoder_layers": 3}, "lacks 'encoder.layers.2."),
        ({"encoder_layers": 1}, "has an unknown tensor, 'encoder.layers.1."),
        ({"encoder_layers": 10**9}, "network.layers: Input should be less than or equal to 64"),
        ({"encoder_layers": "two"}, "network.layers: Input should be a valid integer"),
        ({"encoder_attention_heads": 2}, "is float32"),
        ({"encoder_embed_dim": 64}, "is float32"),
        ({"layer_norm_first": True}, "cfg.layer_norm_first is True, but False in all published"),
        ({"conv_pos": "x" * 10**6}, "cfg.conv_pos is xxx"),
    ],
)
def test_settings_of_beats_that_do_not_fit_its_tensors_are_refused(tmp_path, cfg, said):
    content = official_beats()
    content["cfg"] = BEATS_CFG | cfg
    assert said in refused(content, tmp_path)


@pytest.mark.parametrize(
    ("content", "layout", "said"),
    [
        (official_audio_mae(), "beats", "has an unknown tensor, 'blocks.0.attn.proj.bias'"),
        (official_audio_mae(), "ced", "lacks 'time_pos_embed'"),
        (official_beats(), "audio_mae", "lacks 'cls_token'"),
        (official_ced(), "beats", "has an unknown tensor, 'encoder.blocks.0.attn.proj.bias'"),
    ],
)
def test_a_checkpoint_of_another_layout_is_refused(tmp_path, content, layout, said):
    message = refused(content, tmp_path, layout)
    assert said in message
    assert f"no checkpoint in the layout of {layout}" in message


@pytest.mark.parametrize("content", [{}, {"model": {}}, {"model": [1]}, [1], {"model": {1: torch.ones(1)}}])
def test_files_without_tensors_are_refused(tmp_path, content):
    assert "give the file as published" in refused(content, tmp_path)


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refused({"model": official_beats()["model"], "cfg": Trap()}, tmp_path)
    assert "holds getattr, which is code and never run" in message
    assert "is not a file of weights in safetensors" in refused(pickle.dumps(Trap()), tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_what_is_no_checkpoint_is_refused_soon_and_in_little_memory(tmp_path):
    whole = dumped(official_beats())
    bomb = packed(
        whole, lambda name, data: data + name.endswith("version") * bytes(10**7), compression=zipfile.ZIP_DEFLATED
    )
    without_pickle = packed(whole, lambda name, data: b"" if name.endswith("data.pkl") else data)
    # A storage of four numbers that claims more.
    longer = packed(dumped({"model": {"a": torch.arange(4.0)}}), lambda _, data: data.replace(b"K\x04", b"K\xff"))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    cases = {
        "is not a file of weights in safetensors": [b"", b"hello\n" * 100, whole[: len(whole) // 2]],
        "compressed archive": [bomb],
        "is damaged": [without_pickle, longer, bytes(8) + whole],
        "in it is damaged": [bytes(flipped)],
    }
    tracemalloc.start()
    for said, contents in cases.items():
        for content in contents:
            assert said in refused(content, tmp_path), content[:20]
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def test_damaged_files_end_in_a_message_or_in_what_was_saved(tmp_path):
    whole = dumped(official_beats())
    expected = tensors_of(NETWORKS["beats"])
    file = tmp_path / "official.pt"
    rng = np.random.default_rng(0)
    refusals = 0
    for _ in range(40):
        mutation = rng.choice([*mutations.ANYWHERE, mutations.flip_head, mutations.flip_tail])
        file.write_bytes(mutation(whole, rng))
        try:
            found = read_official(file, "beats").tensors
        except UserError:
            refusals += 1
        else:
            assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert refusals > 25


def test_the_header_of_safetensors_is_not_trusted(tmp_path):
    header = json.dumps(
        {"encoder.norm.weight": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    ).encode()
    message = refused(struct.pack("<Q", len(header)) + header, tmp_path, "ced")
    assert "is not a file of weights in safetensors" in message
