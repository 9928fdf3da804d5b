"""CED-tiny against PyTorch's layers and torchaudio's spectrogram."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

from asdpipe.errors import UserError
from asdpipe.models.ced import Ced
from tests.models.transformers import block_tensors, transform

PUBLISHED = {"layers": 12, "width": 192, "heads": 3, "layer": None, "pooling": "mean"}
TINY = {"layers": 3, "width": 16, "heads": 2, "layer": None, "pooling": "mean"}
RATE = 16_000


def noise(clips: int = 2, samples: int = RATE, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(seed))


def tiny(samples: int = RATE, **changes) -> Ced:
    torch.manual_seed(0)
    return Ced(samples, **TINY | changes).eval()


def checkpoint(width: int, layers: int, prefix: str = "encoder.") -> dict[str, Tensor]:
    """Return random tensors in the layout of the published code."""
    rng = torch.Generator().manual_seed(3)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng)

    tensors = {
        "time_pos_embed": random(1, width, 1, 63),
        "freq_pos_embed": random(1, width, 4, 1),
        "init_bn.weight": random(64),
        "init_bn.bias": random(64),
        "init_bn.running_mean": 10 * random(64) - 20,
        "init_bn.running_var": 300 * random(64).square() + 100,
        "init_bn.num_batches_tracked": torch.tensor(1234),
        "patch_embed.proj.weight": random(width, 1, 16, 16) / 16,
        "patch_embed.proj.bias": random(width),
        "norm.weight": random(width),
        "norm.bias": random(width),
    }
    for number in range(layers):
        tensors |= {f"blocks.{number}.{name}": value for name, value in block_tensors(width, rng).items()}
    head = {"outputlayer.0.weight": random(width), "outputlayer.1.weight": random(527, width)}
    return {f"{prefix}{name}": value for name, value in tensors.items()} | head


def decibel(clip: Tensor) -> Tensor:
    """Return the log-mel spectrogram of a clip (samples,), (64, frames), by torchaudio."""
    mel = MelSpectrogram(RATE, n_fft=512, win_length=512, hop_length=160, f_min=0, f_max=8000, n_mels=64)
    return AmplitudeToDB("power", top_db=120)(mel(clip))


def tokens_after(x: Tensor, tensors: dict[str, Tensor], layers: int, heads: int, prefix: str = "encoder.") -> Tensor:
    """Return the tokens after the blocks, (batch, 4 bands, time, width)."""
    tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    spectrogram = torch.stack([decibel(clip) for clip in x])
    mean, variance = (tensors[f"init_bn.running_{name}"][:, None] for name in ("mean", "var"))
    scaled = (spectrogram - mean) / (variance + 1e-5).sqrt()
    scaled = scaled * tensors["init_bn.weight"][:, None] + tensors["init_bn.bias"][:, None]
    width, times = tensors["patch_embed.proj.bias"].numel(), scaled.shape[2] // 16
    patches = F.unfold(scaled[:, None, :, : 16 * times], 16, stride=16).transpose(1, 2)
    tokens = patches @ tensors["patch_embed.proj.weight"].reshape(width, 256).T + tensors["patch_embed.proj.bias"]
    tokens = tokens.reshape(len(x), 4, times, width)
    for band in range(4):
        for time in range(times):
            tokens[:, band, time] += tensors["freq_pos_embed"][0, :, band, 0] + tensors["time_pos_embed"][0, :, 0, time]
    return transform(tokens.flatten(1, 2), tensors, layers, heads).reshape(tokens.shape)


def test_the_parameters_and_their_file_are_as_large_as_published():
    encoder, head = Ced(10 * RATE, **PUBLISHED), nn.Sequential(nn.LayerNorm(192), nn.Linear(192, 527))
    parameters = sum(each.numel() for each in (*encoder.parameters(), *head.parameters()))
    # "5.5 M parameters", "22 MB".
    assert round(parameters / 1e6, 1) == 5.5
    assert round(4 * parameters / 1e6) == 22
    assert {name for name, _ in encoder.named_children()} | {"time_pos_embed", "freq_pos_embed"} == {
        *("init_bn", "patch_embed", "time_pos_embed", "freq_pos_embed", "blocks", "norm")
    }
    assert set(encoder.state_dict()) == {
        name.removeprefix("encoder.") for name in checkpoint(192, 12) if not name.startswith("outputlayer.")
    }


@torch.inference_mode()
def test_a_checkpoint_at_full_size_gives_the_output_of_pytorchs_layers():
    model, tensors, x = Ced(10 * RATE, **PUBLISHED).eval(), checkpoint(192, 12), noise(1, 10 * RATE)
    model.load_state_dict(model.adopt(tensors))
    tokens = tokens_after(x, tensors, 12, 3)
    # 10 s are 1001 frames, 62 patches and 9 frames.
    assert tokens.shape == (1, 4, 62, 192)
    weight, bias = tensors["encoder.norm.weight"], tensors["encoder.norm.bias"]
    expected = F.layer_norm(tokens, (192,), weight, bias, 1e-6).mean(dim=(1, 2))
    torch.testing.assert_close(model(x)[:, 0], expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_bands_have_branches_with_their_mean_over_time():
    model, tensors, x = tiny(pooling="band_mean"), checkpoint(16, 3), noise()
    model.load_state_dict(model.adopt(tensors))
    assert model(x).shape == (2, *model.embedding_shape) == (2, 4, 16)
    tokens = tokens_after(x, tensors, 3, 2)
    expected = F.layer_norm(tokens, (16,), tensors["encoder.norm.weight"], tensors["encoder.norm.bias"], 1e-6)
    torch.testing.assert_close(model(x), expected.mean(dim=2), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_an_inner_layer_starts_with_a_fresh_norm():
    model, tensors, x = tiny(layer=2), checkpoint(16, 3), noise()
    model.load_state_dict(model.adopt(tensors))
    expected = F.layer_norm(tokens_after(x, tensors, 2, 2), (16,), eps=1e-6).mean(dim=(1, 2))
    torch.testing.assert_close(model(x)[:, 0], expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_the_spectrogram_has_a_floor_120_db_below_the_maximum_of_each_clip():
    model = tiny()
    x = torch.stack([torch.zeros(RATE), 30 * noise(1)[0], 1e-3 * noise(1)[0]])
    x[1:, : RATE // 2] = 0
    found = model.spectrogram(x) * (1 + 1e-5) ** 0.5
    for clip in range(3):
        torch.testing.assert_close(found[clip].T, decibel(x[clip]), atol=1e-3, rtol=0)
    assert found[0].max().item() == found[0].min().item() == pytest.approx(-100)
    assert found[1].min().item() == pytest.approx(found[1].max().item() - 120, abs=1e-3)


@pytest.mark.parametrize("prefix", ["encoder.", ""])
def test_checkpoints_of_both_layouts_are_adopted(prefix):
    tensors = checkpoint(16, 3, prefix)
    expected = {name.removeprefix("encoder."): value for name, value in checkpoint(16, 3).items()}
    if not prefix:
        tensors = {name.replace("init_bn.", "init_bn.1."): value for name, value in tensors.items()}
        tensors["front_end.0.mel_scale.fb"] = torch.ones(257, 64)
    adopted = tiny().adopt(tensors)
    assert adopted.keys() == tiny().state_dict().keys()
    assert all(torch.equal(value, expected[name]) for name, value in adopted.items())


def test_the_number_of_batches_may_be_missing_and_nothing_else():
    tensors = checkpoint(16, 3)
    del tensors["encoder.init_bn.num_batches_tracked"]
    model = tiny()
    model.load_state_dict(model.adopt(tensors))
    del tensors["encoder.blocks.1.attn.proj.bias"], tensors["encoder.blocks.2.norm1.bias"]
    with pytest.raises(UserError, match=r"lacks 'blocks\.1\.attn\.proj\.bias', among 2 tensors of Ced: choose"):
        model.adopt(tensors)


def test_the_normalisation_of_bands_does_not_depend_on_the_batch_in_training():
    model, x = tiny(), noise(3)
    expected, before = model(x), {name: value.clone() for name, value in model.state_dict().items()}
    for training in (model.train(), nn.Sequential(model).train()[0], Ced(RATE, **TINY)):
        training.load_state_dict(before)
        assert training.training
        torch.testing.assert_close(training(x)[:1], expected[:1], atol=1e-5, rtol=0)
        torch.testing.assert_close(training(x[:1]), expected[:1], atol=1e-5, rtol=0)
        assert all(torch.equal(value, before[name]) for name, value in training.state_dict().items())


def test_gradients_reach_every_parameter():
    model = tiny(checkpointing=True).train()
    model(noise()).mul(torch.linspace(0, 1, 16)).sum().backward()
    for name, value in model.named_parameters():
        assert value.grad is not None, name
        assert value.grad.abs().sum() > 0, name


@torch.inference_mode()
def test_the_augmentation_sees_and_replaces_the_normalised_spectrogram():
    model, x, seen = tiny(), noise(), []

    def silence(spectrogram: Tensor) -> Tensor:
        seen.append(spectrogram)
        return torch.zeros_like(spectrogram)

    augmented = model(x, silence)
    assert seen[0].shape == (2, 101, 64)
    assert torch.equal(seen[0], model.spectrogram(x))
    assert torch.equal(augmented[0], augmented[1])
    assert not torch.allclose(augmented, model(x))


def test_clips_have_a_length_between_a_patch_and_the_positions():
    for samples, patches in ((2400, 1), (1011 * 160 + 159, 63)):
        assert tiny(samples).eval()(noise(1, samples)).isfinite().all()
        assert tiny(samples).spectrogram(noise(1, samples)).shape[1] // 16 == patches
    for samples in (2399, 1012 * 160):
        with pytest.raises(ValueError, match=rf"CED takes clips of 0\.15 to 10\.11 s, not of {samples / RATE:g} s"):
            tiny(samples)


def test_layer_drop_draws_from_the_generator_of_the_extractor():
    model, x = tiny(layer_drop=0.5).train(), noise()

    def draw(seed: int) -> Tensor:
        model.rng = torch.Generator().manual_seed(seed)
        return model(x)

    assert torch.equal(draw(0), draw(0))
    assert any(not torch.equal(draw(0), draw(seed)) for seed in range(1, 5))
