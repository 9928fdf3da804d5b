"""Pitch shift of the triplet's negatives (paper eq. 9): a phase vocoder, then resampling back to the old length.

The result is torchaudio's pitch_shift, to rounding. torchaudio resamples between two rates that are coprime for most
semitones, with a bank of one dense filter per output phase: up to 8 GB. Only 13 to 25 taps of each filter are not
zero; these are applied one tap at a time. In the phase vocoder magnitudes and phase steps are computed once for all
shifts of a batch.
"""

import functools
import math
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from asdpipe.method.network import SAMPLE_RATE, magnitude

WINDOW = 512
HOP = 128
# Zero crossings on each side of the windowed sinc, and the share of the band it keeps.
LOWPASS_WIDTH = 6
ROLLOFF = 0.99


def stretch_rate(semitones: int) -> float:
    """Return how many times as fast the clip is played before it is resampled: 2^(-semitones/12)."""
    return 2.0 ** (-semitones / 12)


def resampling_ratio(semitones: int) -> Fraction:
    """Return new over old sampling rate: the old one is whole, as in torchaudio (at most 0.14 cents off for ±12)."""
    return Fraction(SAMPLE_RATE, int(SAMPLE_RATE / stretch_rate(semitones)))


class Polar(NamedTuple):
    """A complex STFT taken apart for the phase vocoder; all (batch, frames, bins)."""

    magnitude: Tensor
    first_phase: Tensor
    """Phase of the first frame, (batch, 1, bins)."""
    step: Tensor
    """Phase from each frame to the next, within half a turn."""

    def rows(self, index: Tensor) -> "Polar":
        """Return some clips of the batch."""
        return Polar(self.magnitude[index], self.first_phase[index], self.step[index])


def pitch_shift(x: Tensor, semitones: Tensor) -> Tensor:
    """Shift the pitch of every clip by its own number of semitones and keep its length.

    Args:
        x: waveforms (batch, samples), float32.
        semitones: whole numbers, int (batch,) on the CPU.
    """
    window = torch.hann_window(WINDOW, dtype=x.dtype, device=x.device)
    polar = analyse(x, window)
    shifted = torch.empty_like(x)
    for value in semitones.unique().tolist():
        rows = (semitones == value).nonzero().squeeze(1).to(x.device, non_blocking=True)
        rate = stretch_rate(value)
        stretched = stretch(polar.rows(rows), rate)
        slow = synthesise(stretched, window, round(x.shape[1] / rate))
        shifted[rows] = resample(slow, resampling_ratio(value), x.shape[1])
    return shifted


def analyse(x: Tensor, window: Tensor) -> Polar:
    """Return magnitudes and phase steps of the STFT of waveforms (batch, samples)."""
    spectrum = torch.stft(x, WINDOW, HOP, window=window, pad_mode="reflect", return_complex=True).transpose(1, 2)
    phase = spectrum.angle()
    # After the last frame comes silence, as torchaudio pads it.
    step = torch.cat([phase[:, 1:], torch.zeros_like(phase[:, :1])], dim=1).sub_(phase)
    # Whole turns do not matter, but would cost precision when the steps are summed.
    step -= (step / (2 * math.pi)).round_().mul_(2 * math.pi)
    return Polar(magnitude(spectrum), phase[:, :1], step)


def stretch(polar: Polar, rate: float) -> Tensor:
    """Return the complex STFT, (batch, frames, bins), of the clips played ``rate`` times as fast (phase vocoder)."""
    times = torch.arange(0, polar.step.shape[1], rate, dtype=polar.step.dtype, device=polar.step.device)
    frame, fraction = times.long(), (times % 1.0)[:, None]
    following = F.pad(polar.magnitude, (0, 0, 0, 1)).index_select(1, frame + 1)
    magnitude = torch.lerp(polar.magnitude.index_select(1, frame), following, fraction)
    phase = torch.cat([polar.first_phase, polar.step.index_select(1, frame[:-1])], dim=1)
    phase = phase.cumsum(dim=1)
    # Faster than torch.polar, which is not vectorised.
    return torch.complex(phase.cos().mul_(magnitude), phase.sin_().mul_(magnitude))


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
    new, old = ratio.numerator, ratio.denominator
    filters = _filters(new, old, min(new, num_samples), x.device, x.dtype)
    phases = len(filters.first)
    blocks = -(-num_samples // phases)
    start = (torch.arange(blocks, device=x.device)[:, None] * old + filters.first).flatten()
    x = fit(F.pad(x, (filters.reach, 0)), (blocks - 1) * old + filters.end)
    resampled = x.new_zeros(len(x), blocks, phases)
    for number, tap in enumerate(filters.taps):
        resampled.addcmul_(x.index_select(1, start + number).unflatten(1, (blocks, phases)), tap)
    return resampled.flatten(1)[:, :num_samples]


class Filters(NamedTuple):
    """Windowed sincs for the phases of the output samples; the input starts ``reach`` samples before its first."""

    first: Tensor
    """Input sample that each filter starts at, int64 (phases,)."""
    taps: Tensor
    """(taps, phases)."""
    reach: int
    end: int
    """Number of input samples that the filters need."""


@functools.lru_cache(maxsize=64)
def _filters(new: int, old: int, phases: int, device: torch.device, dtype: torch.dtype) -> Filters:
    cutoff = min(new, old) * ROLLOFF / old
    width = LOWPASS_WIDTH / cutoff
    position = torch.arange(phases, dtype=torch.float64) * old / new
    first = (position - width).ceil().long()
    t = (first + torch.arange(int(2 * width) + 1)[:, None] - position) * cutoff
    t = t.clamp(-LOWPASS_WIDTH, LOWPASS_WIDTH)
    taps = torch.sinc(t) * torch.cos(t * math.pi / LOWPASS_WIDTH / 2) ** 2 * cutoff
    reach = -int(first[0])
    # Plain numbers, taken here once: on a GPU reading one of a tensor waits for all work before it.
    return Filters((first + reach).to(device), taps.to(device, dtype), reach, int(first[-1]) + reach + len(taps))
