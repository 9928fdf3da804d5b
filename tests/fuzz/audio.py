"""Audio files: every format that is read, damaged in every way, and headers that promise the absurd."""

import io
import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from asdpipe.data.audio import to_float
from asdpipe.data.reading import BadClip, read_clip, read_header
from asdpipe.models.log_mel import LogMelStatistics
from tests.fuzz import mutations
from tests.fuzz.harness import Case

RATES = (0, 1, 7, 100, 8000, 16_000, 44_100, 655_350, 2**31 - 1, 2**32 - 1)
CHANNELS = (0, 1, 2, 8, 255, 1024, 65_535)
BITS = (0, 1, 8, 15, 16, 24, 32, 64, 65_535)
SIZES = (0, 1, 3, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 1)
# Format and subtype of whole files; of those that this libsndfile writes.
FORMATS = (
    *(("wav", subtype) for subtype in ("PCM_16", "PCM_24", "PCM_U8", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM")),
    ("flac", "PCM_16"),
    ("flac", "PCM_24"),
    ("ogg", "VORBIS"),
    ("ogg", "OPUS"),
    ("mp3", "MPEG_LAYER_III"),
)


def cases(seed: int, first: int, last: int, folder: Path) -> Iterator[Case]:
    """Yield audio files; they stay in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, last):
        rng = np.random.default_rng([seed, number])
        suffix, data, how = _file(rng, number)
        path = folder / f"{number:04d}_{how}.{suffix}"
        path.write_bytes(data)
        yield Case(path.name, lambda path=path: read(path), (path.name,))


def read(path: Path) -> str:
    """Read a file and its contents, which must agree; what is read must be sound with finite features."""
    results = []
    for source in (path, path.read_bytes()):
        try:
            read_header(source)
            results.append(read_clip(source, min_seconds=0.1))
        except BadClip as reason:
            assert str(reason)
            assert "\n" not in str(reason)
            results.append(str(reason))
    one, other = results
    assert type(one) is type(other), (one, other)
    if isinstance(one, str):
        assert one == other
        return "skip"
    # Decoded twice, an mp3 differs by rounding.
    assert np.allclose(one, other, rtol=0, atol=1)
    assert len(one) >= 1
    assert one.any(), "read as silence"
    x = to_float(np.tile(one, -(-1600 // len(one)))[:160_000])
    features = LogMelStatistics(len(x))(torch.from_numpy(x)[None])
    assert features.isfinite().all()
    return "success"


def _file(rng: np.random.Generator, number: int) -> tuple[str, bytes, str]:
    """Return suffix, contents, and what was done: a third each of damage, of wrong headers, of odd but whole files."""
    suffix, subtype = FORMATS[number % len(FORMATS)]
    kind = number // len(FORMATS) % 3
    if kind == 2:
        return suffix, _odd(rng, suffix, subtype), "odd"
    data = _whole(rng, suffix, subtype)
    if kind == 0:
        mutation = mutations.ANYWHERE[rng.integers(len(mutations.ANYWHERE))]
        return suffix, mutation(data, rng), mutation.__name__
    if rng.random() < 0.5:
        mutation = rng.choice([mutations.flip_head, mutations.wrong_number])
        return suffix, mutation(data, rng), mutation.__name__
    if suffix == "wav":
        return suffix, _wrong_wav(rng, data), "header"
    if suffix == "flac":
        return suffix, _wrong_flac(rng, data), "header"
    return str(rng.choice(["wav", "flac", "ogg", "mp3"])), data, "suffix"


def _whole(rng: np.random.Generator, suffix: str, subtype: str, **facts: Any) -> bytes:
    rate, channels = facts.get("rate", 16_000), facts.get("channels", int(rng.integers(1, 3)))
    samples = facts.get("samples")
    if samples is None:
        samples = 0.1 * rng.standard_normal((int(rng.integers(4000, 16_000)), channels))
    rate = 16_000 if subtype == "OPUS" else rate
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=suffix.upper(), subtype=subtype)
    return buffer.getvalue()


def _odd(rng: np.random.Generator, suffix: str, subtype: str) -> bytes:
    """Return a whole file with a rate, a length, a number of channels or samples that are seldom met."""
    rate = int(rng.choice([1, 100, 8000, 11_025, 22_050, 44_100, 96_000, 192_000, 655_350]))
    channels = int(rng.choice([1, 1, 2, 3, 8, 9]))
    # Encoders crash on few frames, many channels, high rates, and what lies beyond full scale.
    lossy, pcm = suffix in ("ogg", "mp3"), subtype not in ("FLOAT", "DOUBLE")
    channels, rate = (min(channels, 2), min(rate, 96_000)) if lossy else (channels, rate)
    frames = 20_000 if lossy else int(rng.choice([0, 1, 2, 10, 1599, 1600, 20_000]))
    samples = rng.choice([1e-9, 1e-4, 0.1, 1.0, 1e4, 1e38]) * rng.standard_normal((frames, channels))
    if not pcm and frames and rng.random() < 0.5:
        samples[rng.integers(frames)] = rng.choice([np.nan, np.inf, -np.inf, 1e-45, 3e38])
    if rng.random() < 0.2:
        samples[:] = rng.choice([0.0, 0.25])
    if pcm:
        samples = np.clip(samples, -1, 1)
    try:
        return _whole(rng, suffix, subtype, rate=rate, channels=channels, samples=samples)
    except (soundfile.LibsndfileError, ValueError):
        # The format does not have such files: take what it has.
        return _whole(rng, suffix, subtype, channels=1, samples=samples[:, :1])


def _wrong_wav(rng: np.random.Generator, data: bytes) -> bytes:
    """Return a wav with other numbers in its format and sizes: 16-bit PCM or what it was."""
    fmt, content = data.index(b"fmt ") + 8, data.index(b"data") + 4
    channels, rate, bits, size = (int(rng.choice(each)) for each in (CHANNELS, RATES, BITS, SIZES))
    changes = [
        (fmt + 2, struct.pack("<H", channels)),
        (fmt + 4, struct.pack("<I", rate)),
        (fmt + 12, struct.pack("<H", channels * bits // 8 % 65_536)),
        (fmt + 14, struct.pack("<H", bits)),
        (fmt - 4, struct.pack("<I", size)),
        (content, struct.pack("<I", size)),
        (4, struct.pack("<I", size)),
    ]
    changed = bytearray(data)
    for pick in rng.choice(len(changes), size=rng.integers(1, 4), replace=False):
        place, value = changes[pick]
        changed[place : place + len(value)] = value
    return bytes(changed)


def _wrong_flac(rng: np.random.Generator, data: bytes) -> bytes:
    """Return a flac with other numbers in its stream info: 20 bits rate, 3 channels, 5 bits a sample, 36 samples."""
    place = data.index(b"fLaC") + 8 + 10
    value = int.from_bytes(data[place : place + 8], "big")
    fields = {"rate": (44, 20), "channels": (41, 3), "bits": (36, 5), "samples": (0, 36)}
    for name in rng.choice(list(fields), size=rng.integers(1, 3), replace=False):
        shift, width = fields[str(name)]
        new = int(rng.choice([0, 1, 2**width - 1, rng.integers(2**width)]))
        value = value & ~((2**width - 1) << shift) | new << shift
    return data[:place] + value.to_bytes(8, "big") + data[place + 8 :]


def kinds(last: int) -> set[str]:
    """Return the suffixes among the first inputs."""
    return {suffix for suffix, _ in itertools.islice(itertools.cycle(FORMATS), last)}
