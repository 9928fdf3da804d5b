"""Synthetic machine sounds in DCASE Task 2 layout.

``docs/demo.md`` argues every number; levels and units are those of ``sounds``.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.data.demo.sounds import (
    Rng,
    Wave,
    bell,
    check_sizes,
    clip_generators,
    clip_length,
    coloured_noise,
    db,
    far_away,
    harmonics,
    hump_noise,
    log_uniform,
    microphone,
    passes,
    pulses,
    ring,
    turns,
    unit,
    wander,
    write_wav,
)


@dataclass(frozen=True)
class Scene:
    """Factory noise: levels in dBFS, slope in dB per octave, clangs per second and their peak."""

    noise: float
    slope: float
    hum: float
    clangs: float
    clang_peak: float
    neighbour: float


SCENES = {
    "hall": Scene(-41, -4.5, -58, 0.1, -36, -np.inf),
    "line": Scene(-42, -4.0, -60, 0.3, -34, -46),
    "press": Scene(-41, -3.5, -52, 1.5, -28, -50),
    "loud": Scene(-35, -4.5, -52, 0.3, -32, -39),
}


def factory(scene: Scene, n: int, rng: Rng) -> Wave:
    """A fresh recording of coloured noise, mains hum, distant clangs and a neighbouring machine."""
    x = db(scene.noise + wander(n, rng)) * coloured_noise(n, scene.slope + rng.normal(0, 0.4), rng)
    x += harmonics(turns(100.0, n, rng), scene.hum - 6 * np.arange(4.0), rng)
    for _ in range(rng.poisson(scene.clangs * n / SAMPLE_RATE)):
        modes = rng.uniform(400, 3500, 5)
        hit = pulses(n, rng.uniform(0, n, 1), db(scene.clang_peak + rng.normal(0, 3)))
        x += ring(hit, modes.tolist(), rng.uniform(50, 250))
    angle = turns(log_uniform(rng, (15, 70)) * (1 + 0.005 * wander(n, rng)), n, rng)
    comb = unit(harmonics(angle, -4 * np.log2(np.arange(1.0, 31)) + rng.normal(0, 4, 30), rng))
    swing = 1 + 0.4 * np.sin(2 * np.pi * turns(rng.uniform(0.5, 4), n, rng))
    return x + db(scene.neighbour + rng.normal(0, 2)) * comb * swing


@dataclass(frozen=True)
class Fault:
    """What is wrong with a machine: the fault's name ("" for none) and a strength in [0, 1]."""

    name: str = ""
    strength: float = 0.0

    def of(self, name: str, low: float, high: float) -> float:
        """The strength mapped to a range, 0 if it is another fault."""
        return low + (high - low) * self.strength if name == self.name else 0.0

    def amplitude(self, name: str, low: float, high: float) -> float:
        """The strength mapped to a range of dB, as an amplitude; 0 if it is another fault."""
        return float(db(self.of(name, low, high))) if name == self.name else 0.0


# Machines -------------------------------------------------------------------------------------------------------------
# A fault draws its random numbers whether present or not, so that it changes nothing else; only a fault that changes
# the number of strokes (drift, obstruction, belt) may shift the draws after it.

Attributes = dict[str, str]
State = tuple[Attributes, str]  # and the name of a scene


def rotor(state: Attributes, fault: Fault, n: int, rng: Rng) -> Wave:
    """Motor with a light rotor: harmonics of the shaft speed under fixed casing resonances."""
    hz = {"1": 19.0, "2": 25.0, "3": 34.0}[state["spd"]] * rng.normal(1, 0.008)
    drift = fault.of("drift", 0.01, 0.08) * np.linspace(0, 1, n)
    angle = turns(hz * (1 + 0.003 * wander(n, rng) - drift), n, rng)
    order = np.arange(1.0, 81)
    levels = -42 - 5 * np.log2(order) + 8 * bell(order * hz, 420, 0.5) + 6 * bell(order * hz, 1300, 0.5)
    levels += rng.normal(0, 1, len(order))
    if state["load"] == "B":
        levels[6:] += 3
        levels[27] += 8  # slot tone
    levels[0] += fault.of("imbalance", 3, 16)
    levels[1:3] += fault.of("misalignment", 3, 14)
    x = harmonics(angle, levels, rng) + db(-50) * hump_noise(n, 2500, 0.6, rng)
    x *= 1 + fault.of("imbalance", 0.1, 0.6) * np.sin(2 * np.pi * angle)
    hits = passes(3.58 * angle)  # outer race of a nine-ball bearing
    hits += rng.normal(0, 0.01 * SAMPLE_RATE / (3.58 * hz), len(hits))  # slip of the balls
    return x + fault.amplitude("bearing", -44, -22) * ring(pulses(n, hits), [3200], 1.5)


def gearmesh(state: Attributes, fault: Fault, n: int, rng: Rng) -> Wave:
    """Gear pair of 23 and 57 teeth: mesh harmonics with side bands of both shafts."""
    hz = {"1": 14.0, "2": 20.0}[state["spd"]] * rng.normal(1, 0.008)
    load = float(state["load"])
    pinion = turns(hz * (1 + 0.003 * wander(n, rng)), n, rng)
    wheel = pinion * 23 / 57 + rng.random()
    levels = -42 + 3 * load - (5 - load) * np.log2(np.arange(1.0, 9)) + rng.normal(0, 1, 8)
    levels[1:4] += fault.of("wear", 2, 10)
    depth = 0.12 + fault.of("eccentric", 0.1, 0.7)
    x = harmonics(23 * pinion, levels, rng)
    x *= (1 + 0.2 * np.cos(2 * np.pi * pinion)) * (1 + depth * np.cos(2 * np.pi * wheel))
    x += db(-46) * hump_noise(n, 900, 0.8, rng)  # oil
    x += fault.amplitude("tooth", -44, -22) * ring(pulses(n, passes(pinion)), [1900], 2.5)
    gate = 0.5 + 0.5 * np.cos(2 * np.pi * wheel)
    return x + fault.amplitude("dry", -60, -40) * gate * hump_noise(n, 4000, 0.5, rng)


VALVE_PATTERNS = {  # cycle in s, opening times, closing times
    "1": (0.50, [0.10], [0.26]),
    "2": (0.70, [0.05, 0.28], [0.14, 0.37]),
    "3": (0.60, [0.04], [0.40]),
}


def valve(state: Attributes, fault: Fault, n: int, rng: Rng) -> Wave:
    """Solenoid valve on air: clicks on opening and closing, a puff and coil hum while open."""
    period, opening, closing = VALVE_PATTERNS[state["pat"]]
    cycles = np.arange(-rng.uniform(0, period), n / SAMPLE_RATE, period)[:, None]
    jitter = rng.normal(0, 0.002, (2, len(cycles), len(opening)))
    opens, closes = (np.ravel(cycles + t + j) for t, j in zip((opening, closing), jitter, strict=True))
    missing = rng.random(len(opens)) < fault.of("missing", 0.1, 0.7)
    if fault.name == "missing" and not missing.any():
        missing[len(missing) // 2] = True
    time = np.arange(n) / SAMPLE_RATE
    is_open = np.searchsorted(np.sort(opens[~missing]), time) > np.searchsorted(np.sort(closes[~missing]), time)
    sharp = np.hanning(2 + max(1, round(fault.of("weak", 0.1, 0.4) * SAMPLE_RATE / 1000)))  # width of the blow
    x = np.zeros(n)
    for times, modes, peak in ((opens, [2600, 4800], -22.0), (closes, [1100, 2900], -28.0)):
        amplitudes = db(peak + rng.normal(0, 1, len(times)) - fault.of("weak", 3, 16)) * ~missing
        clicks = pulses(n, times * SAMPLE_RATE, amplitudes)
        for i, delay in enumerate(np.cumsum(rng.uniform(0.009, 0.020, (3, len(times))), axis=0)):
            bounce = fault.amplitude("bounce", -14, 0) * db(-5 * i)
            clicks += pulses(n, (times + delay) * SAMPLE_RATE, amplitudes * bounce)
        x += ring(np.convolve(clicks, sharp / sharp.sum(), mode="same"), modes, 3)
    puff = lfilter([1], [1, -np.exp(-1 / (0.030 * SAMPLE_RATE))], pulses(n, opens * SAMPLE_RATE, ~missing))
    x += db(-42) * puff * hump_noise(n, 5000, 0.5, rng)
    x += is_open * harmonics(turns(100, n, rng), np.array([-54.0, -60, -66]), rng)
    return x + fault.amplitude("leak", -62, -42) * hump_noise(n, 5500, 0.4, rng)


def slider(state: Attributes, fault: Fault, n: int, rng: Rng) -> Wave:
    """Linear axis: friction noise and drive whine follow a trapezoidal speed profile, a bump at each turning point."""
    stroke, top = 0.120, float(state["vel"]) / 1000 * rng.normal(1, 0.008)  # m, m/s
    acceleration = float(state["ac"]) * 9.81
    slow = top * (1 - fault.of("obstruction", 0.1, 0.6))  # in the middle third of the forward stroke
    ramp, third = top / acceleration, (stroke - top**2 / acceleration) / 3
    speeds = [0, top, top, slow, slow, top, top, 0, top, top, 0]
    durations = [ramp, third / top, 0.001, third / slow, 0.001, third / top, ramp, ramp, 3 * third / top, ramp]
    corners = np.cumsum([0.0, *durations])
    size = round(corners[-1] * SAMPLE_RATE)
    cycle = np.interp(np.arange(size) / SAMPLE_RATE, corners, speeds)
    path = np.cumsum(cycle) / cycle.sum()  # share of the way there and back
    index = np.arange(n) + rng.integers(size)
    speed, position = cycle[index % size], path[index % size] + index // size
    x = db(-38) * speed / 0.4 * hump_noise(n, 1600 * np.sqrt(top / 0.4), 0.8, rng)
    whine = -48 - 6 * np.arange(3.0) + rng.normal(0, 1, 3) + fault.of("obstruction", 2, 10)
    x += speed / top * harmonics(turns(24 * speed / 0.010, n, rng), whine, rng)
    bumps = passes(2 * position)
    bump_levels = -30 + 20 * np.log10(acceleration / 4) + rng.normal(0, 1, len(bumps))
    x += ring(pulses(n, bumps, db(bump_levels)), [160], 15)
    spot = rng.uniform(0.1, 0.4)
    hits = np.concatenate([passes(position - spot), passes(position + spot)])
    x += fault.amplitude("rail", -42, -20) * ring(pulses(n, hits), [900, 2300], 4)
    stick = 1 + np.sin(2 * np.pi * turns(40, n, rng))
    x += fault.amplitude("dry", -60, -40) * speed / top * stick * hump_noise(n, 4500, 0.4, rng)
    rattling = (rng.random(n) < 45 / SAMPLE_RATE) & (np.gradient(speed) != 0)
    x += fault.amplitude("loose", -44, -24) * ring(rattling * rng.uniform(0.3, 1, n), [1400], 3)
    return np.asarray(x)


def fan(state: Attributes, fault: Fault, n: int, rng: Rng) -> Wave:
    """Seven-blade fan: blade-pass tone and flow noise that follow the fifth power of speed."""
    hz = 40 * float(state["vol"]) / 12 * rng.normal(1, 0.008) * (1 - fault.of("voltage", 0.02, 0.16))
    power = 50 * np.log10(hz / 30)  # dB over 30 Hz
    angle = turns(hz * (1 + 0.003 * wander(n, rng)), n, rng)
    x = db(power - 40 + 0.6 * wander(n, rng) - fault.of("clogged", 1, 5)) * hump_noise(n, 600, 1.2, rng)
    x += harmonics(7 * angle, power - 46 - 6 * np.log2(np.arange(1.0, 7)) + rng.normal(0, 1, 6), rng)
    x += harmonics(angle, power - 70 - 3 * np.arange(5.0), rng)
    x *= 1 + fault.of("unbalance", 0.1, 0.7) * np.sin(2 * np.pi * angle)
    x += fault.amplitude("unbalance", -62, -40) * np.sqrt(2) * np.sin(2 * np.pi * angle)
    x += fault.amplitude("clogged", -48, -32) * hump_noise(n, 180, 0.6, rng)
    bursts = unit(lfilter(np.hanning(64), [1], pulses(n, passes(angle))))  # 4 ms
    return x + fault.amplitude("scrape", -58, -38) * bursts * hump_noise(n, 3500, 0.5, rng)


def compressor(state: Attributes, fault: Fault, n: int, rng: Rng) -> Wave:
    """Two-cylinder piston compressor: a thump per stroke, intake and discharge hiss; microphone 2 is far away."""
    pressure = float(state["prs"])  # bar
    slip = fault.of("belt", 0.02, 0.15) * np.sin(2 * np.pi * turns(rng.uniform(0.5, 0.9), n, rng))
    angle = turns((9 - 0.25 * pressure) * rng.normal(1, 0.008) * (1 + slip), n, rng)
    phase, second = angle % 1, np.floor(angle) % 2
    strokes = passes(angle)
    levels = -24 + 0.4 * pressure + rng.normal(0, 1, len(strokes))
    levels -= fault.of("valve", 1, 6) * second[strokes.astype(np.int64)]
    x = ring(pulses(n, strokes, db(levels)), [70, 130], 25)
    smooth = ([0.03], [1, -0.97])  # 2 ms: the valve plates open fast
    x += db(-46) * lfilter(*smooth, phase < 0.4) * hump_noise(n, 1000, 0.7, rng)  # intake
    outlet = (phase > 0.45 + 0.04 * pressure) & (phase < 0.95)
    discharge = lfilter(*smooth, outlet * db(-fault.of("valve", 3, 20) * second))
    x += db(-43 + 0.5 * pressure) * discharge * hump_noise(n, 2800, 0.6, rng)
    x += harmonics(turns(100, n, rng), -52 - 6 * np.arange(3.0), rng)
    x += fault.amplitude("leak", -62, -42) * hump_noise(n, 4000, 0.5, rng)
    knocks = pulses(n, strokes, rng.uniform(0.6, 1, len(strokes)))
    x += fault.amplitude("knock", -44, -22) * ring(knocks, [1200, 2100], 3)
    x += fault.amplitude("belt", -66, -46) * (np.sqrt(2) * np.sin(2 * np.pi * turns(2400 * (1 + slip), n, rng)))
    return far_away(x) if state["mic"] == "2" else x


@dataclass(frozen=True)
class Machine:
    """A machine type: its generator, states per domain, and kinds of anomaly."""

    sound: Callable[[Attributes, Fault, int, Rng], Wave]
    source: list[State]
    target: list[State]
    faults: tuple[str, ...]


DEV_MACHINES = {
    "rotor": Machine(
        rotor,
        [({"spd": s, "load": load}, "hall") for s in "12" for load in "AB"],
        [({"spd": "3", "load": load}, "hall") for load in "AB"],
        ("imbalance", "misalignment", "bearing", "drift"),
    ),
    "gearmesh": Machine(
        gearmesh,
        [({"spd": s, "load": load}, "line") for s in "12" for load in "01"],
        [({"spd": s, "load": "2"}, "line") for s in "12"],
        ("tooth", "wear", "eccentric", "dry"),
    ),
    "valve": Machine(
        valve,
        [({"pat": p, "bg": bg}, scene) for p in "12" for bg, scene in (("A", "hall"), ("B", "line"))],
        [({"pat": p, "bg": "C"}, "press") for p in "13"],
        ("missing", "weak", "leak", "bounce"),
    ),
    "slider": Machine(
        slider,
        [({"vel": v, "ac": a}, "hall") for v in ("300", "400") for a in ("0.30", "0.50")],
        [({"vel": "550", "ac": a}, "hall") for a in ("0.30", "0.50")],
        ("rail", "dry", "loose", "obstruction"),
    ),
}
EVAL_MACHINES = {
    "fan": Machine(
        fan,
        [({"vol": v, "n": name}, scene) for v in ("9", "12") for name, scene in (("W", "hall"), ("X", "line"))],
        [({"vol": v, "n": "Y"}, "loud") for v in ("9", "12")],
        ("unbalance", "clogged", "voltage", "scrape"),
    ),
    "compressor": Machine(
        compressor,
        [({"prs": p, "mic": "1"}, "hall") for p in "2468"],
        [({"prs": p, "mic": "2"}, "hall") for p in "48"],
        ("leak", "valve", "knock", "belt"),
    ),
}
MACHINES = DEV_MACHINES | EVAL_MACHINES


def _recording(machine: Machine, state: State, fault: Fault, n: int, of_machine: Rng, of_factory: Rng) -> Wave:
    """``n`` samples of a machine at work in its scene, from a generator each."""
    attributes, scene = state
    x = machine.sound(attributes, fault, n, of_machine) * db(of_factory.normal(0, 1.2))
    x += factory(SCENES[scene], n, of_factory) * db(of_factory.normal(0, 1.5))
    return microphone(x, of_factory, gain_sd=0.8, tilt_sd=0.35)


def write_dataset(
    folder: Path, *, seed: int, clip_seconds: float, source_clips: int, target_clips: int, test_clips: int
) -> None:
    """Write six machine types as WAV files in the layout and naming of DCASE Task 2.

    Args:
        folder: Gets ``{dev,eval}_data/raw/<machine>/{train,test}/*.wav`` and ``.../<machine>/attributes_00.csv``.
        seed: Same arguments give the same bytes; larger counts leave the earlier clips as they are.
        clip_seconds: Length of a clip in seconds; one in eight is shorter (75-100 %).
        source_clips: Normal training clips per machine from the source domain.
        target_clips: The same from the target domain.
        test_clips: Test clips per machine for each of the four pairs of domain and normal or anomaly.

    Raises:
        ValueError: A count is below 1 or ``clip_seconds`` below 0.5.
    """
    check_sizes(clip_seconds=clip_seconds, source_clips=source_clips, target_clips=target_clips, test_clips=test_clips)
    groups = [("source", "train", "normal", source_clips), ("target", "train", "normal", target_clips)]
    groups += [(d, "test", label, test_clips) for d in ("source", "target") for label in ("normal", "anomaly")]
    for number, (name, machine) in enumerate(MACHINES.items()):
        base = folder / ("dev_data" if name in DEV_MACHINES else "eval_data") / "raw" / name
        rows = [["file_name", "d1p", "d1v", "d2p", "d2v"]]
        for group, (domain, split, label, count) in enumerate(groups):
            states = machine.source if domain == "source" else machine.target
            for index in range(count):
                setup, *of_parts = clip_generators((seed, number, group, index), 3)
                n, strength = clip_length(clip_seconds, setup), setup.random()
                lap, which = divmod(index, len(states))
                # one kind further at each lap of the states, so that every kind meets every state
                kind = machine.faults[(index + lap) % len(machine.faults)]
                fault = Fault(kind, strength) if label == "anomaly" else Fault()
                pairs = [text for pair in states[which][0].items() for text in pair]
                file = f"section_00_{domain}_{split}_{label}_{index:04d}_{'_'.join(pairs)}.wav"
                write_wav(base / split / file, _recording(machine, states[which], fault, n, *of_parts))
                rows.append([f"{name}/{split}/{file}", *pairs])
        with (base / "attributes_00.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows)
