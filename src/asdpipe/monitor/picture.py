"""The picture of an explanation: the recording's spectrogram, the map, and the regions in both."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from asdpipe.artifacts.files import written
from asdpipe.data.audio import FULL_SCALE, SAMPLE_RATE
from asdpipe.method.occlusion import hz_to_mel, mel_to_hz
from asdpipe.monitor.explanation import Explanation
from asdpipe.monitor.model import Samples

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WINDOW, HOP = 1024, 256
ROWS = 256
# In dB below the loudest point.
SHOWN_RANGE = 80
TICKS = np.array([0, 250, 500, 1000, 2000, 4000, 8000])


def write_picture(explanation: Explanation, title: str, file: Path) -> None:
    """Write a PNG; the same explanation and title give the same bytes."""
    figure = draw(explanation, title)
    with written(file) as temporary:
        # Without the version of matplotlib.
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def draw(explanation: Explanation, title: str) -> "Figure":
    """Return the figure; it needs no display."""
    # matplotlib takes half a second to import.
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(9, 7), layout="constrained")
    # A file name is not TeX.
    figure.suptitle(title.replace("$", r"\$"), fontsize=10)
    above, below = figure.subplots(2, 1, sharex=True)
    frequency, time = explanation.grid
    # Frequencies are drawn in mel: bands are equally high.
    extent = (time[0], time[-1], float(hz_to_mel(frequency[0])), float(hz_to_mel(frequency[-1])))
    levels = spectrogram(explanation.samples)
    loudest = levels.max()
    settings = {"origin": "lower", "aspect": "auto", "extent": extent, "interpolation": "nearest"}
    image = above.imshow(levels, cmap="magma", vmin=loudest - SHOWN_RANGE, vmax=loudest, **settings)
    figure.colorbar(image, ax=above, label="level in dB")
    above.set_title(f"{explanation.machine}: score {explanation.score:.4g}, limit {explanation.limit:.4g}", fontsize=9)
    most = max(float(np.abs(explanation.map).max()), np.finfo(np.float64).tiny)
    # Red raises the score, blue lowers it.
    image = below.imshow(explanation.map, cmap="RdBu_r", vmin=-most, vmax=most, **settings)
    figure.colorbar(image, ax=below, label="fall of the score")
    below.set_title("how much the score falls without each part", fontsize=9)
    below.set_xlabel("time in s")
    for axes, colour in ((above, "white"), (below, "black")):
        axes.set_yticks(hz_to_mel(TICKS), [f"{tick / 1000:g}" for tick in TICKS])
        axes.set_ylabel("frequency in kHz")
        for number, region in enumerate(explanation.regions, 1):
            low, high = float(hz_to_mel(region.low)), float(hz_to_mel(region.high))
            width, height = region.end - region.start, high - low
            axes.add_patch(Rectangle((region.start, low), width, height, fill=False, edgecolor=colour, linewidth=1.5))
            place = {"xytext": (3, -3), "textcoords": "offset points", "va": "top"}
            axes.annotate(str(number), (region.start, high), **place, color=colour)
    return figure


def spectrogram(recording: Samples) -> NDArray[np.float64]:
    """Return the levels of a recording in dB, (ROWS, frames), from low to high; rows are equally wide in mel."""
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import hann

    samples = recording / FULL_SCALE
    transform = ShortTimeFFT(hann(WINDOW, sym=False), HOP, SAMPLE_RATE)
    power = transform.spectrogram(np.pad(samples, (0, max(0, WINDOW - len(samples)))))
    centres = (np.arange(ROWS) + 0.5) / ROWS * hz_to_mel(SAMPLE_RATE / 2)
    bins = np.round(mel_to_hz(centres) / SAMPLE_RATE * WINDOW).astype(np.int64)
    # Frames beyond the ends hold less than half a window.
    inside = (transform.t(len(samples)) >= 0) & (transform.t(len(samples)) < len(samples) / SAMPLE_RATE)
    return 10 * np.log10(power[bins][:, np.flatnonzero(inside)] + 1e-12)
