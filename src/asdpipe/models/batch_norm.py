"""Batch normalisation that is accurate on a CPU for channels of millions of values."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# The error of PyTorch grows with the number of rows; up to this many the variance is accurate to 1e-6.
MIN_ROWS = 8192
# Number of partial sums; each has at most rows * channels / 4096 terms.
LANES = 4096


class BatchNorm(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` that also takes (rows, channels), with accurate float32 batch statistics on a CPU.

    For channels_last tensors, PyTorch adds up the rows one by one in float32. Over six million rows its batch variance
    is off by 4e-3, and with fewer than 16 channels its loops are not vectorised. In training, such float32 tensors take
    another path (``_Normalise``), accurate to 1e-6 at any size and up to ten times as fast. All else (evaluation, GPUs,
    bfloat16, ``torch.compile``, channels-first tensors) is left to PyTorch.

    Input and output: float (rows, channels) or (batch, channels, height, width).
    """

    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 (PyTorch's name)
        pass

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every channel, in training with the mean and variance of the batch."""
        if not self.training or torch.compiler.is_compiling() or not _sums_row_by_row(x):
            return super().forward(x)
        mean, var = _moments(x.detach())
        rows = x.numel() // x.shape[1]
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.float(), self.momentum)
            self.running_var.lerp_((var * rows / (rows - 1)).float(), self.momentum)
        normalised: Tensor = _Normalise.apply(x, self.weight, self.bias, mean, var, self.eps)
        return normalised


def _sums_row_by_row(x: Tensor) -> bool:
    """Return whether PyTorch would add up many rows of ``x`` one by one in float32."""
    if x.dim() == 2:
        channels_last = x.is_contiguous()
    else:
        channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    many = x.numel() > MIN_ROWS * x.shape[1]
    return many and channels_last and x.dtype == torch.float32 and x.device.type == "cpu"


def _wide(x: Tensor) -> list[Tensor]:
    """Return views of ``x``: (rows, k * channels) with k rows side by side, and one row with the remaining ones."""
    rows = (x if x.dim() == 2 else x.permute(0, 2, 3, 1)).flatten(0, -2)
    count, channels = rows.shape
    side_by_side = max(1, LANES // channels)
    whole = count - count % side_by_side
    views = [rows[:whole].view(-1, side_by_side * channels)]
    return views if whole == count else [*views, rows[whole:].view(1, -1)]


def _fold(wide: Tensor, channels: int) -> Tensor:
    """Reshape values (k * channels,) to float64 (k, channels)."""
    return wide.double().view(-1, channels)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of every channel, both float64 (channels,)."""
    channels = x.shape[1]
    mean, var, size = [], [], []
    for part in _wide(x):
        part_mean, part_var = (
            _fold(moment, channels) for moment in torch.batch_norm_update_stats(part, None, None, 0.0)
        )
        mean.append(part_mean)
        var.append(part_var)
        size.append(torch.full((len(part_mean), 1), float(len(part)), dtype=torch.float64))
    means, share = torch.cat(mean), torch.cat(size) * channels / x.numel()
    total = (share * means).sum(dim=0)
    return total, (share * (torch.cat(var) + (means - total).square())).sum(dim=0)


class _Normalise(torch.autograd.Function):
    """Normalise a batch by its mean and variance, computed by the caller; gradients flow through both."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps = eps
        gain = weight * (var + eps).rsqrt()
        y = torch.empty_like(x)
        for out, part in zip(_wide(y), _wide(x), strict=True):
            k = part.shape[1] // len(mean)
            torch.addcmul((bias - mean * gain).float().repeat(k), part, gain.float().repeat(k), out=out)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        channels, rows = len(mean), x.numel() // len(mean)
        grad = grad.contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.contiguous_format)
        dweight, dbias = torch.zeros_like(mean), torch.zeros_like(mean)
        for part, grad_part in zip(_wide(x), _wide(grad), strict=True):
            k = part.shape[1] // channels
            # With fixed statistics: sums of grad * normalised x, and of grad.
            _, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
                grad_part, part, None, mean.float().repeat(k), var.float().repeat(k), None, None,
                False, ctx.eps, [False, True, True],
            )  # fmt: skip
            dweight += _fold(by_weight, channels).sum(dim=0)
            dbias += _fold(by_bias, channels).sum(dim=0)
        # dx = gain * (grad - mean(grad) - normalised x * mean(grad * normalised x)), computed as
        # gain * grad + x_factor * x + constant.
        scale = (var + ctx.eps).rsqrt()
        gain = weight * scale
        x_factor = -gain * scale * dweight / rows
        constant = -gain * dbias / rows - x_factor * mean
        dx = torch.empty_like(x)
        for out, part, grad_part in zip(_wide(dx), _wide(x), _wide(grad), strict=True):
            k = part.shape[1] // channels
            torch.addcmul(constant.float().repeat(k), part, x_factor.float().repeat(k), out=out)
            out.addcmul_(grad_part, gain.float().repeat(k))
        return dx, dweight.float(), dbias.float(), None, None, None
