"""A synthetic external pool of everyday sounds in AudioSet form.

``docs/demo.md`` argues every number; levels and units are those of ``sounds``.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.data.demo.sounds import (
    Range,
    Rng,
    Wave,
    check_sizes,
    clip_generators,
    clip_length,
    coloured_noise,
    db,
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

SEED_OFFSET = 1000  # keeps the pool's random streams apart from the machines'
YTID_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

Segment = tuple[float, float, list[str]]  # start and end in s, labels (mids)


# Sound families: parameters are ranges to draw from -------------------------------------------------------------------


def motor(pitch: Range, fall: Range, noise: Range, centre: Range, swing: Range, depth: float, n: int, rng: Rng) -> Wave:
    """Harmonics of ``pitch`` Hz falling by ``fall`` dB per octave, noise (dB) about ``centre`` Hz, ``swing`` Hz AM."""
    hz = log_uniform(rng, pitch)
    order = np.arange(1.0, min(80, 6000 / hz) + 1)
    levels = -rng.uniform(*fall) * np.log2(order) + rng.normal(0, 4, len(order))
    angle = turns(hz * (1 + rng.uniform(0, 0.04) * wander(n, rng)), n, rng)
    x = unit(harmonics(angle, levels, rng))
    x += db(rng.uniform(*noise)) * hump_noise(n, log_uniform(rng, centre), rng.uniform(0.5, 1.5), rng)
    return x * (1 + rng.uniform(0, depth) * np.sin(2 * np.pi * turns(log_uniform(rng, swing), n, rng)))


def clatter(rate: Range, jitter: float, modes: Range, decay_ms: Range, n: int, rng: Rng) -> Wave:
    """Impulses, ``rate`` per second and unsteady by ``jitter``, through four random resonances (Hz)."""
    hz = log_uniform(rng, rate)
    gaps = np.maximum(rng.normal(1, jitter, int(2 * hz * n / SAMPLE_RATE) + 4), 0.2) * SAMPLE_RATE / hz
    times = np.cumsum(gaps) - gaps[0] + rng.random() * min(gaps[0], n / 2)  # at least one inside
    hits = pulses(n, times, rng.uniform(0.5, 1, len(times)))
    return ring(hits, [log_uniform(rng, modes) for _ in range(4)], log_uniform(rng, decay_ms))


def weather(slope: Range, gust: Range, depth: float, drops: Range, n: int, rng: Rng) -> Wave:
    """Coloured noise swelling by ``depth`` dB every ``gust`` seconds, with ``drops`` per second."""
    x = db(depth * wander(n, rng, rng.uniform(*gust))) * coloured_noise(n, rng.uniform(*slope), rng)
    falling = (rng.random(n) < rng.uniform(*drops) / SAMPLE_RATE) * rng.exponential(3, n)
    return x + ring(falling, [log_uniform(rng, (1500, 6000)) for _ in range(3)], 1)


def song(pitch: Range, note: Range, sweep: float, rest: float, overtones: int, n: int, rng: Rng) -> Wave:
    """Notes of ``note`` seconds, each gliding by up to ``sweep`` octaves; a share ``rest`` of them is silent."""
    length = rng.uniform(*note)
    octaves, glide, loud = rng.uniform(*np.log2(pitch)), sweep * rng.standard_normal(999), rng.random(999) >= rest
    loud[0] = True
    beat = np.arange(n) / SAMPLE_RATE / length
    index, within = beat.astype(np.int64) % 999, beat % 1
    hz = 2 ** np.clip(octaves + sweep * np.sin(2.4 * index) + glide[index] * (within - 0.5), *np.log2(pitch))
    return harmonics(turns(hz, n, rng), -12 * np.arange(float(overtones)), rng) * loud[index] * np.sin(np.pi * within)


def struck(pitch: Range, ratios: Sequence[float], decay: Range, gap: Range, voices: int, n: int, rng: Rng) -> Wave:
    """Bodies struck every ``gap`` seconds, ``voices`` at a time: partials at ``ratios`` of a pitch, decaying."""
    x, time, root = np.zeros(n), 0.1 * rng.random(), log_uniform(rng, pitch)
    step = rng.uniform(*gap)
    while time < n / SAMPLE_RATE:
        scale = rng.choice([1, 9 / 8, 5 / 4, 3 / 2, 5 / 3], voices, replace=False) if voices > 1 else [1]
        modes = [min(root * s * r, 7000) for s in scale for r in ratios]
        x += ring(pulses(n, np.array([time * SAMPLE_RATE])), modes, 1000 * rng.uniform(*decay))
        time += step
    return x


def voice(pitch: Range, syllable: Range, pause: float, formants: Range, breath: float, n: int, rng: Rng) -> Wave:
    """Pulse train through formants that change with each syllable (s); a share ``pause`` of these is silent."""
    length = rng.uniform(*syllable)
    x = np.zeros(n)
    angle = turns(log_uniform(rng, pitch) * (1 + 0.1 * wander(n, rng, 0.2)), n, rng)
    drive = pulses(n, passes(angle)) + breath * rng.standard_normal(n)
    scale = rng.uniform(*formants)
    for i, start in enumerate(np.arange(0, n / SAMPLE_RATE, length)):
        modes = (scale * rng.uniform((300, 900, 2200), (800, 2000, 3000))).tolist()
        part = slice(int(start * SAMPLE_RATE), int((start + length) * SAMPLE_RATE))
        silent = rng.random() < pause and i > 0
        x[part] = 0 if silent else ring(drive[part], modes, 4) * np.hanning(len(drive[part]) + 2)[1:-1]
    return x


# Classes --------------------------------------------------------------------------------------------------------------

BELL = (0.5, 1.0, 1.2, 1.5, 2.0, 2.7)
CLASSES: list[tuple[str, str, Callable[[int, Rng], Wave]]] = [  # mid, name, sound
    ("/m/09x0r", "Speech", partial(voice, (90, 260), (0.12, 0.28), 0.2, (0.9, 1.2), 0.02)),
    ("/m/01w250", "Whistling", partial(song, (700, 2500), (0.2, 0.6), 0.4, 0.15, 2)),
    ("/m/07pbtc8", "Walk, footsteps", partial(clatter, (1.4, 2.6), 0.06, (90, 1200), (6, 25))),
    ("/m/0l15bq", "Clapping", partial(clatter, (2, 12), 0.3, (700, 3500), (2, 8))),
    ("/m/05tny_", "Bark", partial(voice, (200, 700), (0.12, 0.25), 0.6, (1.1, 1.7), 0.08)),
    ("/m/020bb7", "Bird vocalization, bird call, bird song", partial(song, (1800, 6500), (0.05, 0.2), 0.8, 0.4, 2)),
    ("/m/09xqv", "Cricket", partial(song, (3500, 6500), (0.02, 0.06), 0.05, 0.3, 1)),
    ("/m/04rlf", "Music", partial(struck, (110, 440), (1, 2, 3, 4), (0.15, 0.6), (0.25, 0.7), 3)),
    ("/m/03w41f", "Church bell", partial(struck, (200, 700), BELL, (0.6, 2), (0.8, 2), 1)),
    ("/m/03kmc9", "Siren", partial(song, (500, 1600), (0.4, 1.5), 0.7, 0, 4)),
    ("/m/03m9d0z", "Wind", partial(weather, (-9, -5), (0.3, 1), 6, (0, 0.1))),
    ("/m/06mb1", "Rain", partial(weather, (-1, 2), (0.5, 2), 1, (20, 300))),
    ("/m/034srq", "Waves, surf", partial(weather, (-5, -2), (1, 3), 8, (0, 2))),
    ("/m/07qjznt", "Tick", partial(clatter, (1, 5), 0.01, (2000, 6500), (1, 4))),
    ("/m/07jdr", "Train", partial(clatter, (3, 9), 0.25, (80, 1500), (15, 60))),
    ("/m/02mk9", "Engine", partial(motor, (12, 90), (3, 8), (-12, 0), (300, 2000), (4, 30), 0.6)),
    ("/m/03wvsk", "Hair dryer", partial(motor, (150, 400), (4, 9), (3, 14), (800, 3500), (0.5, 3), 0.1)),
    ("/m/04fgwm", "Electric toothbrush", partial(motor, (120, 300), (1, 5), (-15, -3), (1500, 5000), (40, 90), 0.8)),
    ("/m/0d31p", "Vacuum cleaner", partial(motor, (180, 600), (5, 10), (0, 12), (500, 3000), (1, 5), 0.15)),
    ("/m/02bm9n", "Ratchet, pawl", partial(clatter, (10, 40), 0.1, (1500, 6000), (1, 5))),
    ("/m/0l7xg", "Gears", partial(motor, (150, 900), (2, 7), (-15, -3), (700, 4000), (3, 30), 0.7)),
    ("/m/0llzx", "Sewing machine", partial(clatter, (6, 22), 0.03, (300, 4000), (3, 15))),
    ("/m/02x984l", "Mechanical fan", partial(motor, (50, 350), (6, 12), (0, 12), (200, 1200), (1, 30), 0.3)),
    ("/m/025wky1", "Air conditioning", partial(motor, (45, 130), (5, 12), (3, 15), (120, 700), (0.3, 2), 0.2)),
    ("/m/01m4t", "Printer", partial(clatter, (15, 70), 0.4, (800, 5000), (1, 8))),
    ("/m/0_ksk", "Power tool", partial(motor, (90, 500), (1, 4), (-8, 4), (1500, 5000), (5, 40), 0.5)),
    ("/m/01d380", "Drill", partial(motor, (200, 1000), (1, 5), (-10, 0), (1500, 4500), (0.5, 8), 0.4)),
    ("/m/07ptzwd", "Pump (liquid)", partial(motor, (20, 120), (4, 9), (-6, 6), (200, 1500), (0.8, 6), 0.9)),
]


# Files ----------------------------------------------------------------------------------------------------------------


def _recording(number: int, n: int, setup: Rng, rng: Rng) -> tuple[Wave, list[str]]:
    """``n`` samples of a class given by its place in the table, and the clip's labels (mids), loudest first."""
    mid, _, sound = CLASSES[number]
    x, labels = unit(sound(n, rng)), [mid]
    if setup.random() < 1 / 6:
        other, _, second = CLASSES[(number + int(setup.integers(1, len(CLASSES)))) % len(CLASSES)]
        labels.append(other)
        x += db(-setup.uniform(3, 9)) * unit(second(n, rng))
    x = microphone(x, rng, gain_sd=0, tilt_sd=1)
    # a recordist keeps peaks off the ceiling, so sparse sounds get a lower rms
    x *= min(float(db(rng.uniform(-42, -24))) / np.sqrt(np.mean(x**2)), 0.7 / np.abs(x).max())
    return x + db(rng.uniform(-65, -45)) * coloured_noise(n, rng.uniform(-6, -2), rng), labels


def _write_metadata(folder: Path, segments: dict[str, Segment]) -> None:
    """Write the table of segments (by YTID) and that of the classes."""
    folder.mkdir(parents=True, exist_ok=True)
    n, positives = len(segments), sum(len(labels) for _, _, labels in segments.values())
    lines = [
        "# Segments csv created for the synthetic demo",
        f"# num_ytids={n}, num_segs={n}, num_unique_labels={len(CLASSES)}, num_positive_labels={positives}",
        "# YTID, start_seconds, end_seconds, positive_labels",
        *(f'{y}, {a:.3f}, {b:.3f}, "{",".join(labels)}"' for y, (a, b, labels) in sorted(segments.items())),
    ]
    (folder / "balanced_train_segments.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    lines = ["index,mid,display_name", *(f'{i},{mid},"{name}"' for i, (mid, name, _) in enumerate(CLASSES))]
    (folder / "class_labels_indices.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_pool(folder: Path, *, seed: int, clip_seconds: float, clips_per_class: int) -> None:
    """Write an external pool of 28 sound classes in the file and metadata form of AudioSet.

    Args:
        folder: Gets ``audios/balanced_train_segments/Y<YTID>.wav``, ``metadata/balanced_train_segments.csv`` and
            ``metadata/class_labels_indices.csv`` (the classes used, numbered from 0).
        seed: Same arguments give the same bytes; more clips per class leave the earlier ones as they are.
        clip_seconds: Length of a clip in seconds; one in eight is shorter (75-100 %).
        clips_per_class: Clips whose first label is the class; one in six also has a second, quieter one.

    Raises:
        ValueError: ``clips_per_class`` is below 1 or ``clip_seconds`` below 0.5, or two clips drew the same YTID.
    """
    check_sizes(clip_seconds, clips_per_class=clips_per_class)
    segments: dict[str, Segment] = {}
    for number in range(len(CLASSES)):
        for index in range(clips_per_class):
            setup, rng = clip_generators((seed, SEED_OFFSET + number, 0, index), 2)
            n = clip_length(clip_seconds, setup)
            ytid = "".join(setup.choice(list(YTID_ALPHABET), 11))
            ytid = f"-{ytid[1:]}" if (number + index) % 10 == 0 else ytid  # as real ones, which trip up naive parsers
            if ytid in segments:
                message = f"YTID {ytid} drawn twice; choose another seed"
                raise ValueError(message)
            x, labels = _recording(number, n, setup, rng)
            start = 10.0 * int(setup.integers(0, 30))
            segments[ytid] = (start, start + n / SAMPLE_RATE, labels)
            write_wav(folder / "audios" / "balanced_train_segments" / f"Y{ytid}.wav", x)
    _write_metadata(folder / "metadata", segments)
