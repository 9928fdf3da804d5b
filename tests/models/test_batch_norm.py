"""Batch normalisation against a float64 computation, channel by channel."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from asdpipe.models.batch_norm import BatchNorm, statistics_per_view

# At each size PyTorch's own layer fails the limits below; the last two leave rows over that do not fill a block.
MANY = [(12, 16, 240, 225), (300_000, 63), (3, 4, 501, 401), (2, 40, 333, 431)]


def numpy_batch_norm(x: np.ndarray, gain: float, shift: float, grad: np.ndarray) -> dict[str, np.ndarray]:
    """Normalise one channel in float64: output, moments and gradients, all written from the definition."""
    x, grad = x.astype(np.float64), grad.astype(np.float64)
    mean, deviation = x.mean(), np.sqrt(x.var() + 1e-5)
    unit = (x - mean) / deviation
    return {
        "y": gain * unit + shift,
        "mean": mean,
        "var": x.var(ddof=1),
        "dx": gain / deviation * (grad - grad.mean() - unit * (grad * unit).mean()),
        "dweight": (grad * unit).sum(),
        "dbias": grad.sum(),
    }


def inputs(shape: tuple[int, ...], *, channels_last: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Return values with a mean of their own per channel, and a gradient that follows them a little."""
    generator = torch.Generator().manual_seed(0)
    sides = (1, -1, *[1] * (len(shape) - 2))
    x = torch.randn(shape, generator=generator).mul_(0.7).add_(torch.linspace(-2, 3, shape[1]).view(sides))
    grad = torch.randn(shape, generator=generator).add_(0.1 * x).add_(0.5)
    if channels_last and len(shape) == 4:
        return x.contiguous(memory_format=torch.channels_last), grad.contiguous(memory_format=torch.channels_last)
    return x, grad


def with_weights(norm: nn.BatchNorm2d | nn.BatchNorm1d) -> nn.Module:
    norm.weight.data = torch.linspace(0.5, 1.5, norm.num_features)
    norm.bias.data = torch.linspace(1, -1, norm.num_features)
    return norm


def distance(ours: torch.Tensor, exact: np.ndarray) -> float:
    """Return the largest difference, relative to the largest value."""
    return float(np.abs(ours.detach().numpy() - exact).max() / np.abs(exact).max())


def errors(norm: nn.Module, x: torch.Tensor, grad: torch.Tensor) -> dict[str, float]:
    """Return the largest error of every result over the channels; sums are divided by the number of rows."""
    x = x.clone().requires_grad_()
    y = norm(x)
    y.backward(grad)
    count = x.numel() / x.shape[1]
    worst = dict.fromkeys(("y", "mean", "var", "dx", "dweight", "dbias"), 0.0)
    for channel in range(x.shape[1]):
        gain, shift = norm.weight[channel].item(), norm.bias[channel].item()
        exact = numpy_batch_norm(x[:, channel].detach().numpy(), gain, shift, grad[:, channel].numpy())
        # The running statistics started at 0 and 1 and have seen one batch.
        errors = {
            "y": distance(y[:, channel], exact["y"]),
            "mean": abs(norm.running_mean[channel].item() / 0.1 - exact["mean"]),
            "var": abs((norm.running_var[channel].item() - 0.9) / 0.1 / exact["var"] - 1),
            "dx": distance(x.grad[:, channel], exact["dx"]),
            "dweight": abs(norm.weight.grad[channel].item() - exact["dweight"]) / count,
            "dbias": abs(norm.bias.grad[channel].item() - exact["dbias"]) / count,
        }
        worst = {name: max(worst[name], float(error)) for name, error in errors.items()}
    return worst


@pytest.mark.parametrize("shape", MANY)
def test_statistics_and_gradients_of_many_rows_equal_float64(shape):
    x, grad = inputs(shape)
    ours = errors(with_weights(BatchNorm(shape[1])), x, grad)
    assert all(error < 5e-6 for error in ours.values()), ours
    torchs = errors(with_weights((nn.BatchNorm1d if x.dim() == 2 else nn.BatchNorm2d)(shape[1])), x, grad)
    assert torchs["var"] > 1e-5, "PyTorch sums accurately now: this module is no longer needed"


def test_every_forward_pass_is_counted_and_updates_the_running_statistics():
    x, _ = inputs((4, 8, 90, 90))
    norm, expected = BatchNorm(8), nn.BatchNorm2d(8)
    for factor in (1, 2, 3):
        norm(factor * x)
        # First in memory, channels are summed accurately.
        expected(factor * x.contiguous())
    assert int(norm.num_batches_tracked) == 3
    torch.testing.assert_close(norm.state_dict(), expected.state_dict(), rtol=1e-5, atol=1e-6)
    assert list(norm.state_dict()) == list(expected.state_dict())


def test_a_gradient_in_the_other_memory_format_gives_the_same():
    x, grad = inputs((4, 8, 90, 90))
    norm, results = with_weights(BatchNorm(8)), []
    for each in (grad, grad.contiguous()):
        leaf = x.clone().requires_grad_()
        norm(leaf).backward(each)
        results.append(leaf.grad)
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("x", "training"),
    [
        (inputs((12, 16, 100, 90))[0], False),
        (inputs((20_000, 16))[0], False),
        (inputs((12, 16, 100, 90), channels_last=False)[0], True),
        (inputs((12, 16, 100, 90))[0].bfloat16(), True),
        (inputs((4, 16, 40, 40))[0], True),
        (inputs((8000, 16))[0], True),
        (inputs((20, 1, 60, 60))[0], True),
    ],
    ids=["evaluation", "2-D evaluation", "channels first", "bfloat16", "few rows", "few 2-D rows", "one channel"],
)
def test_everything_else_has_pytorchs_own_bytes(x, training):
    ours = with_weights(BatchNorm(x.shape[1])).train(training)
    theirs = with_weights((nn.BatchNorm1d if x.dim() == 2 else nn.BatchNorm2d)(x.shape[1])).train(training)
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    for norm, leaf in ((ours, a), (theirs, b)):
        norm(leaf).float().square().sum().backward()
    assert torch.equal(a.grad, b.grad)
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name])


@pytest.mark.parametrize(
    "shape",
    [(4, 8, 90, 90), (4, 8, 9, 5), (4, 1, 9, 5), (9000, 12), (40, 12), (2, 5, 97, 89)],
    ids=["many rows", "few rows", "one channel", "many 2-D rows", "few 2-D rows", "few divisors"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_views_are_normalised_as_in_a_forward_pass_each(shape, dtype):
    views = [[(factor * each).to(dtype) for each in inputs(shape)] for factor in (1, 2, 0.5)]
    together, apart = with_weights(BatchNorm(shape[1])), with_weights(BatchNorm(shape[1]))
    x, grad = (torch.cat(each) for each in zip(*views, strict=True))
    x.requires_grad_()
    with statistics_per_view(3):
        y = together(x)
    y.backward(grad)
    leaves = [each.clone().requires_grad_() for each, _ in views]
    expected = [apart(leaf) for leaf in leaves]
    for one, (_, part) in zip(expected, views, strict=True):
        one.backward(part)
    assert y.dim() == 2 or y.is_contiguous(memory_format=torch.channels_last)
    tolerance = {"rtol": 2**-8, "atol": 2**-8} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(y, torch.cat(expected), **tolerance)
    torch.testing.assert_close(x.grad, torch.cat([leaf.grad for leaf in leaves]), **tolerance)
    for one, other in zip(together.parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4 * len(x))
    assert int(together.num_batches_tracked) == 3
    torch.testing.assert_close(together.state_dict(), apart.state_dict(), rtol=1e-5, atol=1e-6)


def test_views_end_with_their_context_and_are_for_training():
    x, (norm, plain) = inputs((4, 8, 9, 5))[0], (with_weights(BatchNorm(8)) for _ in range(2))
    with pytest.raises(KeyError), statistics_per_view(2):
        raise KeyError
    assert torch.equal(norm(x), plain(x))
    with statistics_per_view(2):
        assert torch.equal(norm.eval()(x), plain.eval()(x))
