"""Strided convolutions whose gradients are fast on a CPU: the same layers, over blocks of as many values as the stride.

oneDNN's gradients of strided convolutions with few input channels take several times as long as their forward pass. In
blocks, the values of a block being channels, the stride is 1. Evaluation and GPUs use PyTorch's own layers.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# More blocks under a kernel would copy the input too often.
MAX_BLOCKS = 8


def trains_on_cpu(x: Tensor) -> bool:
    """Return whether gradients are asked for on a CPU."""
    return torch.is_grad_enabled() and x.device.type == "cpu"


def _dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which a convolution of ``x`` is computed on the CPU."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


class StridedConv1d(nn.Conv1d):
    """``nn.Conv1d`` without bias, padding and dilation; in training one matrix product of windows and weights.

    Input: float (batch, in_channels, length). Output: float (batch, out_channels, length'), in training with the
    channels last in memory.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, bias=False)
        self.blocks = -(-kernel // stride)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (PyTorch's name)
        """Return the convolution of the input."""
        if not self.training or self.blocks > MAX_BLOCKS or not trains_on_cpu(input):
            return super().forward(input)
        (kernel,), (stride,) = self.kernel_size, self.stride
        length = (input.shape[2] - kernel) // stride + 1
        # Where the stride does not divide the kernel, the last weights are 0.
        end = (length + self.blocks - 1) * stride
        x = input.to(_dtype(input)).transpose(1, 2)
        x = x[:, :end] if end <= x.shape[1] else F.pad(x, (0, 0, 0, end - x.shape[1]))
        x = x.reshape(len(x), -1, stride * x.shape[2])
        windows = torch.cat([x[:, block : block + length] for block in range(self.blocks)], dim=2)
        weight = F.pad(self.weight, (0, self.blocks * stride - kernel)).transpose(1, 2).flatten(1)
        return F.linear(windows, weight).transpose(1, 2)


class StemConv(nn.Conv2d):
    """``nn.Conv2d`` of one channel, kernel 7 and stride 2, without bias, padding and dilation; see the module.

    In training, the four values of a block of two by two are channels of a convolution with kernel 4 and stride 1. The
    copy of the input that this takes is made in the dtype of the convolution.

    Input: float (batch, 1, height, width). Output: float (batch, out_channels, height', width').
    """

    def __init__(self, out_channels: int) -> None:
        super().__init__(1, out_channels, 7, 2, bias=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (PyTorch's name)
        """Return the convolution of the input."""
        if not self.training or not trains_on_cpu(input):
            return super().forward(input)
        blocks: Tensor = _Blocks.apply(input.squeeze(1), _dtype(input))
        # The eighth weight of each row and column is 0: (channels, row, row in block, column, column in block).
        weight = F.pad(self.weight, (0, 1, 0, 1)).view(-1, 4, 2, 4, 2)
        return F.conv2d(blocks.permute(0, 3, 1, 2), weight.permute(0, 2, 4, 1, 3).flatten(1, 2))


class _Blocks(torch.autograd.Function):
    """Cut (batch, height, width) into blocks of two by two, zeros at the end: (batch, height', width', 4)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.shape, ctx.dtype = x.shape, x.dtype
        batch, height, width = x.shape
        blocks = torch.empty(batch, -(-height // 2), -(-width // 2), 4, dtype=dtype)
        blocks[:, -1] = 0
        blocks[:, :, -1] = 0
        for part, of_x in _parts(blocks, x):
            part.copy_(of_x)
        return blocks

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        dx = torch.empty(ctx.shape, dtype=ctx.dtype)
        for part, of_dx in _parts(grad, dx):
            of_dx.copy_(part)
        return dx, None


def _parts(blocks: Tensor, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return for each of the four places in a block its values in the blocks and in ``x``, both views."""
    views = [(2 * row + column, x[:, row::2, column::2]) for row in (0, 1) for column in (0, 1)]
    return [(blocks[:, : view.shape[1], : view.shape[2], place], view) for place, view in views]
