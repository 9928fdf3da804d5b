"""Spectrograms and maps as small PNG files."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.method.occlusion import hz_to_mel
from asdpipe.monitor.explanation import Explanation
from asdpipe.monitor.model import Samples
from asdpipe.monitor.picture import SHOWN_RANGE, spectrogram

# Pixels.
WIDTH, HEIGHT = 320, 128
TICKS = (500, 1000, 2000, 4000)
LONGEST_SECONDS = 60


def spectrogram_png(samples: Samples) -> str:
    """Return the spectrogram of a clip as the address of a PNG; loud is dark, frequencies are in mel."""
    levels = spectrogram(samples[: LONGEST_SECONDS * SAMPLE_RATE])
    rows = levels.reshape(HEIGHT, -1, levels.shape[1]).max(axis=1)
    if rows.shape[1] > WIDTH:
        starts = np.linspace(0, rows.shape[1], WIDTH, endpoint=False).astype(int)
        rows = np.maximum.reduceat(rows, starts, axis=1)
    # The quietest tenth is noise between what is to be seen.
    loudest = float(np.quantile(rows, 0.999))
    lowest = max(float(np.quantile(rows, 0.1)), loudest - SHOWN_RANGE)
    return _png(rows, "gray_r", lowest, max(loudest, lowest + 1))


def map_png(explanation: Explanation) -> str:
    """Return an explanation's map as the address of a PNG, a pixel per part; what raises the score is dark."""
    most = max(float(explanation.map.max()), float(np.finfo(np.float64).tiny))
    return _png(np.maximum(explanation.map, 0), "Oranges", 0, most)


def boxes(explanation: Explanation) -> list[dict[str, float]]:
    """Return the place of each region in percent of the picture's width and height, from its upper left."""
    seconds, top = float(explanation.grid.time[-1]), float(hz_to_mel(SAMPLE_RATE / 2))
    return [
        {
            "left": 100 * region.start / seconds,
            "top": 100 * (1 - float(hz_to_mel(region.high)) / top),
            "width": 100 * (region.end - region.start) / seconds,
            "height": 100 * float(hz_to_mel(region.high) - hz_to_mel(region.low)) / top,
        }
        for region in explanation.regions
    ]


def ticks() -> list[tuple[str, float]]:
    """Return labels of the frequency axis, and their distance from the top in percent."""
    top = float(hz_to_mel(SAMPLE_RATE / 2))
    return [(f"{tick / 1000:g} kHz", 100 * (1 - float(hz_to_mel(tick)) / top)) for tick in TICKS]


def _png(values: NDArray[np.float64], colours: str, lowest: float, highest: float) -> str:
    # matplotlib takes half a second to import.
    from matplotlib.image import imsave

    file = io.BytesIO()
    # Without the version of matplotlib: equal values make equal files.
    options: dict[str, Any] = {"format": "png", "origin": "lower", "metadata": {"Software": None}}
    imsave(file, values, cmap=colours, vmin=lowest, vmax=highest, **options)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
