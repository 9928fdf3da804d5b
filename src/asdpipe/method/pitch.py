"""Pitch shift of the triplet's negatives (paper eq. 9): phase vocoder, then a resample by a small rational ratio.

torchaudio's own pitch_shift resamples between two rates that are coprime for most semitones and builds filter banks of
gigabytes; a ratio such as 70/99 (+6 semitones, 0.09 cents off) needs 70 short filters. The phase vocoder is that of
torchaudio, its magnitudes and phase steps computed once for all shifts of a batch (a test compares the two).
"""

import functools
import math
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from asdpipe.method.network import magnitude

WINDOW = 512
HOP = 128
MAX_CENTS_OFF = 0.25
# Zero crossings on each side of the windowed sinc, and the share of the band it keeps.
LOWPASS_WIDTH = 6
ROLLOFF = 0.99


@functools.cache
def shift_ratio(semitones: int) -> Fraction:
    """Return the simplest ratio old rate / new rate = 2^(-semitones/12) within 0.25 cents."""
    exact = 2.0 ** (-semitones / 12)
    denominator = 1
    while True:
        ratio = Fraction(round(exact * denominator), denominator)
        if ratio > 0 and abs(cents(float(ratio) / exact)) <= MAX_CENTS_OFF:
            return ratio
        denominator += 1


def cents(ratio: float) -> float:
    """Return a frequency ratio in cents."""
    return 1200 * math.log2(ratio)


class Polar(NamedTuple):
    """A complex STFT taken apart for the phase vocoder; all (batch, bins, frames)."""

    magnitude: Tensor
    first_phase: Tensor
    """Phase of the first frame, (batch, bins, 1)."""
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
        rows = (semitones == value).nonzero().squeeze(1).to(x.device)
        ratio = shift_ratio(value)
        stretched = stretch(polar.rows(rows), float(ratio))
        slow = torch.istft(stretched, WINDOW, HOP, window=window, length=round(x.shape[1] / ratio))
        shifted[rows] = fit(resample(slow, ratio), x.shape[1])
    return shifted


def analyse(x: Tensor, window: Tensor) -> Polar:
    """Return magnitudes and phase steps of the STFT of waveforms (batch, samples)."""
    spectrum = torch.stft(x, WINDOW, HOP, window=window, pad_mode="reflect", return_complex=True)
    phase = spectrum.angle()
    # After the last frame comes silence, as torchaudio pads it.
    step = torch.cat([phase[..., 1:], torch.zeros_like(phase[..., :1])], dim=-1) - phase
    # Whole turns do not matter, but would cost precision when the steps are summed.
    step = step - 2 * math.pi * torch.round(step / (2 * math.pi))
    return Polar(magnitude(spectrum), phase[..., :1], step)


def stretch(polar: Polar, rate: float) -> Tensor:
    """Return the complex STFT of the clips played ``rate`` times as fast at the same pitch (phase vocoder)."""
    times = torch.arange(0, polar.step.shape[-1], rate, dtype=polar.step.dtype, device=polar.step.device)
    frame, fraction = times.long(), times % 1.0
    following = F.pad(polar.magnitude, (0, 1)).index_select(-1, frame + 1)
    magnitude = torch.lerp(polar.magnitude.index_select(-1, frame), following, fraction)
    phase = torch.cat([polar.first_phase, polar.step.index_select(-1, frame[:-1])], dim=-1).cumsum(dim=-1)
    return torch.polar(magnitude, phase)


def fit(x: Tensor, num_samples: int) -> Tensor:
    """Return waveforms (batch, samples) cut or zero-padded to ``num_samples``."""
    return F.pad(x, (0, max(0, num_samples - x.shape[1])))[:, :num_samples]


def resample(x: Tensor, ratio: Fraction) -> Tensor:
    """Resample waveforms (batch, samples) to ``ratio`` times as many samples with a windowed sinc."""
    new, old = ratio.numerator, ratio.denominator
    kernels, width = _kernels(new, old, x.device, x.dtype)
    padded = F.pad(x, (width, width + old))
    phases = F.conv1d(padded.unsqueeze(1), kernels, stride=old)
    return phases.transpose(1, 2).flatten(1)[:, : math.ceil(x.shape[1] * ratio)]


@functools.lru_cache(maxsize=64)
def _kernels(new: int, old: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, int]:
    """Return one filter per output phase, (new, 1, taps), and the samples it reaches back."""
    cutoff = min(new, old) * ROLLOFF
    width = math.ceil(LOWPASS_WIDTH * old / cutoff)
    samples = torch.arange(-width, width + old, dtype=torch.float64) / old
    phases = torch.arange(new, dtype=torch.float64)[:, None] / new
    t = ((samples - phases) * cutoff).clamp(-LOWPASS_WIDTH, LOWPASS_WIDTH)
    window = torch.cos(t * math.pi / LOWPASS_WIDTH / 2) ** 2
    return (torch.sinc(t) * window * cutoff / old).unsqueeze(1).to(device, dtype), width
