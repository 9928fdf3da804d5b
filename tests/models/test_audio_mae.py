"""The encoder of AudioMAE at its published size against PyTorch's layers and torchaudio's filter bank."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.compliance import kaldi

from asdpipe.errors import UserError
from asdpipe.models.audio_mae import AudioMae
from tests.models.transformers import block_tensors, transform

PUBLISHED = {"frames": 1024, "layers": 12, "width": 768, "heads": 12, "layer": None, "pooling": "mean"}
TINY = {"frames": 112, "layers": 3, "width": 16, "heads": 2, "layer": None, "pooling": "mean"}
RATE = 16_000


def noise(clips: int = 2, samples: int = RATE, seed: int = 0) -> Tensor:
    return 0.1 + 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(seed))


def tiny(seed: int = 0, **changes) -> AudioMae:
    torch.manual_seed(seed)
    return AudioMae(RATE, **TINY | changes).eval()


def official_checkpoint(width: int, layers: int, patches: int, *, fine_tuned: bool) -> dict[str, Tensor]:
    """Return random tensors in the official layout."""
    rng = torch.Generator().manual_seed(3)
    tensors = {
        "cls_token": torch.randn(1, 1, width, generator=rng),
        "pos_embed": torch.randn(1, 1 + patches, width, generator=rng),
        "patch_embed.proj.weight": torch.randn(width, 1, 16, 16, generator=rng) / 16,
        "patch_embed.proj.bias": torch.randn(width, generator=rng),
    }
    for number in range(layers):
        tensors |= {f"blocks.{number}.{name}": value for name, value in block_tensors(width, rng).items()}
    norm = {f"norm.{part}": torch.randn(width, generator=rng) for part in ("weight", "bias")}
    if fine_tuned:
        head = {"head.weight": torch.randn(527, width, generator=rng), "head.bias": torch.randn(527, generator=rng)}
        return tensors | {f"fc_{name}": value for name, value in norm.items()} | head
    decoder = {"decoder_embed.weight": (512, width), "decoder_pos_embed": (1, 1 + patches, 512)}
    decoder |= {"mask_token": (1, 1, 512), "decoder_blocks.0.norm1.weight": (512,), "decoder_pred.bias": (256,)}
    return tensors | norm | {name: torch.randn(shape, generator=rng) for name, shape in decoder.items()}


def spectrogram(clip: Tensor, frames: int) -> Tensor:
    """Return the normalised filter bank of a clip (samples,), (frames, 128), by torchaudio."""
    fbank = kaldi.fbank(
        (clip - clip.mean())[None],
        htk_compat=True,
        sample_frequency=RATE,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=128,
        dither=0.0,
        frame_shift=10,
    )
    padded = torch.zeros(frames, 128)
    padded[: len(fbank)] = fbank
    return (padded + 4.2677393) / (2 * 4.5689974)


def tokens_after(x: Tensor, tensors: Mapping[str, Tensor], layers: int, heads: int, frames: int) -> Tensor:
    """Return the patches' tokens after the blocks, (batch, patches, width)."""
    fbank = torch.stack([spectrogram(clip, frames) for clip in x])
    patches = F.unfold(fbank[:, None], 16, stride=16).transpose(1, 2)
    width = tensors["cls_token"].shape[2]
    tokens = patches @ tensors["patch_embed.proj.weight"].reshape(width, 256).T + tensors["patch_embed.proj.bias"]
    tokens = torch.cat([tensors["cls_token"].expand(len(x), 1, width), tokens], dim=1)
    return transform(tokens + tensors["pos_embed"][:, : tokens.shape[1]], tensors, layers, heads)[:, 1:]


@pytest.fixture(scope="module")
def published() -> AudioMae:
    return AudioMae(10 * RATE, **PUBLISHED).eval()


def test_the_parameters_are_as_many_as_published(published):
    # Patches, class token, 12 blocks and fc_norm; positions are no parameters. The classifier is no part of it.
    head = nn.Linear(768, 527)
    assert sum(each.numel() for each in (*published.parameters(), *head.parameters())) == 85_659_407
    assert "pos_embed" not in dict(published.named_parameters())
    assert (published.num_patches, published.embedding_shape) == (512, (1, 768))


@torch.inference_mode()
def test_a_fine_tuned_checkpoint_at_full_size_gives_the_output_of_pytorchs_layers(published):
    tensors = official_checkpoint(768, 12, 512, fine_tuned=True)
    published.load_state_dict(published.adopt(tensors))
    x = noise(1, 10 * RATE)
    mean = tokens_after(x, tensors, 12, 12, 1024).mean(dim=1)
    expected = F.layer_norm(mean, (768,), tensors["fc_norm.weight"], tensors["fc_norm.bias"], 1e-6)
    torch.testing.assert_close(published(x)[:, 0], expected, atol=1e-5, rtol=0)


def test_the_spectrogram_is_kaldis_padded_and_then_normalised():
    x = noise(samples=8000)
    model = AudioMae(8000, **TINY)
    found = model.spectrogram(x)
    for clip in range(2):
        torch.testing.assert_close(found[clip], spectrogram(x[clip], 112), atol=1e-4, rtol=0)
    # 48 frames are of the clip.
    assert torch.equal(found[:, 48:], torch.full((2, 64, 128), 4.2677393 / (2 * 4.5689974)))


def test_positions_are_those_of_mae_in_the_order_of_tokens():
    positions = tiny().pos_embed[0].numpy()
    frequency = 1 / 10_000 ** (np.arange(4) / 4)
    np.testing.assert_array_equal(positions[0], 0)
    for time in range(7):
        for band in range(8):
            phases = [band * frequency, time * frequency]
            expected = np.concatenate([f(phase) for phase in phases for f in (np.sin, np.cos)])
            np.testing.assert_allclose(positions[1 + 8 * time + band], expected, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize(("layer", "blocks"), [(None, 3), (3, 3), (2, 2)])
def test_a_pre_trained_encoder_starts_with_a_fresh_norm(layer, blocks):
    model, tensors, x = tiny(layer=layer), official_checkpoint(16, 3, 56, fine_tuned=False), noise()
    model.load_state_dict(model.adopt(tensors))
    expected = F.layer_norm(tokens_after(x, tensors, blocks, 2, 112).mean(dim=1), (16,), eps=1e-6)
    torch.testing.assert_close(model(x)[:, 0], expected, atol=1e-5, rtol=0)
    assert len(model.blocks) == blocks


@torch.inference_mode()
def test_the_norm_of_a_fine_tuned_encoder_belongs_to_its_last_layer():
    tensors = official_checkpoint(16, 3, 56, fine_tuned=True)
    assert torch.equal(tiny(layer=3).adopt(tensors)["fc_norm.weight"], tensors["fc_norm.weight"])
    adopted = tiny(layer=2).adopt(tensors)
    assert (adopted["fc_norm.weight"] == 1).all()
    assert not adopted["fc_norm.bias"].any()


@torch.inference_mode()
def test_bands_have_branches_with_their_mean_over_time():
    model, tensors, x = tiny(pooling="band_mean"), official_checkpoint(16, 3, 56, fine_tuned=True), noise()
    model.load_state_dict(model.adopt(tensors))
    assert model(x).shape == (2, *model.embedding_shape) == (2, 8, 16)
    tokens = tokens_after(x, tensors, 3, 2, 112)
    for band in range(8):
        mean = tokens[:, band::8].mean(dim=1)
        expected = F.layer_norm(mean, (16,), tensors["fc_norm.weight"], tensors["fc_norm.bias"], 1e-6)
        torch.testing.assert_close(model(x)[:, band], expected, atol=1e-5, rtol=0)


def test_a_shorter_input_takes_the_first_positions_of_the_checkpoint():
    tensors = official_checkpoint(16, 3, 512, fine_tuned=True)
    model = tiny()
    model.load_state_dict(model.adopt(tensors))
    assert torch.equal(model.pos_embed, tensors["pos_embed"][:, : 1 + 7 * 8])


@pytest.mark.parametrize("fine_tuned", [True, False])
def test_the_first_tensor_that_a_checkpoint_lacks_is_named(fine_tuned):
    tensors = official_checkpoint(16, 3, 56, fine_tuned=fine_tuned)
    del tensors["blocks.1.attn.qkv.bias"], tensors["blocks.2.mlp.fc1.weight"]
    with pytest.raises(UserError, match=r"lacks 'blocks\.1\.attn\.qkv\.bias', among 2 tensors of AudioMae: choose"):
        tiny().adopt(tensors)
    with pytest.raises(UserError, match="lacks 'cls_token', among"):
        tiny().adopt({})


def test_a_checkpoint_with_more_blocks_than_the_network_is_left_to_the_check_of_names():
    adopted = tiny().adopt(official_checkpoint(16, 4, 56, fine_tuned=True))
    unknown = adopted.keys() - tiny().state_dict().keys()
    assert {name.split(".")[1] for name in unknown} == {"3"}
    assert (
        tiny(layer=1).adopt(official_checkpoint(16, 3, 56, fine_tuned=True)).keys() == tiny(layer=1).state_dict().keys()
    )


def test_odd_positions_are_left_to_the_check_of_shapes():
    tensors = official_checkpoint(16, 3, 56, fine_tuned=True)
    for odd in (torch.tensor(1.0), torch.ones(1), torch.ones(1, 3, 16)):
        assert torch.equal(tiny().adopt(tensors | {"pos_embed": odd})["pos_embed"], odd)


@torch.inference_mode()
def test_the_augmentation_sees_and_replaces_the_normalised_spectrogram():
    model, x, seen = tiny(), noise(), []

    def silence(fbank: Tensor) -> Tensor:
        seen.append(fbank)
        return torch.zeros_like(fbank)

    augmented = model(x, silence)
    assert torch.equal(seen[0], model.spectrogram(x))
    assert torch.equal(augmented[0], augmented[1])
    assert not torch.allclose(augmented, model(x))
    assert torch.equal(model(x, augment=lambda fbank: fbank), model(x))


@torch.inference_mode()
def test_a_constant_offset_and_other_clips_of_the_batch_change_nothing():
    model, x = tiny(), noise(3)
    torch.testing.assert_close(model(x + 0.25), model(x), atol=1e-3, rtol=0)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]), atol=1e-5, rtol=0)


def test_clips_have_a_length_between_a_patch_and_the_positions():
    assert AudioMae(2800, **TINY).num_patches == 56
    with pytest.raises(ValueError, match=r"clips of 0\.1 s are too short: one patch of the spectrogram needs 0\.175 s"):
        AudioMae(1600, **TINY)
    # 112 frames and all but one sample of the next.
    AudioMae(400 + 111 * 160 + 159, **TINY)
    with pytest.raises(ValueError, match=r"clips of 1\.145 s are longer than the 112 frames of AudioMAE, 1\.135 s"):
        AudioMae(400 + 112 * 160, **TINY)


def test_layer_drop_draws_from_the_generator_of_the_extractor():
    x = noise()
    model = tiny(layer_drop=0.5).train()

    def draw(seed: int) -> Tensor:
        model.rng = torch.Generator().manual_seed(seed)
        return model(x)

    assert torch.equal(draw(0), draw(0))
    assert any(not torch.equal(draw(0), draw(seed)) for seed in range(1, 5))
    plain = tiny()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(x), plain(x))


def test_gradients_reach_every_parameter():
    model = tiny(checkpointing=True).train()
    model(noise()).mul(torch.linspace(0, 1, 16)).sum().backward()
    for name, value in model.named_parameters():
        # A key's bias moves all attention scores of a query alike, so that only rounding errors remain.
        assert value.grad is not None, name
        assert value.grad.abs().sum() > 0, name


def test_equal_seeds_give_equal_weights_and_outputs():
    assert torch.equal(tiny(1)(noise()), tiny(1)(noise()))
    assert not torch.equal(tiny(1)(noise()), tiny(2)(noise()))
