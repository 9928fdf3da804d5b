"""The second generated design: machines whose operating state decides what is normal.

``studies/README.md`` describes it. Levels and units are those of ``asdpipe.data.demo.sounds``. File names hide the
states, as in DCASE 2023; ``attributes_00.csv`` has them.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.data.demo.machines import SCENES, Fault, factory
from asdpipe.data.demo.sounds import (
    Rng,
    Wave,
    bell,
    clip_generators,
    clip_length,
    db,
    far_away,
    harmonics,
    hump_noise,
    microphone,
    passes,
    pulses,
    ring,
    turns,
    wander,
    write_wav,
)

CLIP_SECONDS = 1.5
# Shaft speeds over the lowest one.
SOURCE_SPEEDS = (1.0, 1.2, 1.44, 1.73)
TARGET_SPEEDS = (1.31, 2.07)
# Load levels that occur at the i-th source speed: i and i + 1; the target speeds lie at 1.5 and 4.
TARGET_LOADS = ((1.5, 2.5), (4.0, 5.0))
# Below this speed a wrong load is too high, above it too low: it is normal at another speed.
MIDDLE_SPEED = 1.4
FAULTS = ("load", "slip", "mute", "hit")


@dataclass(frozen=True)
class Machine:
    """A machine type: a shaft with teeth or blades, an auxiliary drive by belt, casing resonances."""

    shaft_hz: float
    teeth: int
    belt_ratio: float
    casing_hz: float
    noise_hz: float
    noise: float
    """Level of the flow or friction noise at the lowest speed, in dBFS."""
    strokes: float
    """Peak of a stroke per turn, in dBFS."""
    shift: str
    """What the target domain changes: speed, scene or microphone."""


def _family(base: Machine, *others: tuple[float, int, float]) -> list[Machine]:
    """Return a machine and others like it: a factor of all frequencies, more teeth, and another ratio of the belt."""
    shifts = ("speed", "scene", "microphone")
    family = [base]
    for number, (factor, teeth, ratio) in enumerate(others, 1):
        frequencies = {name: factor * getattr(base, name) for name in ("shaft_hz", "casing_hz", "noise_hz")}
        changed = {**vars(base), **frequencies, "teeth": base.teeth + teeth, "belt_ratio": base.belt_ratio + ratio}
        family.append(Machine(**{**changed, "shift": shifts[(shifts.index(base.shift) + number) % 3]}))
    return family


FAMILIES = {
    "pump": _family(
        Machine(15.0, 6, 0.62, 520, 1100, -42, -np.inf, "speed"), (1.08, 0, 0.03), (0.94, 1, -0.02), (1.15, -1, 0.01)
    ),
    "gear": _family(
        Machine(11.0, 21, 1.35, 760, 2100, -46, -np.inf, "scene"), (1.06, 2, 0.04), (0.92, 0, -0.05), (1.12, 1, 0.02)
    ),
    "blower": _family(Machine(19.0, 9, 0.48, 410, 700, -39, -np.inf, "microphone"), (1.07, 0, 0.02), (0.93, 2, -0.03)),
    "press": _family(Machine(7.0, 4, 2.3, 900, 2600, -45, -27, "speed"), (1.09, 0, 0.1), (0.91, 1, -0.1)),
}
# The first 3, 6 or 14 of them are the data sets of so many machine types.
MACHINES = {
    f"{family}{number + 1}": members[number]
    for number in range(4)
    for family, members in FAMILIES.items()
    if number < len(members)
}


def sound(machine: Machine, speed: float, load: float, fault: Fault, n: int, rng: Rng) -> Wave:
    """Return a machine at a speed (over the lowest) and load level, with or without a fault.

    A fault draws its random numbers whether present or not, so that it changes nothing else.
    """
    load += fault.of("load", 1, 3) * (1 if speed < MIDDLE_SPEED else -1)
    hz = machine.shaft_hz * speed * rng.normal(1, 0.008)
    shaft = turns(hz * (1 + 0.003 * wander(n, rng)), n, rng)
    order = np.arange(1.0, 41)
    levels = -44 - 5 * np.log2(order) + 8 * bell(order * hz, machine.casing_hz, 0.5) + rng.normal(0, 1, len(order))
    x = harmonics(shaft, levels, rng)
    teeth = np.arange(1.0, 7)
    mesh = -50 + 2.5 * load - (6 - 0.7 * load) * np.log2(teeth)
    mesh += 6 * bell(teeth * machine.teeth * hz, 2 * machine.casing_hz, 0.6) + rng.normal(0, 1, len(teeth))
    swing = 1 + (0.1 + 0.05 * max(load, 0)) * np.sin(2 * np.pi * shaft)
    x += swing * harmonics(machine.teeth * shaft, mesh, rng)
    centre = machine.noise_hz * 2 ** (load / 8)
    x += db(machine.noise + 25 * np.log10(speed) + 2 * (load - 1)) * hump_noise(n, centre, 0.9, rng)
    ratio = machine.belt_ratio * (1 - fault.of("slip", 0.05, 0.3))
    belt = turns(7 * ratio * hz * (1 + 0.003 * wander(n, rng)), n, rng)
    belt_levels = -46 - 5 * np.arange(4.0) + rng.normal(0, 1, 4) - fault.of("mute", 3, 20)
    x += harmonics(belt, belt_levels, rng)
    beats = passes(shaft)
    if np.isfinite(machine.strokes):
        strokes = db(machine.strokes + 1.5 * load + rng.normal(0, 1, len(beats)))
        x += ring(pulses(n, beats, strokes), [machine.casing_hz / 4, machine.casing_hz / 2], 20)
    hits = ring(pulses(n, beats + 0.3 * SAMPLE_RATE / hz), [3 * machine.casing_hz + 900], 2)
    return x + fault.amplitude("hit", -46, -24) * hits


def states(machine: Machine, domain: str) -> list[tuple[float, float, str]]:
    """Return speed, load level and scene of all states of a domain: 8 in the source, 4 in the target domain."""
    source = [(speed, load) for i, speed in enumerate(SOURCE_SPEEDS) for load in (float(i), i + 1.0)]
    if domain == "source":
        return [(*state, "hall") for state in source]
    if machine.shift == "speed":
        target = [(speed, load) for speed, loads in zip(TARGET_SPEEDS, TARGET_LOADS, strict=True) for load in loads]
        return [(*state, "hall") for state in target]
    return [(*state, "press" if machine.shift == "scene" else "hall") for state in source[::2]]


def recording(
    machine: Machine, domain: str, state: tuple[float, float, str], fault: Fault, rngs: Sequence[Rng]
) -> Wave:
    """Return a clip of a machine at work; its length comes from the first generator."""
    setup, of_machine, of_factory = rngs
    n = clip_length(CLIP_SECONDS, setup)
    speed, load, scene = state
    x = sound(machine, speed, load, fault, n, of_machine) * db(of_factory.normal(0, 1.2))
    if domain == "target" and machine.shift == "microphone":
        x = far_away(x)
    x += factory(SCENES[scene], n, of_factory) * db(of_factory.normal(0, 1.5))
    return microphone(x, of_factory, gain_sd=0.8, tilt_sd=0.35)


def clips(machine: Machine, seed: int, number: int, counts: dict[str, int]) -> Iterator[tuple[str, Wave, str, str]]:
    """Yield file name below the machine type's folder, samples, speed and load of every clip.

    Args:
        seed: of the data set; number: of the machine type.
        counts: of source and target training clips, and of test clips per domain and label.
    """
    groups = [(domain, "train", "normal", counts[domain]) for domain in ("source", "target")]
    groups += [
        (domain, "test", label, counts["test"]) for domain in ("source", "target") for label in ("normal", "anomaly")
    ]
    for group, (domain, split, label, count) in enumerate(groups):
        known = states(machine, domain)
        for index in range(count):
            rngs = clip_generators((seed, number, group, index), 4)
            lap, which = divmod(index, len(known))
            kind = FAULTS[(index + lap) % len(FAULTS)]
            fault = Fault(kind, rngs[3].random()) if label == "anomaly" else Fault()
            speed, load, _ = known[which]
            name = f"{split}/section_00_{domain}_{split}_{label}_{index:04d}_noAttribute.wav"
            yield name, recording(machine, domain, known[which], fault, rngs[:3]), f"{speed:g}", f"{load:g}"


def write_machine(folder: Path, name: str, seed: int, counts: dict[str, int]) -> None:
    """Write the clips of a machine type, and its states, below ``folder``/dev_data/raw in DCASE's layout.

    The same arguments give the same bytes; larger counts leave the earlier clips as they are.
    """
    base = folder / "dev_data/raw" / name
    rows = [["file_name", "d1p", "d1v", "d2p", "d2v"]]
    for file, x, speed, load in clips(MACHINES[name], seed, list(MACHINES).index(name), counts):
        write_wav(base / file, x)
        rows.append([f"{name}/{file}", "spd", speed, "load", load])
    with (base / "attributes_00.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
