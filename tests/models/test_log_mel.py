"""The features of the training-free baseline against a plain numpy version."""

import math

import numpy as np
import torch

from asdpipe.models.build import described_extractor
from asdpipe.models.log_mel import LogMelStatistics

RATE, SIZE, HOP, BANDS = 16_000, 1024, 512, 64


def noise(clips: int = 3, samples: int = 8000, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(seed))


def log_mel(x: np.ndarray) -> np.ndarray:
    """Log-mel spectrogram in dB (bands, frames): Hann, reflect padding, power, triangles on the HTK mel scale."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(SIZE) / SIZE)
    padded = np.pad(x, SIZE // 2, mode="reflect")
    frames = np.array([padded[i : i + SIZE] for i in range(0, len(padded) - SIZE + 1, HOP)])
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    top = 2595 * math.log10(1 + 8000 / 700)
    corners = [700 * (10 ** (top * i / (BANDS + 1) / 2595) - 1) for i in range(BANDS + 2)]
    mel = np.zeros((BANDS, len(frames)))
    for band in range(BANDS):
        low, centre, high = corners[band : band + 3]
        for k in range(SIZE // 2 + 1):
            f = k * RATE / SIZE
            weight = max(0.0, min((f - low) / (centre - low), (high - f) / (high - centre)))
            mel[band] += weight * power[:, k]
    return 10 * np.log10(mel + 1e-10)


def test_features_are_mean_and_standard_deviation_of_the_log_mel_spectrogram():
    x = noise()
    model = LogMelStatistics(8000)
    assert model(x).shape == (3, *model.embedding_shape) == (3, 1, 128)
    features = model(x)[:, 0]
    for clip in range(3):
        spectrogram = log_mel(x[clip].double().numpy())
        np.testing.assert_allclose(features[clip, :64], spectrogram.mean(axis=1), atol=0.01)
        deviation = np.sqrt(((spectrogram - spectrogram.mean(axis=1, keepdims=True)) ** 2).mean(axis=1))
        np.testing.assert_allclose(features[clip, 64:], deviation, atol=0.01)


def test_ten_times_the_amplitude_adds_20_db_to_the_means_and_nothing_to_the_deviations():
    model, x = LogMelStatistics(8000), noise()
    difference = (model(10 * x) - model(x))[:, 0]
    torch.testing.assert_close(difference[:, :64], torch.full((3, 64), 20.0), atol=0.01, rtol=0)
    torch.testing.assert_close(difference[:, 64:], torch.zeros(3, 64), atol=0.01, rtol=0)


def test_a_silent_clip_has_finite_features():
    features = LogMelStatistics(8000)(torch.zeros(1, 8000))
    torch.testing.assert_close(features, torch.tensor([[[-100.0] * 64 + [0.0] * 64]]))


def test_it_can_be_described_without_memory_and_has_no_weights_to_train():
    model = described_extractor({"kind": "log_mel"}, num_samples=8000)
    assert {name: value.shape for name, value in model.state_dict().items()} == {
        name: value.shape for name, value in LogMelStatistics(8000).state_dict().items()
    }
    assert not list(model.parameters())
