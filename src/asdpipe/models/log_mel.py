"""The features of the yardstick ``raw_logmel``: mean and standard deviation of the log-mel spectrogram.

No training; scored by ``inference.nearest_neighbour``. A detector worth its training should beat it.
"""

import torch
from torch import Tensor
from torchaudio.transforms import MelSpectrogram

from asdpipe.data.audio import SAMPLE_RATE

BANDS = 64
WINDOW = 1024
HOP = 512


class LogMelStatistics(torch.nn.Module):
    """Mean and standard deviation over time of the log-mel spectrogram in dB (64 bands, window 1024, hop 512).

    Input: float (batch, samples) at 16 kHz. Output: float (batch, 128).
    """

    def __init__(self) -> None:
        super().__init__()
        self.mel = MelSpectrogram(SAMPLE_RATE, n_fft=WINDOW, hop_length=HOP, n_mels=BANDS)

    def forward(self, x: Tensor) -> Tensor:
        decibel = 10 * torch.log10(self.mel(x) + 1e-10)
        return torch.cat([decibel.mean(dim=2), decibel.std(dim=2, correction=0)], dim=1)
