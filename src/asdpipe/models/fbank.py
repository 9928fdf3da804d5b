"""Kaldi's log-mel filter bank, the input of published audio Transformers, for batches of clips."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.compliance.kaldi import get_mel_banks

from asdpipe.data.audio import SAMPLE_RATE

BANDS = 128
LENGTH = SAMPLE_RATE * 25 // 1000
HOP = SAMPLE_RATE * 10 // 1000
FFT = 512
LOWEST_HZ = 20.0
PREEMPHASIS = 0.97


class Fbank(nn.Module):
    """Natural logarithm of the energies of 128 mel bands, in frames of 25 ms every 10 ms that lie within the clip.

    As Kaldi's compute-fbank-feats without dither: every frame loses its mean, is pre-emphasised (0.97) and windowed;
    the triangles reach from 20 Hz to 8 kHz on the HTK mel scale. Energies below the float32 epsilon, 1.2e-7, are raised
    to it. Computed in float32 also under autocast.

    Input: float (batch, samples) at 16 kHz, at least 400 samples. Output: float32 (batch, frames, 128).

    Args:
        window: "povey" (Kaldi's default, a Hann window to the power of 0.85) or "hann".
    """

    window: Tensor
    filters: Tensor

    def __init__(self, window: Literal["povey", "hann"] = "povey") -> None:
        super().__init__()
        # On the CPU even under the meta device, because torchaudio computes with the values.
        with torch.device("cpu"):
            hann = torch.hann_window(LENGTH, periodic=False)
            filters, _ = get_mel_banks(BANDS, FFT, SAMPLE_RATE, LOWEST_HZ, SAMPLE_RATE / 2, 100.0, -500.0, 1.0)
        self.register_buffer("window", hann.pow(0.85) if window == "povey" else hann, persistent=False)
        # The bin at 8 kHz is beyond all triangles.
        self.register_buffer("filters", F.pad(filters, (0, 1)).T.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the filter bank of every clip."""
        with torch.autocast(x.device.type, enabled=False):
            frames = x.float().unfold(1, LENGTH, HOP)
            frames = frames - frames.mean(dim=2, keepdim=True)
            # The first sample of a frame has itself as predecessor.
            frames = frames - PREEMPHASIS * F.pad(frames, (1, 0), mode="replicate")[..., :-1]
            spectrum = torch.fft.rfft(frames * self.window, FFT)
            power = spectrum.real.square() + spectrum.imag.square()
            return (power @ self.filters).clamp(min=torch.finfo(torch.float32).eps).log()


def num_frames(num_samples: int) -> int:
    """Return the number of frames of a clip; 0 if it is shorter than a frame."""
    return max(0, 1 + (num_samples - LENGTH) // HOP)
