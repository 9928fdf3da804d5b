"""Building blocks of the demo's sounds, and what its data set and its pool do alike with each clip.

Waveforms are float arrays at 16 kHz in units of full scale; levels are dBFS, rms for tones and noise and peak for
clicks.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile as sf
from numpy.typing import ArrayLike, NDArray
from scipy.signal import fftconvolve, lfilter

from asdpipe.data.audio import SAMPLE_RATE

PEAK_LIMIT = 0.89  # of full scale; the converter saturates here, which the demo's levels never reach in practice

Wave = NDArray[np.float64]
Rng = np.random.Generator
Range = tuple[float, float]


def db(level: ArrayLike) -> Wave:
    """Amplitude ratio of a level in dB."""
    return np.asarray(10 ** (np.asarray(level, dtype=np.float64) / 20))


def unit(x: Wave) -> Wave:
    """Scale to an rms of 1 (silence stays silence)."""
    return np.asarray(x / (np.sqrt(np.mean(x**2)) + 1e-12))


def log_uniform(rng: Rng, bounds: Range) -> float:
    """One draw, uniform on a logarithmic scale."""
    return float(np.exp(rng.uniform(*np.log(bounds))))


def filtered(x: Wave, gain: Callable[[Wave], Wave]) -> Wave:
    """Multiply the spectrum by ``gain(frequency in Hz)``, frequencies below 60 Hz treated as 60 Hz."""
    frequency = np.maximum(np.fft.rfftfreq(len(x), 1 / SAMPLE_RATE), 60.0)
    return np.fft.irfft(np.fft.rfft(x) * gain(frequency), len(x))


def tilted(x: Wave, slope: float) -> Wave:
    """Tilt the spectrum by ``slope`` dB per octave about 1 kHz."""
    return filtered(x, lambda f: db(slope * np.log2(f / 1000)))


def bell(frequency: Wave, centre: float, octaves: float) -> Wave:
    """Gaussian on a logarithmic frequency axis, 1 at ``centre`` Hz."""
    return np.asarray(np.exp(-0.5 * (np.log2(frequency / centre) / octaves) ** 2))


def coloured_noise(n: int, slope: float, rng: Rng) -> Wave:
    """Noise of rms 1 whose spectrum changes by ``slope`` dB per octave."""
    return unit(tilted(rng.standard_normal(n), slope))


def hump_noise(n: int, centre: float, octaves: float, rng: Rng) -> Wave:
    """Noise of rms 1 in a bell-shaped band about ``centre`` Hz."""
    return unit(filtered(rng.standard_normal(n), lambda f: bell(f, centre, octaves)))


def wander(n: int, rng: Rng, seconds: float = 0.5) -> Wave:
    """Slow random curve through normal draws of sd 1, one every ``seconds``."""
    knots = int(n / SAMPLE_RATE / seconds) + 2
    return np.interp(np.arange(n) / SAMPLE_RATE / seconds, np.arange(knots), rng.standard_normal(knots))


def turns(hz: ArrayLike, n: int, rng: Rng) -> Wave:
    """Angle in turns of a shaft of the given speed (scalar or one value per sample), from a random start."""
    return np.cumsum(np.broadcast_to(np.asarray(hz, dtype=np.float64), n)) / SAMPLE_RATE + rng.random()


def harmonics(angle: Wave, levels: Wave, rng: Rng) -> Wave:
    """Sum of the multiples of an angle in turns, ``levels[k]`` dBFS rms for multiple ``k + 1``, random phases.

    One period is tabulated and read by linear interpolation, so the cost does not grow with the number of partials.
    """
    size = 64 * (len(levels) + 1)
    phases = np.exp(2j * np.pi * rng.random(len(levels)))
    table = np.fft.irfft(np.concatenate([[0], phases * db(levels) * size / np.sqrt(2)]), size)
    return np.asarray(np.interp(angle % 1, np.arange(size + 1) / size, np.append(table, table[0])))


def passes(angle: Wave) -> Wave:
    """Sample positions at which a rising angle passes a whole turn."""
    return np.flatnonzero(np.diff(np.floor(angle))).astype(np.float64)


def pulses(n: int, positions: Wave, amplitudes: ArrayLike = 1.0) -> Wave:
    """Silence with single samples set at ``positions``; those outside the clip are dropped."""
    index = np.round(positions).astype(np.int64)
    inside = (index >= 0) & (index < n)
    x = np.zeros(n)
    np.add.at(x, index[inside], np.broadcast_to(np.asarray(amplitudes, dtype=np.float64), index.shape)[inside])
    return x


def ring(x: Wave, frequencies: Sequence[float], decay_ms: float) -> Wave:
    """Let ``x`` excite equally strong resonances (Hz); a unit pulse answers with a peak of about 1."""
    radius = np.exp(-1000 / decay_ms / SAMPLE_RATE)
    omega = 2 * np.pi * np.asarray(frequencies) / SAMPLE_RATE
    parts = [lfilter([0, radius * np.sin(w)], [1, -2 * radius * np.cos(w), radius**2], x) for w in omega]
    return np.asarray(np.sum(parts, axis=0) / len(parts))


def far_away(x: Wave) -> Wave:
    """The sound at the far end of a room: 4 dB lower, with a reverberant tail, and duller above 125 Hz."""
    room = np.random.default_rng(2).standard_normal(5600)  # 0.35 s to -60 dB; the same room for every clip
    tail = fftconvolve(x, room * np.logspace(0, -3, len(room)))[: len(x)]
    # 1 dB per octave of high-frequency loss above 125 Hz: tilted() turns about 1 kHz, hence 3 dB more off
    return tilted(db(-4 - 3) * (x + db(-3) * np.sqrt(np.mean(x**2)) * unit(tail)), -1)


def microphone(x: Wave, rng: Rng, gain_sd: float, tilt_sd: float) -> Wave:
    """Random gain (dB) and tilt (dB per octave) of a recording."""
    return tilted(x, rng.normal(0, tilt_sd)) * db(rng.normal(0, gain_sd))


# What every clip needs ------------------------------------------------------------------------------------------------


def clip_generators(key: Sequence[int], children: int) -> list[Rng]:
    """Independent generators of one clip; a clip's key names nothing but itself, so groups can grow."""
    return [np.random.default_rng(child) for child in np.random.SeedSequence(key).spawn(children)]


def clip_length(clip_seconds: float, rng: Rng) -> int:
    """Length in samples: real sets are ragged, so one clip in eight is cut to 75-100 %."""
    share = rng.uniform(0.75, 1) if rng.random() < 1 / 8 else 1.0
    return round(clip_seconds * SAMPLE_RATE * share)


def check_sizes(clip_seconds: float, **counts: int) -> None:
    """Refuse clips shorter than half a second and counts below 1.

    Raises:
        ValueError: Names the first bad argument.
    """
    for name, value in {"clip_seconds": clip_seconds, **counts}.items():
        least = 0.5 if name == "clip_seconds" else 1
        if not value >= least:  # also refuses nan
            message = f"{name} must be at least {least}, not {value}"
            raise ValueError(message)


def write_wav(path: Path, x: Wave) -> None:
    """Write 16-bit PCM, making the folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pcm = np.round(np.clip(x, -PEAK_LIMIT, PEAK_LIMIT) * 32767).astype(np.int16)
    sf.write(path, pcm, SAMPLE_RATE, subtype="PCM_16", format="WAV")
