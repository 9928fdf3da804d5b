"""MFCC statistics against a plain numpy version."""

import math

import numpy as np
import torch
from scipy.fft import dct

from asdpipe.models.build import build_extractor, described_extractor
from asdpipe.models.mfcc import MfccStatistics

RATE, SIZE, HOP, BANDS, KEPT = 16_000, 1024, 512, 64, 40


def noise(clips: int = 3, samples: int = 8000, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(seed))


def mfcc(x: np.ndarray) -> np.ndarray:
    """MFCCs (coefficients, frames): Hann, reflect padding, power, HTK mel triangles, logarithm, orthonormal DCT-II."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(SIZE) / SIZE)
    padded = np.pad(x, SIZE // 2, mode="reflect")
    frames = np.array([padded[i : i + SIZE] for i in range(0, len(padded) - SIZE + 1, HOP)])
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    top = 2595 * math.log10(1 + 8000 / 700)
    corners = np.array([700 * (10 ** (top * i / (BANDS + 1) / 2595) - 1) for i in range(BANDS + 2)])
    frequency = np.arange(SIZE // 2 + 1) * RATE / SIZE
    low, centre, high = (corners[i : i + BANDS, None] for i in range(3))
    triangles = np.minimum((frequency - low) / (centre - low), (high - frequency) / (high - centre)).clip(0)
    return dct(np.log(triangles @ power.T + 1e-6), axis=0, norm="ortho")[:KEPT]


def test_features_are_mean_and_standard_deviation_of_the_mfccs():
    x = noise()
    model = MfccStatistics(8000)
    assert model(x).shape == (3, *model.embedding_shape) == (3, 1, 80)
    for clip, features in zip(x, model(x)[:, 0], strict=True):
        expected = mfcc(clip.double().numpy())
        np.testing.assert_allclose(features[:KEPT], expected.mean(axis=1), atol=2e-3)
        np.testing.assert_allclose(features[KEPT:], expected.std(axis=1), atol=2e-3)


def test_a_clip_has_the_same_features_beside_louder_ones():
    x = noise()
    alone = MfccStatistics(8000)(x[:1])
    louder = MfccStatistics(8000)(torch.cat([x[:1], 1000 * x[1:]]))[:1]
    torch.testing.assert_close(alone, louder, atol=1e-5, rtol=0)


def test_it_is_a_kind_of_network_without_weights():
    model = described_extractor({"kind": "mfcc"}, num_samples=8000)
    assert not list(model.parameters())
    silent = build_extractor({"kind": "mfcc"}, num_samples=8000)(torch.zeros(1, 8000))
    assert silent.isfinite().all()
