"""How often the explanation of an alarm finds a sound that was added to a normal recording of the demo.

    .venv/bin/python -m benchmarks.explained results/demo/ba_trp/seed0/stage1 --csv found.csv

New normal clips of all machine types are generated. Those below the limit get a tone burst, a click or a hiss at a
known place, at the lowest of a few levels that raises an alarm. A hit: the largest region overlaps the place.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import soundfile
from numpy.typing import NDArray

import asdpipe
from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.data.demo.machines import write_dataset
from asdpipe.monitor.detector import Detector
from asdpipe.monitor.explanation import Explanation, Region

# Of the demo's clips, which have seed 0.
SEED = 1
CLIP_SECONDS = 1.5
# In dB above the recording; of clicks the peak is 20 dB higher.
LEVELS = (-6, 0, 6, 12, 18, 24)

Samples = NDArray[np.int16]
Floats = NDArray[np.float64]
Rng = np.random.Generator


class Event(NamedTuple):
    """A sound, rms 1 while it lasts, and where it is."""

    sound: Floats
    place: Region


def tone(samples: int, rng: Rng) -> Event:
    """Return a tone burst of 0.15 to 0.4 s at 0.4 to 7 kHz."""
    begin, end = _times(samples, rng.uniform(0.15, 0.4), rng)
    hz = rng.uniform(400, 7000)
    time = np.arange(samples) / SAMPLE_RATE
    sound = np.sqrt(2) * np.sin(2 * np.pi * hz * time) * ((time >= begin) & (time < end))
    return Event(sound, Region(hz - 1, hz + 1, begin, end, 0))


def click(samples: int, rng: Rng) -> Event:
    """Return a click of 10 ms, 20 dB louder, with all frequencies."""
    begin, end = _times(samples, 0.01, rng)
    first, last = round(begin * SAMPLE_RATE), round(end * SAMPLE_RATE)
    sound = np.zeros(samples)
    sound[first:last] = rng.standard_normal(last - first) * np.exp(-np.arange(last - first) / SAMPLE_RATE / 0.002)
    return Event(10 * sound / sound[first:last].std(), Region(0, SAMPLE_RATE / 2, begin, end, 0))


def hiss(samples: int, rng: Rng) -> Event:
    """Return noise of 0.2 to 0.6 s in a band of 0.5 to 1.5 kHz."""
    begin, end = _times(samples, rng.uniform(0.2, 0.6), rng)
    centre, width = rng.uniform(1500, 6000), rng.uniform(500, 1500)
    spectrum, hz = np.fft.rfft(rng.standard_normal(samples)), np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    noise = np.fft.irfft(np.where(np.abs(hz - centre) < width / 2, spectrum, 0), samples)
    time = np.arange(samples) / SAMPLE_RATE
    sound = noise / noise.std() * ((time >= begin) & (time < end))
    return Event(sound, Region(centre - width / 2, centre + width / 2, begin, end, 0))


EVENTS: dict[str, Callable[[int, Rng], Event]] = {"tone": tone, "click": click, "hiss": hiss}


def _times(samples: int, seconds: float, rng: Rng) -> tuple[float, float]:
    begin = float(rng.uniform(0, samples / SAMPLE_RATE - seconds))
    return begin, begin + seconds


def with_event(samples: Samples, event: Event, level: float) -> Samples:
    """Return a recording with an event, ``level`` dB louder than the recording."""
    loudness = 10 ** (level / 20) * np.sqrt(np.mean(samples.astype(np.float64) ** 2))
    return np.clip(np.round(samples + loudness * event.sound), -(2**15), 2**15 - 1).astype(np.int16)


def overlap(one: Region, other: Region) -> bool:
    """Return whether two regions have a part in common."""
    return one.low < other.high and other.low < one.high and one.start < other.end and other.start < one.end


def chance(found: Explanation, place: Region) -> float:
    """Return how often a region as large as the largest one, in parts, overlaps a place anywhere in the map."""
    frequency, span = found.grid
    first = found.regions[0]
    rows = np.searchsorted(frequency, first.high) - np.searchsorted(frequency, first.low)
    columns = np.searchsorted(span, first.end) - np.searchsorted(span, first.start)
    anywhere = [
        overlap(Region(frequency[row], frequency[row + rows], span[column], span[column + columns], 0), place)
        for row in range(len(frequency) - rows)
        for column in range(len(span) - columns)
    ]
    return float(np.mean(anywhere))


def recordings(folder: Path, machines: list[str], per_machine: int) -> Iterator[tuple[str, Samples]]:
    """Generate new normal recordings of the demo; yield machine type and samples, machine types in turn."""
    settings = {
        "seed": SEED,
        "clip_seconds": CLIP_SECONDS,
        "source_clips": per_machine,
        "target_clips": 1,
        "test_clips": 1,
    }
    write_dataset(folder, **settings)
    files = {machine: sorted(folder.glob(f"*/raw/{machine}/train/*source*")) for machine in machines}
    for number in range(per_machine):
        for machine in machines:
            yield machine, soundfile.read(files[machine][number], dtype="int16")[0]


def measure(detector: Detector, clips: Iterator[tuple[str, Samples]], alarms: int) -> pd.DataFrame:
    """Return a row for each clip that had no alarm before and has one with an event, until there are enough."""
    rng, kinds, rows = np.random.default_rng(SEED), cycle(EVENTS), []
    for (machine, samples), kind in zip(clips, kinds, strict=False):
        if len(rows) == alarms:
            break
        event = EVENTS[kind](len(samples), rng)
        if detector.score(samples, SAMPLE_RATE, machine).anomalous:
            continue
        for level in LEVELS:
            louder = with_event(samples, event, level)
            if detector.score(louder, SAMPLE_RATE, machine).anomalous:
                break
        else:
            continue
        began = time.perf_counter()
        found = detector.explain(louder, SAMPLE_RATE, machine)
        seconds = time.perf_counter() - began
        hit = bool(found.regions) and overlap(found.regions[0], event.place)
        by_chance = chance(found, event.place) if found.regions else 0.0
        largest = str(found.regions[0]) if found.regions else ""
        rows.append((machine, kind, level, hit, by_chance, seconds, str(event.place), largest))
    return pd.DataFrame(rows, columns=["machine", "kind", "level", "hit", "chance", "seconds", "place", "largest"])


def main() -> None:
    """Print what was found, by kind of event."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a stage of the demo")
    parser.add_argument("--alarms", type=int, default=100)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    detector = asdpipe.load(options.model, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        per_machine = 2 * options.alarms // len(detector.machines) + 1
        found = measure(detector, recordings(Path(folder), detector.machines, per_machine), options.alarms)
    if options.csv is not None:
        found.to_csv(options.csv, index=False)
    table = found.groupby("kind").agg(alarms=("hit", "size"), hits=("hit", "sum"), by_chance=("chance", "mean"))
    print(table.to_string(float_format="%.2f"))
    print(f"{found.hit.sum()} of {len(found)} found; by chance {found.chance.mean():.0%}; ", end="")
    print(f"{found.seconds.median():.2f} s a clip, at most {found.seconds.max():.2f} s")


if __name__ == "__main__":
    main()
