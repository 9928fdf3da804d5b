"""Strided convolutions over blocks against PyTorch's own layers with the same weights."""

import pytest
import torch
from torch.nn import functional as F

from asdpipe.models.strided_conv import MAX_BLOCKS, StemConv, StridedConv1d


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def results(convolve, x: torch.Tensor, weight: torch.Tensor) -> list[torch.Tensor]:
    """Return the output and the gradients of input and weight, for the same gradient of the output each time."""
    x, weight = x.clone().requires_grad_(), weight.detach().clone().requires_grad_()
    y = convolve(x, weight)
    return [y, *torch.autograd.grad(y, (x, weight), randn(*y.shape, seed=1))]


def with_weight(layer):
    """Return the layer as a function of input and weight."""
    return lambda x, weight: torch.func.functional_call(layer, {"weight": weight}, x)


# The paper's, the demo's; strides that do not divide the kernel, that are longer than it, and 1; values left over.
@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "length"),
    [
        (1, 256, 64, 1000),
        (3, 64, 32, 500),
        (3, 16, 4, 100),
        (1, 8, 8, 64),
        (2, 7, 3, 50),
        (2, 7, 3, 49),
        (2, 7, 3, 7),
        (2, 3, 5, 33),
        (2, 4, 1, 20),
    ],
)
def test_one_dimension_equals_pytorchs_layer(channels, kernel, stride, length):
    layer, x = StridedConv1d(channels, 5, kernel, stride).double(), randn(3, channels, length)
    assert layer.blocks <= MAX_BLOCKS
    ours = results(with_weight(layer), x, layer.weight)
    theirs = results(lambda x, weight: F.conv1d(x, weight, stride=stride), x, layer.weight)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    # Channels last in memory: what the next of these layers reads without a copy.
    assert ours[0].transpose(1, 2).is_contiguous()
    again = results(with_weight(layer), x.transpose(1, 2).contiguous().transpose(1, 2), layer.weight)
    assert all(torch.equal(one, other) for one, other in zip(ours, again, strict=True))


@pytest.mark.parametrize(("height", "width"), [(7, 7), (8, 9), (21, 16), (30, 63), (13, 8)])
def test_the_stem_equals_pytorchs_layer(height, width):
    layer, x = StemConv(5).double(), randn(3, 1, height, width)
    ours = results(with_weight(layer), x, layer.weight)
    theirs = results(lambda x, weight: F.conv2d(x, weight, stride=2), x, layer.weight)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(with_weight(layer), (randn(1, 1, 8, 9).requires_grad_(), layer.weight))


@pytest.mark.parametrize(("layer", "shape"), [(StridedConv1d(1, 5, 12, 4), (2, 1, 60)), (StemConv(5), (2, 1, 20, 15))])
def test_autocast_computes_in_bfloat16_and_gradients_are_float32(layer, shape):
    x = randn(*shape).float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        plain = layer.eval()(x)
    layer.train()
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, plain, rtol=2**-7, atol=2**-7)
    y.float().sum().backward()
    assert x.grad.dtype == layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(StridedConv1d(1, 5, 12, 4), (2, 1, 60)), (StemConv(5), (2, 1, 20, 15)), (StridedConv1d(1, 5, 18, 2), (2, 1, 60))],
)
def test_without_gradients_or_with_many_blocks_the_bytes_are_pytorchs(layer, shape):
    x = randn(*shape).float()
    convolve = F.conv1d if x.dim() == 3 else F.conv2d
    expected = convolve(x, layer.weight, stride=layer.stride)
    with torch.no_grad():
        assert torch.equal(layer(x), expected)
    assert torch.equal(layer.eval()(x), expected)
    if isinstance(layer, StridedConv1d) and layer.blocks > MAX_BLOCKS:
        assert torch.equal(layer.train()(x), expected)
