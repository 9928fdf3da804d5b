"""Batch normalisation that is accurate on a CPU for channels of millions of values, and normalises views separately."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# The error of PyTorch grows with the number of rows; up to this many the variance is accurate to 1e-6.
MIN_ROWS = 8192
# Number of partial sums; each has at most rows * channels / 4096 terms, unless the number of rows has few divisors.
LANES = 4096


@contextmanager
def statistics_per_view(views: int) -> Iterator[None]:
    """Let every ``BatchNorm`` normalise this many equal parts of a batch separately, in training on a CPU.

    The results are those of one forward pass per part, in order, up to rounding. Not for several threads at once with
    different numbers.
    """
    BatchNorm.views = views
    try:
        yield
    finally:
        BatchNorm.views = 1


class BatchNorm(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` that also takes (rows, channels), with accurate float32 batch statistics on a CPU.

    For channels_last tensors, PyTorch adds up the rows one by one in float32. Over six million rows its batch variance
    is off by 4e-3, and with fewer than 16 channels its loops are not vectorised. In training, such float32 tensors take
    another path (``_Normalise``), accurate to 1e-6 at any size and up to ten times as fast. All else (evaluation, GPUs,
    bfloat16, ``torch.compile``, channels-first tensors) is left to PyTorch.

    Input and output: float (rows, channels) or (batch, channels, height, width).
    """

    views: ClassVar[int] = 1
    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 (PyTorch's name)
        pass

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every channel, in training with the mean and variance of the batch, or of each view."""
        if not self.training or torch.compiler.is_compiling():
            return super().forward(x)
        accurate = _sums_row_by_row(x, self.views)
        if self.views == 1 and not accurate:
            return super().forward(x)
        with torch.no_grad():
            self.num_batches_tracked.add_(self.views)
        running = self.running_mean, self.running_var, self.momentum
        normalise = _Normalise if accurate else _NormaliseViews
        normalised: Tensor = normalise.apply(x, self.weight, self.bias, running, self.eps, self.views)
        return normalised


def _sums_row_by_row(x: Tensor, views: int) -> bool:
    """Return whether PyTorch would add up many rows of each view one by one in float32."""
    if x.dim() == 2:
        channels_last = x.is_contiguous()
    else:
        channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    many = x.numel() > views * MIN_ROWS * x.shape[1]
    return many and channels_last and x.dtype == torch.float32 and x.device.type == "cpu"


def _rows(x: Tensor, views: int) -> Tensor:
    """Return (views, rows, channels): a view of tensors in (rows, channels) or channels_last, else a copy."""
    return (x if x.dim() == 2 else x.permute(0, 2, 3, 1)).reshape(views, -1, x.shape[1])


def _wide(x: Tensor, views: int) -> Tensor:
    """Return a view of ``x``, (views, rows / k, k * channels), with k rows side by side."""
    rows = _rows(x, views)
    count, channels = rows.shape[1:]
    k = next(k for k in range(max(1, LANES // channels), 0, -1) if count % k == 0)
    return rows.view(views, count // k, k * channels)


def _fold(wide: list[Tensor], channels: int) -> Tensor:
    """Return values (k * channels,) of every view as float64 (views, k, channels)."""
    return torch.stack(wide).double().unflatten(1, (-1, channels))


def _beside(values: Tensor, wide: Tensor) -> Tensor:
    """Repeat values (views, channels) for the columns of ``wide``: float32 (views, 1, k * channels)."""
    return values.float().repeat(1, wide.shape[2] // values.shape[1]).unsqueeze(1)


class _Normalise(torch.autograd.Function):
    """Normalise every view by its mean and variance, summed in ``LANES`` columns; gradients flow through both."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, running: tuple[Tensor, Tensor, float], eps: float, views: int
    ) -> Tensor:
        wide, channels, rows = _wide(x, views), x.shape[1], x.numel() // x.shape[1] // views
        moments = [torch.batch_norm_update_stats(view, None, None, 0.0) for view in wide]
        means, variances = (_fold(list(each), channels) for each in zip(*moments, strict=True))
        mean = means.mean(dim=1)
        var = (variances + (means - mean.unsqueeze(1)).square()).mean(dim=1)
        running_mean, running_var, momentum = running
        for view_mean, view_var in zip(mean.float(), (var * rows / (rows - 1)).float(), strict=True):
            running_mean.lerp_(view_mean, momentum)
            running_var.lerp_(view_var, momentum)
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps = eps
        gain = weight * (var + eps).rsqrt()
        y = torch.empty_like(x)
        torch.addcmul(_beside(bias - mean * gain, wide), wide, _beside(gain, wide), out=_wide(y, views))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        (views, channels), rows = mean.shape, x.numel() // mean.numel()
        grad = grad.contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.contiguous_format)
        wide, wide_grad = _wide(x, views), _wide(grad, views)
        # With fixed statistics: sums of grad * normalised x, and of grad.
        sums = [
            torch.ops.aten.native_batch_norm_backward(
                *view, None, view_mean, view_var, None, None, False, ctx.eps, [False, True, True]
            )[1:]
            for view, view_mean, view_var in zip(
                zip(wide_grad, wide, strict=True), _beside(mean, wide)[:, 0], _beside(var, wide)[:, 0], strict=True
            )
        ]
        dweight, dbias = (_fold(list(each), channels).sum(dim=1) for each in zip(*sums, strict=True))
        # dx = gain * (grad - mean(grad) - normalised x * mean(grad * normalised x)), computed as
        # gain * grad + x_factor * x + constant.
        scale = (var + ctx.eps).rsqrt()
        gain = weight * scale
        x_factor = -gain * scale * dweight / rows
        constant = -gain * dbias / rows - x_factor * mean
        dx = torch.empty_like(x)
        wide_dx = _wide(dx, views)
        torch.addcmul(_beside(constant, wide), wide, _beside(x_factor, wide), out=wide_dx)
        wide_dx.addcmul_(wide_grad, _beside(gain, wide))
        return dx, dweight.sum(dim=0).float(), dbias.sum(dim=0).float(), None, None, None


class _NormaliseViews(torch.autograd.Function):
    """Normalise every view as PyTorch does."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, running: tuple[Tensor, Tensor, float], eps: float, views: int
    ) -> Tensor:
        running_mean, running_var, momentum = running
        normalised, *statistics = zip(
            *(
                torch.native_batch_norm(view, weight, bias, running_mean, running_var, True, momentum, eps)
                for view in _rows(x, views)
            ),
            strict=True,
        )
        ctx.eps, ctx.views = eps, views
        ctx.save_for_backward(x, weight, *(each for part in statistics for each in part))
        return _joined(normalised, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *statistics = ctx.saved_tensors
        means, inverses = statistics[: ctx.views], statistics[ctx.views :]
        dx, dweight, dbias = zip(
            *(
                torch.ops.aten.native_batch_norm_backward(
                    view_grad, view, weight, None, None, mean, inverse, True, ctx.eps, [True, True, True]
                )
                for view_grad, view, mean, inverse in zip(
                    _rows(grad, ctx.views), _rows(x, ctx.views), means, inverses, strict=True
                )
            ),
            strict=True,
        )
        return _joined(dx, x), torch.stack(dweight).sum(dim=0), torch.stack(dbias).sum(dim=0), None, None, None


def _joined(views: Sequence[Tensor], x: Tensor) -> Tensor:
    """Return views, each (rows, channels), as one tensor in the shape of ``x``, in channels_last."""
    y = torch.empty_like(x, memory_format=torch.channels_last if x.dim() == 4 else torch.contiguous_format)
    torch.cat(list(views), out=_rows(y, 1)[0])
    return y
