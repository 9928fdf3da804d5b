"""Blocks against PyTorch's own Transformer layers, positions against their definition."""

import math

import pytest
import torch
from torch import Tensor

from asdpipe.models.vit import Block, Blocks, PatchEmbed, depth, sin_cos_positions
from tests.models.transformers import block_tensors, torch_layer


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tokens(count: int = 5, width: int = 16) -> Tensor:
    return torch.randn(2, count, width, generator=generator(1))


def few_blocks(layers: int = 3, **changes) -> Blocks:
    torch.manual_seed(0)
    return Blocks(layers, 16, 4, **changes)


def test_a_block_is_pytorchs_pre_norm_layer_with_gelu():
    weights = block_tensors(16, generator())
    block = Block(16, 4)
    block.load_state_dict(weights)
    torch.testing.assert_close(block(tokens()), torch_layer(weights, 4)(tokens()), atol=1e-6, rtol=0)


def test_blocks_follow_each_other_under_their_numbers():
    blocks = few_blocks()
    x = tokens()
    expected = blocks[2](blocks[1](blocks[0](x)))
    assert torch.equal(blocks(x), expected)
    assert {name.split(".")[0] for name in blocks.state_dict()} == {"0", "1", "2"}


def test_layer_drop_skips_blocks_by_draws_of_the_generator_in_training_only():
    blocks, x = few_blocks(layer_drop=0.5), tokens()
    seen = set()
    for seed in range(20):
        expected, rng = x, generator(seed)
        kept = [bool(torch.rand((), generator=rng) >= 0.5) for _ in range(3)]
        for block, is_kept in zip(blocks, kept, strict=True):
            expected = block(expected) if is_kept else expected
        assert torch.equal(blocks(x, generator(seed)), expected)
        seen.add(tuple(kept))
    assert len(seen) > 4
    assert torch.equal(blocks.eval()(x), few_blocks()(x))


def test_without_layer_drop_nothing_is_drawn():
    rng = generator()
    few_blocks()(tokens(), rng)
    assert torch.equal(rng.get_state(), generator().get_state())


def test_checkpointing_changes_neither_output_nor_gradients():
    outputs, gradients = [], []
    for checkpointing in (False, True):
        blocks = few_blocks(checkpointing=checkpointing, layer_drop=0.3)
        output = blocks(tokens(), generator(5))
        output.square().sum().backward()
        outputs.append(output.detach())
        gradients.append({name: value.grad for name, value in blocks.named_parameters() if value.grad is not None})
    assert torch.equal(*outputs)
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_layer_decay_scales_the_gradient_below_every_block_once_more():
    gradients = []
    for decay in (1.0, 0.5):
        blocks, x = few_blocks(layer_decay=decay), tokens().requires_grad_()
        blocks(x * 1).square().sum().backward()
        gradients.append([x.grad, *(block.mlp.fc2.weight.grad for block in blocks)])
    for power, plain, decayed in zip((3, 2, 1, 0), *gradients, strict=True):
        torch.testing.assert_close(decayed, plain * 0.5**power)


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match="a width of 16 cannot be divided among 3 heads"):
        Blocks(1, 16, 3)


def test_an_inner_layer_needs_no_later_ones():
    assert [depth(12, layer) for layer in (None, 1, 12)] == [12, 1, 12]
    with pytest.raises(ValueError, match="no output after layer 13 of a network of 12 layers"):
        depth(12, 13)


def test_a_token_is_a_linear_map_of_its_patch():
    embed = PatchEmbed(8)
    x = torch.randn(2, 35, 48, generator=generator())
    out = embed(x)
    assert out.shape == (2, 2, 3, 8)
    weight, bias = embed.proj.weight.reshape(8, 256), embed.proj.bias
    for row in range(2):
        for column in range(3):
            patch = x[:, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16].reshape(2, 256)
            torch.testing.assert_close(out[:, row, column], patch @ weight.T + bias, atol=1e-5, rtol=0)


def test_positions_are_sines_and_cosines_of_column_and_row():
    rows, columns, width = 5, 3, 16
    positions = sin_cos_positions(rows, columns, width)
    assert positions.shape == (1, 16, width)
    assert positions.dtype == torch.float32
    assert not positions[0, 0].any()
    for row in range(rows):
        for column in range(columns):
            for i in range(4):
                frequency = 10_000 ** (-i / 4)
                expected = [f(frequency * place) for place in (column, row) for f in (math.sin, math.cos)]
                found = positions[0, 1 + row * columns + column, i::4].tolist()
                assert found == pytest.approx(expected, abs=1e-6)


def test_a_shorter_grid_has_the_first_rows_of_a_longer_one():
    assert torch.equal(sin_cos_positions(64, 8, 32)[:, : 1 + 10 * 8], sin_cos_positions(10, 8, 32))
