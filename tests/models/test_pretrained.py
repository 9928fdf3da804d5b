"""Networks start from pre-trained weights, and only from those that are theirs."""

import json

import pytest
import safetensors.torch
import torch

from asdpipe.artifacts.files import file_digest
from asdpipe.errors import UserError
from asdpipe.models.build import build_extractor
from asdpipe.models.files import load_model, save_model
from asdpipe.models.layouts import NUM_SAMPLES
from asdpipe.models.pretrained import load_pretrained
from asdpipe.models.tensors import read_tensors, write_tensors
from tests.models.checkpoints import NETWORKS, tensors_of

BEATS = NETWORKS["beats"]
LORA = BEATS | {"lora": {"rank": 2, "alpha": 4.0}}
MASKED = {
    "kind": "masked_audio_mae",
    **{"frames": 64, "layers": 2, "width": 64, "heads": 1, "pooling": "mean"},
    **{"decoder_layers": 1, "decoder_width": 8, "decoder_heads": 2},
}


def written(tmp_path, network, tensors=None):
    """Return a file of weights of a network, as an import or a training writes it."""
    file = tmp_path / "weights.safetensors"
    write_tensors(tensors_of(network) if tensors is None else tensors, network, file)
    return file


def built(network, seed=1):
    torch.manual_seed(seed)
    return build_extractor(network, num_samples=NUM_SAMPLES).eval()


def noise():
    return 0.1 * torch.randn(2, NUM_SAMPLES, generator=torch.Generator().manual_seed(0))


def test_the_same_tensors_and_network_give_the_same_bytes(tmp_path):
    first, second = (written(tmp_path, BEATS).read_bytes() for _ in range(2))
    assert first == second
    tensors, network = read_tensors(tmp_path / "weights.safetensors", "")
    assert network == BEATS
    assert tensors.keys() == tensors_of(BEATS).keys()


@torch.no_grad()
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_with_adopted_weights_embeds_like_the_one_they_come_from(tmp_path, kind):
    network = NETWORKS[kind]
    original = built(network)
    original.load_state_dict(tensors_of(network))
    extractor = built(network, seed=2)
    load_pretrained(extractor, written(tmp_path, network), network)
    assert torch.equal(extractor(noise()), original(noise()))
    # Other outputs of the same network.
    other = network | {"layer": 1, "pooling": "band_mean"}
    load_pretrained(built(other), tmp_path / "weights.safetensors", other)


@torch.no_grad()
def test_an_encoder_starts_from_the_autoencoder_that_was_pretrained(tmp_path):
    masked = built(MASKED)
    masked.load_state_dict(tensors_of(MASKED))
    network = NETWORKS["audio_mae"]
    extractor = built(network, seed=2)
    load_pretrained(extractor, written(tmp_path, MASKED), network)
    torch.testing.assert_close(extractor(noise()), masked(noise()), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("network", "change", "said"),
    [
        (BEATS, {"layers": 3}, "is of a network with layers = 2, but network.layers = 3: set it to 2, or name other"),
        (BEATS, {"heads": 2}, "is of a network with heads = 4, but network.heads = 2"),
        (BEATS, {"width": 64}, "is of a network with width = 32"),
        # The number of heads is in no tensor's shape.
        (NETWORKS["audio_mae"], {"heads": 2}, "is of a network with heads = 1, but network.heads = 2"),
        (NETWORKS["audio_mae"], {"frames": 128}, r"pos_embed is float32 \[1, 33, 64\], not float32 \[1, 65, 64\]"),
    ],
)
def test_weights_of_another_size_are_refused_and_the_key_is_named(tmp_path, network, change, said):
    file = written(tmp_path, network)
    wanted = network | change
    with pytest.raises(UserError, match=rf"weights.safetensors: {said}"):
        load_pretrained(built(wanted), file, wanted)


@pytest.mark.parametrize(
    ("source", "kind"), [(NETWORKS["ced"], "audio_mae"), (NETWORKS["audio_mae"], "beats"), (BEATS, "ced")]
)
def test_weights_of_another_network_are_refused(tmp_path, source, kind):
    file = tmp_path / "weights.safetensors"
    # A file that does not tell what it is of.
    file.write_bytes(safetensors.torch.save(tensors_of(source)))
    with pytest.raises(UserError, match=r"weights.safetensors: .*(lacks|unknown tensor).*(choose|name other)"):
        load_pretrained(built(NETWORKS[kind]), file, NETWORKS[kind])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: None, "lacks 'post_extract_proj.weight'"),
        (lambda value: value.T, "post_extract_proj.weight is float32"),
        (lambda value: value.double(), "post_extract_proj.weight is float64"),
        (lambda value: value / 0, "post_extract_proj.weight is not finite"),
    ],
)
def test_tensors_are_checked(tmp_path, change, said):
    tensors = tensors_of(BEATS)
    tensors["post_extract_proj.weight"] = change(tensors["post_extract_proj.weight"])
    file = written(tmp_path, BEATS, {name: value for name, value in tensors.items() if value is not None})
    with pytest.raises(UserError, match=f"{said}.*name other weights"):
        load_pretrained(built(BEATS), file, BEATS)


@pytest.mark.parametrize("header", ["", "[]", "{", "[" * 10**5])
def test_a_header_that_tells_nothing_is_ignored(tmp_path, header):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(safetensors.torch.save(tensors_of(BEATS), {"network": header}))
    load_pretrained(built(BEATS), file, BEATS)


# ------------------------------------------------------------------ adapters


@pytest.fixture
def adapted(tmp_path):
    """An extractor with adapters that are not as they start, its files, and the weights that it started from."""
    file = written(tmp_path, BEATS)
    extractor = built(LORA)
    load_pretrained(extractor, file, LORA)
    with torch.no_grad():
        for name, value in extractor.named_parameters():
            if "lora_b" in name:
                value.normal_()
    files = tmp_path / "model.safetensors", tmp_path / "model.json"
    save_model(extractor, LORA, NUM_SAMPLES, *files, pretrained_sha256=file_digest(file))
    return extractor, files, file


@torch.no_grad()
def test_adapters_are_saved_alone_and_loaded_onto_the_weights_they_were_trained_on(adapted):
    extractor, files, pretrained = adapted
    tensors, network = read_tensors(files[0], "")
    assert tensors.keys() == extractor.saved_state().keys()
    assert network == LORA
    assert torch.equal(load_model(*files, pretrained)(noise()), extractor(noise()))


def test_adapters_without_their_weights_or_with_others_are_refused(adapted, tmp_path):
    _, files, pretrained = adapted
    with pytest.raises(UserError, match=r"model.safetensors: holds adapters alone; give .*--pretrained"):
        load_model(*files)
    write_tensors(tensors_of(BEATS, seed=3), BEATS, pretrained)
    with pytest.raises(
        UserError, match=r"weights.safetensors: is not the file that .*model.safetensors was trained on"
    ):
        load_model(*files, pretrained)


@torch.no_grad()
def test_adapters_on_random_weights_are_saved_with_them(tmp_path):
    extractor = built(LORA)
    files = tmp_path / "model.safetensors", tmp_path / "model.json"
    save_model(extractor, LORA, NUM_SAMPLES, *files)
    assert torch.equal(load_model(*files)(noise()), extractor(noise()))


@torch.no_grad()
def test_a_network_that_was_trained_as_a_whole_needs_no_pretrained_weights(tmp_path):
    extractor = built(BEATS)
    files = tmp_path / "model.safetensors", tmp_path / "model.json"
    save_model(extractor, BEATS, NUM_SAMPLES, *files, pretrained_sha256="0" * 64)
    assert json.loads(files[1].read_text())["pretrained_sha256"] == "0" * 64
    assert torch.equal(load_model(*files)(noise()), extractor(noise()))
