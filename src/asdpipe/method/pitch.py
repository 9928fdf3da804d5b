"""Pitch shift for the negatives of the triplet loss (paper eq. 9): phase vocoder, then resampling.

The result equals torchaudio's pitch_shift up to rounding. torchaudio resamples with a bank of one dense filter per
output phase. The two rates are coprime for most semitones, so its bank takes up to 8 GB. Only 13 to 25 taps of each
filter are non-zero, and only these are used here. Magnitudes and phase steps of the phase vocoder are computed once for
all shifts of a batch.
"""

import functools
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from asdpipe.data.audio import SAMPLE_RATE

WINDOW = 512
HOP = 128
# Zero crossings on each side of the windowed sinc, and cutoff as a share of the Nyquist frequency.
LOWPASS_WIDTH = 6
ROLLOFF = 0.99
# Frames of the phase vocoder that are summed in one block.
SUM_BLOCK = 16
# Output samples of a block, at least one period of the filters; and float32 values per vector register.
BLOCK, VECTOR = 4096, 8


def stretch_rate(semitones: int) -> float:
    """Return the speed-up of the phase vocoder, before resampling: 2^(-semitones/12)."""
    return 2.0 ** (-semitones / 12)


def resampling_ratio(semitones: int) -> Fraction:
    """Return new rate / old rate; the old rate is rounded down as in torchaudio (up to 0.14 cents off within ±12)."""
    return Fraction(SAMPLE_RATE, int(SAMPLE_RATE / stretch_rate(semitones)))


class Polar(NamedTuple):
    """Magnitudes and phase steps of an STFT, for the phase vocoder; all (batch, frames, bins)."""

    magnitude: Tensor
    growth: Tensor
    """Magnitude of the next frame minus that of this one."""
    first_phase: Tensor
    """Phase of the first frame, (batch, 1, bins)."""
    step: Tensor
    """Phase difference from each frame to the next, wrapped to [-pi, pi]."""

    def split(self, counts: list[int]) -> Iterator["Polar"]:
        """Return views of consecutive clips, ``counts[i]`` clips in the i-th."""
        return map(Polar, *(tensor.split(counts) for tensor in self))


def pitch_shift(x: Tensor, semitones: Tensor) -> Tensor:
    """Shift the pitch of every clip by its own number of semitones, keeping its length (eq. 9).

    Args:
        x: waveforms (batch, samples), float32.
        semitones: whole numbers, int (batch,) on the CPU.
    """
    # After sorting by shift, the clips of one shift are a slice.
    order = semitones.argsort(stable=True)
    values, counts = semitones.unique(return_counts=True)
    window = torch.hann_window(WINDOW, dtype=x.dtype, device=x.device)
    polar = analyse(x[order.to(x.device, non_blocking=True)], window)
    shifted = []
    for value, rows in zip(values.tolist(), polar.split(counts.tolist()), strict=True):
        rate = stretch_rate(value)
        slow = synthesise(stretch(rows, rate), window, round(x.shape[1] / rate))
        shifted.append(resample(slow, resampling_ratio(value), x.shape[1]))
    return torch.cat(shifted)[order.argsort().to(x.device, non_blocking=True)]


def analyse(x: Tensor, window: Tensor) -> Polar:
    """Return magnitudes and phase steps of the STFT of waveforms (batch, samples)."""
    spectrum = torch.stft(x, WINDOW, HOP, window=window, pad_mode="reflect", return_complex=True).transpose(1, 2)
    # On the interleaved parts of a complex tensor the following operations would take twice the time.
    real, imaginary = torch.view_as_real(spectrum).movedim(-1, 0).contiguous()
    phase = torch.atan2(imaginary, real)
    step = _differences(phase)
    # Wrap the phase: full turns change nothing, but cost precision when steps are summed.
    step -= (step / (2 * math.pi)).round_().mul_(2 * math.pi)
    magnitude = real.square_().add_(imaginary.square_()).sqrt_()
    return Polar(magnitude, _differences(magnitude), phase[:, :1], step)


def _differences(x: Tensor) -> Tensor:
    """Return the next frame minus this one, (batch, frames, bins); zeros follow the last frame, as in torchaudio."""
    differences = torch.empty_like(x)
    torch.sub(x[:, 1:], x[:, :-1], out=differences[:, :-1])
    torch.neg(x[:, -1], out=differences[:, -1])
    return differences


def stretch(polar: Polar, rate: float) -> Tensor:
    """Return the complex STFT (batch, frames, bins) at ``rate`` times the speed (phase vocoder)."""
    times = torch.arange(0, polar.step.shape[1], rate, dtype=polar.step.dtype, device=polar.step.device)
    frame, fraction = times.long(), (times % 1.0)[:, None]
    magnitude = polar.growth.index_select(1, frame).mul_(fraction).add_(polar.magnitude.index_select(1, frame))
    phase = cumulative_sum(torch.cat([polar.first_phase, polar.step.index_select(1, frame[:-1])], dim=1))
    # torch.polar is slower, because it is not vectorised.
    return torch.complex(phase.cos().mul_(magnitude), phase.sin_().mul_(magnitude))


def cumulative_sum(x: Tensor) -> Tensor:
    """Return the cumulative sum over frames of (batch, frames, bins), faster than torch.cumsum(dim=1)."""
    blocks = F.pad(x, (0, 0, 0, -x.shape[1] % SUM_BLOCK)).unflatten(1, (-1, SUM_BLOCK))
    for frame in range(1, SUM_BLOCK):
        blocks[:, :, frame] += blocks[:, :, frame - 1]
    blocks[:, 1:] += blocks[:, :-1, -1:].cumsum(dim=1)
    return blocks.flatten(1, 2)[:, : x.shape[1]]


def synthesise(spectrum: Tensor, window: Tensor, num_samples: int) -> Tensor:
    """Return the waveforms (batch, num_samples) of complex STFTs (batch, frames, bins).

    Equals torch.istft, which checks its result and so syncs with the GPU.
    """
    frames = torch.fft.irfft(spectrum, n=WINDOW) * window
    total = _overlap_add(frames)
    weight = _overlap_add(window.square().expand(1, frames.shape[1], WINDOW))
    start = WINDOW // 2
    return _cut_or_pad(total[:, start:] / weight[:, start:], num_samples)


def _overlap_add(frames: Tensor) -> Tensor:
    """Overlap-add frames (batch, frames, WINDOW) that start HOP samples apart; return (batch, samples)."""
    parts = frames.unflatten(2, (-1, HOP))
    count, overlap = parts.shape[1:3]
    total = frames.new_zeros(len(frames), count + overlap - 1, HOP)
    for part in range(overlap):
        total[:, part : part + count] += parts[:, :, part]
    return total.flatten(1)


def _cut_or_pad(x: Tensor, num_samples: int) -> Tensor:
    """Return waveforms (batch, samples) cut or zero-padded to ``num_samples``."""
    return F.pad(x, (0, max(0, num_samples - x.shape[1])))[:, :num_samples]


def resample(x: Tensor, ratio: Fraction, num_samples: int) -> Tensor:
    """Resample waveforms (batch, samples) by ``ratio`` with a windowed sinc; return the first ``num_samples``."""
    filters = _filters(ratio.numerator, ratio.denominator, num_samples, x.device, x.dtype)
    blocks = -(-num_samples // len(filters.inputs))
    x = _cut_or_pad(F.pad(x, (filters.reach, 0)), (blocks - 1) * filters.period + filters.end)
    # Output sample i of every block is a sum of the same input samples with the same weights: an embedding bag.
    columns = x.unfold(1, filters.end, filters.period).permute(2, 0, 1).flatten(1)
    columns = F.pad(columns, (0, -columns.shape[1] % VECTOR))
    resampled = F.embedding_bag(filters.inputs, columns, per_sample_weights=filters.taps, mode="sum")
    return resampled[:, : len(x) * blocks].unflatten(1, (-1, blocks)).permute(1, 2, 0).flatten(1)[:, :num_samples]


class Filters(NamedTuple):
    """Windowed sinc filters for one block of output samples."""

    inputs: Tensor
    """Input samples of each filter, int32 (output samples, taps)."""
    taps: Tensor
    """Weights, (output samples, taps)."""
    period: int
    """Number of input samples from one block to the next."""
    reach: int
    """Number of input samples before its start that a block reads."""
    end: int
    """Number of input samples that a block reads in all."""


@functools.lru_cache(maxsize=64)
def _filters(new: int, old: int, num_samples: int, device: torch.device, dtype: torch.dtype) -> Filters:
    cutoff = min(new, old) * ROLLOFF / old
    width = LOWPASS_WIDTH / cutoff
    periods = max(1, BLOCK // new)
    position = torch.arange(min(periods * new, num_samples), dtype=torch.float64) * old / new
    first = (position - width).ceil().long()
    index = first[:, None] + torch.arange(int(2 * width) + 1)
    t = ((index - position[:, None]) * cutoff).clamp(-LOWPASS_WIDTH, LOWPASS_WIDTH)
    taps = torch.sinc(t) * torch.cos(t * math.pi / LOWPASS_WIDTH / 2) ** 2 * cutoff
    # Cached as Python numbers, because reading them from a GPU tensor would be a device sync.
    reach, end = -int(first[0]), int(index[-1, -1]) + 1
    return Filters((index + reach).int().to(device), taps.to(device, dtype), periods * old, reach, reach + end)
