"""Occlusion: parts of a recording, a band of frequencies in a span of time, replaced by those of another recording.

The difference of the two recordings is split into bands by gains that add up to 1, and these into spans by weights that
add up to 1. So all parts together replace the whole recording, and each changes nothing outside its span.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asdpipe.data.audio import SAMPLE_RATE

BANDS = 16
# Shorter spans cut the cycles of machines, longer ones hide when it happened.
SPAN_SECONDS = 0.1
MOST_SPANS = 32
# Of the narrower of two neighbours: the width in which one fades into the other.
FADE = 0.5
# Zeros behind the recording, so that its end does not ring into its beginning.
PADDING = SAMPLE_RATE // 8

Samples = NDArray[np.int16]
Floats = NDArray[np.float64]


class Grid(NamedTuple):
    """The parts of a recording."""

    frequency: Floats
    """Edges of the bands in Hz, (bands + 1,); equally wide on the mel scale."""
    time: Floats
    """Edges of the spans in s, (spans + 1,); equally long."""


def grid(num_samples: int) -> Grid:
    """Return the parts of a recording of that length: 16 bands, and spans of 0.1 s or longer, at most 32."""
    seconds = num_samples / SAMPLE_RATE
    spans = int(np.clip(round(seconds / SPAN_SECONDS), 1, MOST_SPANS))
    mel = np.linspace(0, hz_to_mel(SAMPLE_RATE / 2), BANDS + 1)
    return Grid(mel_to_hz(mel), np.linspace(0, seconds, spans + 1))


def hz_to_mel(frequency: Floats | float) -> Floats:
    """Return frequencies in mel (HTK's formula)."""
    return 2595 * np.log10(1 + np.asarray(frequency) / 700)


def mel_to_hz(mel: Floats | float) -> Floats:
    """Return frequencies in Hz."""
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)


class Occlusion:
    """A recording of which parts can be replaced by those of another one.

    Args:
        recording, other: (samples,), int16, of the same length.
    """

    def __init__(self, recording: Samples, other: Samples) -> None:
        if recording.shape != other.shape:
            message = f"recordings of {len(recording)} and {len(other)} samples"
            raise ValueError(message)
        self.recording, self.grid = recording, grid(len(recording))
        self._bands = split_into_bands(other.astype(np.float64) - recording, self.grid.frequency)
        self._spans = weights(np.arange(len(recording)) / SAMPLE_RATE, self.grid.time)

    def without(self, bands: slice, spans: slice) -> Samples:
        """Return the recording with these neighbouring bands and spans replaced, (samples,), rounded to int16."""
        # Few samples have a weight: most of a recording stays as it is.
        weight = self._spans[spans].sum(axis=0)
        at = np.flatnonzero(weight)
        changed = self.recording.copy()
        value = changed[at] + weight[at] * self._bands[bands, at[0] : at[-1] + 1].sum(axis=0)
        changed[at] = np.clip(np.round(value), -(2**15), 2**15 - 1)
        return changed


def split_into_bands(waveform: Floats, edges: Floats) -> NDArray[np.float32]:
    """Return what a waveform (samples,) has in each band, (bands, samples); their sum is the waveform."""
    from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

    size = next_fast_len(len(waveform) + PADDING, real=True)
    spectrum, frequency = rfft(waveform, size), rfftfreq(size, 1 / SAMPLE_RATE)
    bands = np.empty((len(edges) - 1, len(waveform)), dtype=np.float32)
    # One at a time: recordings may be long.
    for band, gain in enumerate(weights(frequency, edges)):
        bands[band] = irfft(gain * spectrum, size)[: len(waveform)]
    return bands


def weights(place: Floats, edges: Floats) -> NDArray[np.float32]:
    """Return the weight of every interval at every place, (intervals, places): 1 inside, with smooth edges; sum 1.

    Args:
        place: (places,); the first interval counts for all below it, the last for all above.
        edges: of the intervals, (intervals + 1,), increasing.
    """
    length = np.diff(edges)
    fade = FADE * np.minimum(length[:-1], length[1:])
    passed = np.clip((place - edges[1:-1, None]) / fade[:, None] + 0.5, 0, 1)
    above = np.ones((len(edges), len(place)), dtype=np.float32)
    above[1:-1] = passed**2 * (3 - 2 * passed)
    above[-1] = 0
    return above[:-1] - above[1:]
