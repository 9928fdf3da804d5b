"""Mean and standard deviation of MFCCs, in which nearest neighbours are searched (Top-M pseudo-labels, §2)."""

import torch
from torch import Tensor
from torchaudio.transforms import MFCC

from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.models.base import FeatureExtractor, PositiveInt

COEFFICIENTS = 40
BANDS = 64
WINDOW = 1024
HOP = 512


class MfccStatistics(FeatureExtractor):
    """Mean and standard deviation over time of 40 MFCCs (64 mel bands, window 1024, hop 512, orthonormal DCT).

    Input: float (batch, samples) at 16 kHz. Output: float (batch, 1, 80).
    """

    embedding_shape = (1, 2 * COEFFICIENTS)

    def __init__(self, num_samples: PositiveInt) -> None:
        super().__init__()
        self.num_samples = num_samples
        # On the CPU even under the meta device, because torchaudio checks the values. With the natural logarithm:
        # torchaudio's decibels have a floor that depends on the other clips of a batch.
        with torch.device("cpu"):
            mel = {"n_fft": WINDOW, "hop_length": HOP, "n_mels": BANDS}
            self.mfcc = MFCC(SAMPLE_RATE, COEFFICIENTS, log_mels=True, melkwargs=mel)

    def forward(self, x: Tensor) -> Tensor:
        mfcc = self.mfcc(x)
        return torch.cat([mfcc.mean(dim=2), mfcc.std(dim=2, correction=0)], dim=1).unsqueeze(1)
