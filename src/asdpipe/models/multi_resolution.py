"""The multi-resolution feature extractor (paper §3.1).

Three branches embed the same clip: one the magnitude spectrum (DFT branch), two the magnitude spectrogram with a long
and a short window (STFT branches). No convolution or linear layer has a bias.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.models.base import FeatureExtractor, PositiveInt
from asdpipe.models.batch_norm import BatchNorm
from asdpipe.models.branches import embed_side_by_side
from asdpipe.models.strided_conv import StemConv, StridedConv1d, trains_on_cpu

Sizes = Annotated[Sequence[PositiveInt], Field(max_length=16)]


class SqueezeExcite(nn.Module):
    """Rescale channels by a gate computed from their means (squeeze ratio 16, no bias).

    Input and output: float (batch, channels, ...).
    """

    def __init__(self, channels: int, ratio: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // ratio)
        self.down = nn.Linear(channels, hidden, bias=False)
        self.up = nn.Linear(hidden, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
            # The gradient of a mean over the last two dimensions would have the other memory format.
            mean = x.permute(0, 2, 3, 1).flatten(1, 2).mean(dim=1)
        elif x.dim() == 3 and x.stride(1) == 1:
            mean = x.transpose(1, 2).mean(dim=1)
        else:
            mean = x.flatten(2).mean(dim=2)
        gate = torch.sigmoid(self.up(F.relu(self.down(mean))))
        return x * gate.reshape(gate.shape + (1,) * (x.dim() - 2))


class DFTBranch(nn.Module):
    """Embed the magnitude spectrum of the whole signal with three strided 1-D convolutions and six linear layers.

    Input: float (batch, samples), or its spectrum, float (batch, samples // 2 + 1). Output: float (batch, width).

    Args:
        num_samples: length of the signals, which determines the size of the first linear layer.
        width: channels of every layer and embedding size (paper: 128).
        kernels, strides: of the three convolutions (paper: 256/64/16 and 64/32/4).

    Raises:
        ValueError: the signal is too short for the convolutions.
    """

    def __init__(self, num_samples: int, width: int, kernels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        length = dft_output_length(num_samples, kernels, strides)
        if length < 1:
            message = (
                f"a signal of {num_samples} samples is too short for DFT kernels {list(kernels)} "
                f"with strides {list(strides)}"
            )
            raise ValueError(message)
        convolutions: list[nn.Module] = []
        channels = 1
        for kernel, stride in zip(kernels, strides, strict=True):
            convolutions += [
                StridedConv1d(channels, width, kernel, stride),
                nn.ReLU(),
                SqueezeExcite(width),
            ]
            channels = width
        self.convolutions = nn.Sequential(*convolutions)
        linears: list[nn.Module] = []
        features = width * length
        for _ in range(5):
            linears += [nn.Linear(features, width, bias=False), BatchNorm(width), nn.ReLU(inplace=True)]
            features = width
        self.linears = nn.Sequential(*linears, nn.Linear(width, width, bias=False))

    def forward(self, x: Tensor, spectrum: Tensor | None = None) -> Tensor:
        if spectrum is None:
            spectrum = magnitude(torch.fft.rfft(x))
        return self.linears(self.convolutions(spectrum.unsqueeze(1)).flatten(1))


def magnitude(spectrum: Tensor) -> Tensor:
    """Return the magnitude of a complex tensor; several times as fast as ``abs`` on a CPU."""
    return torch.sqrt(spectrum.real.square() + spectrum.imag.square())


def dft_output_length(num_samples: int, kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Return the output length of the convolutions of the DFT branch; below 1 the signal is too short."""
    length = num_samples // 2 + 1
    for kernel, stride in zip(kernels, strides, strict=True):
        length = (length - kernel) // stride + 1
    return length


class ResidualBlock(nn.Module):
    """Pre-activation residual block with squeeze-and-excitation; ``stride`` 2 halves both axes.

    Input: float (batch, in_channels, time, frequency). Output: float (batch, out_channels, time', frequency').
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.norm = BatchNorm(in_channels)
        self.branch = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            BatchNorm(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            SqueezeExcite(out_channels),
        )
        self.skip: nn.Module = nn.Identity()
        if stride > 1:
            self.skip = nn.Sequential(
                nn.MaxPool2d(3, stride, padding=1), nn.Conv2d(in_channels, out_channels, 1, bias=False)
            )

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return self.branch(x).add_(self.skip(x))


class STFTBranch(nn.Module):
    """Embed a magnitude spectrogram with a small residual network, max-pooled over time.

    Input: float (batch, samples) at 16 kHz. Output: float (batch, width).

    Args:
        num_samples: length of the signals.
        window: STFT window in samples (Hann, hop half a window, centred, reflect padding, divided by its rms norm).
        width: channels of the last group and embedding size (paper: 128).
        f_min: lowest frequency kept, in Hz.

    Raises:
        ValueError: the signal has too few frames for the convolutions.
    """

    window: Tensor

    def __init__(self, num_samples: int, window: int, width: int, f_min: float) -> None:
        super().__init__()
        self.size = window
        self.first_bin = first_bin(window, f_min)
        bins = window // 2 + 1 - self.first_bin
        frames = num_samples // (window // 2) + 1
        if stft_output_length(frames) < 1 or stft_output_length(bins) < 1 or num_samples <= window // 2:
            message = (
                f"a signal of {num_samples} samples has too few STFT frames ({frames}) or bins ({bins}) "
                f"for a window of {window} samples"
            )
            raise ValueError(message)
        # On the CPU even under the meta device, where it would import torch._dynamo, which takes a second.
        hann = torch.hann_window(window, device="cpu")
        self.register_buffer("window", hann / hann.square().sum().sqrt(), persistent=False)
        self.frequency_norm = BatchNorm(bins)
        channels = [width // 8, width // 4, width // 2, width]
        # ReLU and max-pooling commute; after pooling, ReLU has a quarter of the values.
        self.stem = nn.Sequential(
            StemConv(channels[0]),
            BatchNorm(channels[0]),
            nn.MaxPool2d(3, 2),
            nn.ReLU(inplace=True),
        )
        blocks: list[nn.Module] = []
        previous = channels[0]
        for group, out in enumerate(channels):
            blocks += [ResidualBlock(previous, out, 1 if group == 0 else 2), ResidualBlock(out, out, 1)]
            previous = out
        self.blocks = nn.Sequential(*blocks)
        features = width * stft_output_length(bins)
        self.head = nn.Sequential(BatchNorm(features), nn.Linear(features, width, bias=False))

    def spectrogram(self, x: Tensor) -> Tensor:
        """Return the magnitude spectrogram, float (batch, frames, bins ≥ f_min)."""
        stft = torch.stft(x, self.size, self.size // 2, window=self.window, pad_mode="reflect", return_complex=True)
        # torch.stft returns a transposed view; this is its order in memory.
        return magnitude(stft.transpose(1, 2)[..., self.first_bin :])

    def forward(self, x: Tensor) -> Tensor:
        x = self.spectrogram(x)
        # These strides put all following layers into channels_last, which is faster from width 32 on.
        x = self.frequency_norm(x.flatten(0, 1)).view_as(x).unsqueeze(3).permute(0, 3, 1, 2)
        x = self.blocks(self.stem(x))
        return self.head(x.amax(dim=2).flatten(1))


def first_bin(window: int, f_min: float) -> int:
    """Return the index of the first STFT bin at or above ``f_min`` Hz for a window of ``window`` samples."""
    return int(-(-f_min * window // SAMPLE_RATE))


def stft_output_length(size: int) -> int:
    """Return the size of one axis (frames or bins) after stem and residual groups; below 1 it is too small."""
    size = (size - 7) // 2 + 1
    size = (size - 3) // 2 + 1
    for _ in range(3):
        size = (size - 1) // 2 + 1
    return size


class MultiResolutionNetwork(FeatureExtractor):
    """The feature extractor of the paper: DFT branch and one STFT branch per window (§3.1, "Ba").

    Input: float (batch, num_samples) in [-1, 1) at 16 kHz. Output: float (batch, branches, width); flattened over
    the last two axes it is z_cat = [z_DFT, z_4096, z_128], 384-dimensional in the paper.
    """

    takes_spectrum = True
    takes_views = True

    def __init__(
        self,
        num_samples: PositiveInt,
        width: Annotated[int, Field(ge=8)] = 128,
        windows: Annotated[Sequence[Annotated[int, Field(ge=32)]], Field(max_length=16)] = (4096, 128),
        f_min: Annotated[float, Field(ge=0, lt=SAMPLE_RATE / 2)] = 200.0,
        dft_kernels: Sizes = (256, 64, 16),
        dft_strides: Sizes = (64, 32, 4),
    ) -> None:
        super().__init__()
        self.num_samples = num_samples
        self.embedding_shape = (1 + len(windows), width)
        self.branches = nn.ModuleList(
            [
                DFTBranch(num_samples, width, dft_kernels, dft_strides),
                *(STFTBranch(num_samples, window, width, f_min) for window in windows),
            ]
        )

    def forward(self, x: Tensor, spectrum: Tensor | None = None) -> Tensor:
        dft, *stft = self.branches
        branches = [partial(dft, x, spectrum), *(partial(branch, x) for branch in stft)]
        parameter = next(self.parameters())
        trains = self.training and parameter.requires_grad and trains_on_cpu(x)
        if trains and stft and torch.get_num_threads() > 1 and not torch.compiler.is_compiling():
            return embed_side_by_side(branches, parameter)
        return torch.stack([branch() for branch in branches], dim=1)
