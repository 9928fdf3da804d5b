"""Pitch shift of the triplet's negatives (paper eq. 9): a phase vocoder, then resampling back to the old length.

The result is torchaudio's pitch_shift, to rounding. torchaudio resamples between two rates that are coprime for most
semitones, with a bank of one dense filter per output phase: up to 8 GB. Only 13 to 25 taps of each filter are not
zero, and only these are used. In the phase vocoder magnitudes and phase steps are computed once for all shifts of a
batch.
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
# Zero crossings on each side of the windowed sinc, and the share of the band it keeps.
LOWPASS_WIDTH = 6
ROLLOFF = 0.99
# Frames of the phase vocoder that are summed at once.
SUM_BLOCK = 16
# Output samples of a block, unless a period of the filters has more; and float32 numbers that fill a vector register.
BLOCK, VECTOR = 4096, 8


def stretch_rate(semitones: int) -> float:
    """Return how many times as fast the clip is played before it is resampled: 2^(-semitones/12)."""
    return 2.0 ** (-semitones / 12)


def resampling_ratio(semitones: int) -> Fraction:
    """Return new over old sampling rate: the old one is whole, as in torchaudio (at most 0.14 cents off for ±12)."""
    return Fraction(SAMPLE_RATE, int(SAMPLE_RATE / stretch_rate(semitones)))


class Polar(NamedTuple):
    """A complex STFT taken apart for the phase vocoder; all (batch, frames, bins)."""

    magnitude: Tensor
    growth: Tensor
    """Magnitude of the next frame less that of this one."""
    first_phase: Tensor
    """Phase of the first frame, (batch, 1, bins)."""
    step: Tensor
    """Phase from each frame to the next, within half a turn."""

    def split(self, counts: list[int]) -> Iterator["Polar"]:
        """Return views of so many clips each."""
        return map(Polar, *(each.split(counts) for each in self))


def pitch_shift(x: Tensor, semitones: Tensor) -> Tensor:
    """Shift the pitch of every clip by its own number of semitones and keep its length.

    Args:
        x: waveforms (batch, samples), float32.
        semitones: whole numbers, int (batch,) on the CPU.
    """
    # Sorted by shift, the clips of one shift are a slice.
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
    # Side by side in memory, as complex numbers lie, both would take twice the time.
    real, imaginary = torch.view_as_real(spectrum).movedim(-1, 0).contiguous()
    phase = torch.atan2(imaginary, real)
    step = _differences(phase)
    # Whole turns do not matter, but would cost precision when the steps are summed.
    step -= (step / (2 * math.pi)).round_().mul_(2 * math.pi)
    magnitude = real.square_().add_(imaginary.square_()).sqrt_()
    return Polar(magnitude, _differences(magnitude), phase[:, :1], step)


def _differences(x: Tensor) -> Tensor:
    """Return each frame's difference to the next, (batch, frames, bins); after the last comes silence (torchaudio)."""
    return F.pad(x[:, 1:], (0, 0, 0, 1)).sub_(x)


def stretch(polar: Polar, rate: float) -> Tensor:
    """Return the complex STFT, (batch, frames, bins), of the clips played ``rate`` times as fast (phase vocoder)."""
    times = torch.arange(0, polar.step.shape[1], rate, dtype=polar.step.dtype, device=polar.step.device)
    frame, fraction = times.long(), (times % 1.0)[:, None]
    magnitude = polar.growth.index_select(1, frame).mul_(fraction).add_(polar.magnitude.index_select(1, frame))
    phase = torch.cat([polar.first_phase, polar.step.index_select(1, frame[:-1])], dim=1)
    phase = cumulative_sum(phase)
    # Faster than torch.polar, which is not vectorised.
    return torch.complex(phase.cos().mul_(magnitude), phase.sin_().mul_(magnitude))


def cumulative_sum(x: Tensor) -> Tensor:
    """Return the sums over the frames, so far, of (batch, frames, bins): torch.cumsum(dim=1), which jumps in memory."""
    blocks = F.pad(x, (0, 0, 0, -x.shape[1] % SUM_BLOCK)).unflatten(1, (-1, SUM_BLOCK))
    for frame in range(1, SUM_BLOCK):
        blocks[:, :, frame] += blocks[:, :, frame - 1]
    blocks[:, 1:] += blocks[:, :-1, -1:].cumsum(dim=1)
    return blocks.flatten(1, 2)[:, : x.shape[1]]


def synthesise(spectrum: Tensor, window: Tensor, num_samples: int) -> Tensor:
    """Return the waveforms (batch, num_samples) of complex STFTs (batch, frames, bins): torch.istft.

    torch.istft looks at its result on a GPU and so waits for it.
    """
    frames = torch.fft.irfft(spectrum, n=WINDOW) * window
    total = _overlap_add(frames)
    weight = _overlap_add(window.square().expand(1, frames.shape[1], WINDOW))
    start = WINDOW // 2
    return fit(total[:, start:] / weight[:, start:], num_samples)


def _overlap_add(frames: Tensor) -> Tensor:
    """Return the sum of frames (batch, frames, WINDOW) that start HOP samples apart."""
    parts = frames.unflatten(2, (-1, HOP))
    count, overlap = parts.shape[1:3]
    total = frames.new_zeros(len(frames), count + overlap - 1, HOP)
    for part in range(overlap):
        total[:, part : part + count] += parts[:, :, part]
    return total.flatten(1)


def fit(x: Tensor, num_samples: int) -> Tensor:
    """Return waveforms (batch, samples) cut or zero-padded to ``num_samples``."""
    return F.pad(x, (0, max(0, num_samples - x.shape[1])))[:, :num_samples]


def resample(x: Tensor, ratio: Fraction, num_samples: int) -> Tensor:
    """Resample waveforms (batch, samples) by ``ratio`` with a windowed sinc; return the first ``num_samples``."""
    filters = _filters(ratio.numerator, ratio.denominator, num_samples, x.device, x.dtype)
    blocks = -(-num_samples // len(filters.inputs))
    x = fit(F.pad(x, (filters.reach, 0)), (blocks - 1) * filters.period + filters.end)
    # Output sample i of every block is a sum of the same rows with the same weights: an embedding bag.
    columns = x.unfold(1, filters.end, filters.period).permute(2, 0, 1).flatten(1)
    columns = F.pad(columns, (0, -columns.shape[1] % VECTOR))
    resampled = F.embedding_bag(filters.inputs, columns, per_sample_weights=filters.taps, mode="sum")
    return resampled[:, : len(x) * blocks].unflatten(1, (-1, blocks)).permute(1, 2, 0).flatten(1)[:, :num_samples]


class Filters(NamedTuple):
    """Windowed sincs for a block of output samples; its input starts ``reach`` samples before it."""

    inputs: Tensor
    """Input samples that each filter reads, int32 (output samples, taps)."""
    taps: Tensor
    """(output samples, taps)."""
    period: int
    """Number of input samples from one block to the next."""
    reach: int
    end: int
    """Number of input samples that a block needs."""


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
    # Plain numbers, taken here once: on a GPU reading one of a tensor waits for all work before it.
    reach, end = -int(first[0]), int(index[-1, -1]) + 1
    return Filters((index + reach).int().to(device), taps.to(device, dtype), periods * old, reach, reach + end)
