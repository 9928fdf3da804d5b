"""Mean and standard deviation of the log-mel spectrogram: the extractor of the baseline ``raw_logmel``, untrained."""

import torch
from torch import Tensor
from torchaudio.transforms import MelSpectrogram

from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.models.base import FeatureExtractor, PositiveInt

BANDS = 64
WINDOW = 1024
HOP = 512


class LogMelStatistics(FeatureExtractor):
    """Mean and standard deviation over time of the log-mel spectrogram in dB (64 bands, window 1024, hop 512).

    Input: float (batch, samples) at 16 kHz. Output: float (batch, 1, 128).
    """

    embedding_shape = (1, 2 * BANDS)

    def __init__(self, num_samples: PositiveInt) -> None:
        super().__init__()
        self.num_samples = num_samples
        # On the CPU even under the meta device, because torchaudio checks the values.
        with torch.device("cpu"):
            self.mel = MelSpectrogram(SAMPLE_RATE, n_fft=WINDOW, hop_length=HOP, n_mels=BANDS)

    def forward(self, x: Tensor) -> Tensor:
        decibel = 10 * torch.log10(self.mel(x) + 1e-10)
        return torch.cat([decibel.mean(dim=2), decibel.std(dim=2, correction=0)], dim=1).unsqueeze(1)
