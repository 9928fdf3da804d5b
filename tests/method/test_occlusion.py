"""Occlusion: parts are replaced and nothing else changes."""

import numpy as np
import pytest
from scipy.signal import welch

from asdpipe.method.occlusion import Occlusion, grid, hz_to_mel, mel_to_hz, split_into_bands, weights


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return tuple(np.round(1000 * rng.standard_normal(24_000)).astype(np.int16) for _ in range(2))


def test_the_grid_has_bands_of_equal_width_in_mel_and_spans_of_a_tenth_of_a_second_or_longer():
    found = grid(24_000)
    assert len(found.frequency) == 17
    assert found.frequency[[0, -1]] == pytest.approx([0, 8000])
    # Mel of 1000 Hz is 1000, by definition.
    assert hz_to_mel(1000) == pytest.approx(1000, abs=0.1)
    np.testing.assert_allclose(np.diff(hz_to_mel(found.frequency)), hz_to_mel(8000) / 16)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(found.frequency)), found.frequency, atol=1e-9)
    np.testing.assert_allclose(np.diff(found.time), 0.1)
    assert len(grid(18 * 16_000).time) == 33
    assert grid(100).time.tolist() == [0, 100 / 16_000]


def test_weights_fade_into_one_another_and_add_up_to_one():
    edges = np.array([0, 1, 3, 4.0])
    found = weights(np.array([-1, 0, 0.7, 1, 1.1, 2, 3, 3.5, 9]), edges)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(found[0], [1, 1, 1, 0.5, 0.216, 0, 0, 0, 0], atol=1e-3)
    np.testing.assert_allclose(found[2], [0, 0, 0, 0, 0, 0, 0.5, 1, 1], atol=1e-3)


def test_bands_hold_their_frequencies_and_add_up_to_the_waveform():
    time = np.arange(16_000) / 16_000
    tones = [np.sin(2 * np.pi * hz * time) for hz in (300, 3000)]
    bands = split_into_bands(sum(tones), np.array([0, 1000, 8000.0]))
    # In single precision.
    np.testing.assert_allclose(bands.sum(axis=0), sum(tones), atol=1e-6)
    inside = slice(1600, -1600)
    np.testing.assert_allclose(bands[:, inside], np.stack(tones)[:, inside], atol=1e-3)


def test_nothing_outside_a_span_changes_and_no_other_band_does(pair):
    recording, other = pair
    occlusion = Occlusion(recording, other)
    changed = occlusion.without(slice(6, 9), slice(4, 6))
    assert changed.dtype == np.int16
    differs = np.flatnonzero(changed != recording)
    # Spans of 0.1 s fade within 25 ms on both sides of an edge.
    assert differs.min() >= 0.375 * 16_000
    assert differs.max() < 0.625 * 16_000
    low, high = occlusion.grid.frequency[[6, 9]]
    frequency, power = welch((changed - recording.astype(float))[6400:9600], 16_000, nperseg=1024)
    inside = (frequency > low) & (frequency < high)
    outside = (frequency < low - 120) | (frequency > high + 250)
    assert power[inside].mean() > 1e4 * power[outside].mean()


def test_all_parts_together_are_the_other_recording_and_each_is_the_same_alone(pair):
    recording, other = pair
    occlusion = Occlusion(recording, other)
    np.testing.assert_array_equal(occlusion.without(slice(0, 16), slice(0, 15)), other)
    # The middle of a span with all bands is that of the other recording.
    changed = occlusion.without(slice(0, 16), slice(4, 5))
    np.testing.assert_array_equal(changed[6900:7500], other[6900:7500])
    parts = [
        occlusion.without(slice(band, band + 1), slice(span, span + 1)) - recording.astype(float)
        for band in range(16)
        for span in range(15)
    ]
    # Each is rounded.
    np.testing.assert_allclose(np.sum(parts, axis=0), other - recording.astype(float), atol=20)


def test_loud_recordings_are_clipped_and_others_of_another_length_refused(pair):
    loud = np.full(1600, 30_000, dtype=np.int16)
    changed = Occlusion(loud, -loud).without(slice(1, 16), slice(0, 1))
    assert np.abs(changed.astype(int)).max() <= 32_768
    with pytest.raises(ValueError, match="24000 and 1600 samples"):
        Occlusion(pair[0], loud)
