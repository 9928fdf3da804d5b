"""The masked autoencoder: its target against an independent unfold, its prediction against PyTorch's layers."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from asdpipe.errors import UserError
from asdpipe.models.audio_mae import AudioMae
from asdpipe.models.masked_audio_mae import MaskedAudioMae
from tests.models.test_audio_mae import noise, official_checkpoint
from tests.models.transformers import transform

RATE = 16_000
ENCODER = {"frames": 112, "layers": 3, "width": 16, "heads": 2, "pooling": "mean"}
DECODER = {"decoder_layers": 2, "decoder_width": 8, "decoder_heads": 2}
PATCHES = 56


def tiny(seed: int = 0, **changes) -> MaskedAudioMae:
    torch.manual_seed(seed)
    model = MaskedAudioMae(RATE, **ENCODER | DECODER | changes).eval()
    with torch.no_grad():
        for value in filter(lambda value: value.requires_grad, model.parameters()):
            value.add_(0.1 * torch.randn(value.shape))
    return model


def hide(*patches: list[int]) -> Tensor:
    hidden = torch.zeros(len(patches), PATCHES, dtype=torch.bool)
    for clip, chosen in enumerate(patches):
        hidden[clip, chosen] = True
    return hidden


def random_hidden(clips: int, count: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return hide(*(torch.randperm(PATCHES, generator=rng)[:count].tolist() for _ in range(clips)))


def test_the_decoder_has_the_published_size():
    with torch.device("meta"):
        model = MaskedAudioMae(
            10 * RATE, 1024, 12, 768, 12, "mean", decoder_layers=16, decoder_width=512, decoder_heads=16
        )
    block = 4 * 512 * 512 + 2 * 4 * 512 * 512 + (4 + 4 + 1 + 4) * 512
    decoder = 16 * block + (768 * 512 + 512) + 512 + 2 * 512 + (512 * 256 + 256)
    encoder = 85_659_407 - (768 * 527 + 527)
    assert sum(each.numel() for each in model.parameters()) == encoder + 2 * 768 + decoder
    assert model.num_patches == 512


@torch.inference_mode()
def test_without_hidden_patches_it_is_the_encoder():
    model = tiny()
    assert torch.equal(model(noise()), model.encoder(noise()))
    assert model(noise()).shape == (2, *model.embedding_shape) == (2, 1, 16)


@torch.inference_mode()
def test_the_target_is_the_normalised_patch_in_the_order_of_patches():
    model, x = tiny(), noise()
    spectrogram = model.encoder.spectrogram(x)
    output = model(x, hidden=hide([55, 0, 17], [3, 9, 8]))
    assert output.shape == (2, 2, 3, 256)
    for clip, chosen in enumerate([(0, 17, 55), (3, 8, 9)]):
        for place, patch in enumerate(chosen):
            time, band = divmod(patch, 8)
            values = spectrogram[clip, 16 * time : 16 * time + 16, 16 * band : 16 * band + 16].double()
            deviation = ((values - values.mean()).square().sum() / 255 + 1e-6).sqrt()
            expected = ((values - values.mean()) / deviation).reshape(256).float()
            torch.testing.assert_close(output[clip, 1, place], expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_the_target_of_a_padded_patch_is_zero():
    model = MaskedAudioMae(8000, **ENCODER | DECODER).eval()
    # 48 frames are of the clip: patches from 24 on are padding.
    assert not model(noise(samples=8000), hidden=hide([24, 55], [30, 31]))[:, 1].any()


@torch.inference_mode()
def test_the_prediction_is_that_of_pytorchs_layers():
    model, x, hidden = tiny(), noise(), random_hidden(2, 40)
    tensors = model.state_dict()
    patches = F.unfold(model.encoder.spectrogram(x)[:, None], 16, stride=16).transpose(1, 2)
    weight = tensors["encoder.patch_embed.proj.weight"].reshape(16, 256)
    tokens = patches @ weight.T + tensors["encoder.patch_embed.proj.bias"] + tensors["encoder.pos_embed"][:, 1:]
    positions = AudioMae(RATE, 112, 1, 8, 1, None, "mean").pos_embed[0]
    for clip in range(2):
        visible = torch.cat([tensors["encoder.cls_token"][0], tokens[clip, ~hidden[clip]]])
        encoded = transform(visible[None], tensors, 3, 2, "encoder.blocks.")
        encoded = F.layer_norm(encoded, (16,), tensors["norm.weight"], tensors["norm.bias"], 1e-6)
        embedded = encoded[0] @ tensors["decoder_embed.weight"].T + tensors["decoder_embed.bias"]
        full = tensors["mask_token"][0].repeat(1 + PATCHES, 1)
        full[0] = embedded[0]
        full[1:][~hidden[clip]] = embedded[1:]
        decoded = transform((full + positions)[None], tensors, 2, 2, "decoder_blocks.")[0, 1:]
        decoded = F.layer_norm(decoded, (8,), tensors["decoder_norm.weight"], tensors["decoder_norm.bias"], 1e-6)
        expected = (decoded @ tensors["decoder_pred.weight"].T + tensors["decoder_pred.bias"])[hidden[clip]]
        torch.testing.assert_close(model(x, hidden=hidden)[clip, 0], expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_hidden_patches_do_not_reach_the_prediction_and_visible_ones_do_not_reach_the_target():
    model, hidden = tiny(), random_hidden(1, 40)
    spectrogram = torch.randn(1, 112, 128, generator=torch.Generator().manual_seed(1))
    grid = hidden.reshape(7, 8).repeat_interleave(16, dim=0).repeat_interleave(16, dim=1)
    outputs = []
    for replaced in (torch.zeros_like(grid), grid, ~grid):
        model.encoder.spectrogram = lambda x, replaced=replaced: torch.where(replaced, -spectrogram, spectrogram)
        outputs.append(model(torch.zeros(1, RATE), hidden=hidden))
    plain, other_hidden, other_visible = outputs
    assert torch.equal(plain[:, 0], other_hidden[:, 0])
    assert not torch.allclose(plain[:, 1], other_hidden[:, 1])
    assert torch.equal(plain[:, 1], other_visible[:, 1])
    assert not torch.allclose(plain[:, 0], other_visible[:, 0])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_everything_but_the_norm_of_the_embedding(checkpointing):
    model = tiny(checkpointing=checkpointing).train()
    prediction, target = model(noise(), hidden=random_hidden(2, 40)).unbind(dim=1)
    (prediction - target).square().mean().backward()
    for name, value in model.named_parameters():
        if name.startswith("encoder.fc_norm."):
            assert not value.requires_grad
        else:
            assert value.grad.abs().sum() > 0, name
    assert model.mask_token.grad.abs().min() > 0


def test_bfloat16_predictions_are_compared_with_exact_targets():
    model, x, hidden = tiny(), noise(), random_hidden(2, 40)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(x, hidden=hidden)
    assert output.dtype == torch.float32
    assert torch.equal(output[:, 1], model(x, hidden=hidden)[:, 1])
    torch.testing.assert_close(output[:, 0], model(x, hidden=hidden)[:, 0], atol=0.2, rtol=0)


@torch.inference_mode()
def test_its_weights_are_adopted_by_itself_and_by_the_encoder():
    trained, fresh = tiny(1), tiny(2)
    fresh.load_state_dict(fresh.adopt(trained.state_dict()))
    x, hidden = noise(), random_hidden(2, 40)
    assert torch.equal(fresh(x, hidden=hidden), trained(x, hidden=hidden))
    encoder = AudioMae(RATE, layer=None, **ENCODER)
    encoder.load_state_dict(encoder.adopt(trained.state_dict()))
    expected = trained.encoder.encode(trained.encoder.tokens(trained.encoder.spectrogram(x)))[:, 1:].mean(dim=1)
    torch.testing.assert_close(encoder(x)[:, 0], F.layer_norm(expected, (16,), eps=1e-6), atol=1e-5, rtol=0)


def test_of_an_official_checkpoint_the_encoder_is_adopted():
    tensors, model = official_checkpoint(16, 3, 56, fine_tuned=False), tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(model.adopt(tensors))
    assert torch.equal(model.encoder.blocks[2].mlp.fc1.weight, tensors["blocks.2.mlp.fc1.weight"])
    assert torch.equal(model.encoder.pos_embed, tensors["pos_embed"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items() if "encoder" not in name)


def test_the_first_tensor_that_a_checkpoint_lacks_is_named():
    tensors = tiny().state_dict()
    del tensors["decoder_blocks.1.norm1.bias"]
    with pytest.raises(UserError, match=r"lacks 'decoder_blocks\.1\.norm1\.bias', among 1 tensors of MaskedAudioMae"):
        tiny().adopt(tensors)
    del tensors["encoder.blocks.0.norm1.bias"]
    for model in (tiny(), AudioMae(RATE, layer=None, **ENCODER)):
        with pytest.raises(UserError, match=r"lacks 'blocks\.0\.norm1\.bias', among 1 tensors of AudioMae"):
            model.adopt(tensors)
