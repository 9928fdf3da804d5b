"""The yardstick ``raw_logmel``: nearest neighbour on mean and standard deviation of the log-mel spectrogram.

No training. A detector worth its training should beat it.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor
from torchaudio.transforms import MelSpectrogram

SAMPLE_RATE = 16_000
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


def nearest_neighbour(
    query: NDArray[np.floating], train: NDArray[np.floating], is_query: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the city-block distance to the nearest training clip and its row, both (queries,).

    Every dimension is scaled by its mean and standard deviation over the training clips.

    Args:
        query: (queries, dim); train: (clips, dim).
        is_query: (queries, clips), True where the training clip is the query itself and does not count.
    """
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-9
    distance = cdist((query - mean) / deviation, (train - mean) / deviation, "cityblock")
    distance[is_query] = np.inf
    nearest = distance.argmin(axis=1)
    return distance[np.arange(len(nearest)), nearest], nearest
