"""What happens to bytes: on bad disks, in broken downloads, in the hands of somebody who means harm."""

from collections.abc import Callable

import numpy as np

Rng = np.random.Generator
Mutation = Callable[[bytes, Rng], bytes]


def flip_bits(data: bytes, rng: Rng) -> bytes:
    """Flip one to twenty bits anywhere."""
    return _flipped(data, rng, len(data))


def flip_head(data: bytes, rng: Rng) -> bytes:
    """Flip one to twenty bits where headers are."""
    return _flipped(data, rng, min(len(data), 100))


def flip_tail(data: bytes, rng: Rng) -> bytes:
    """Flip one to twenty bits where parquet and zip have their listings."""
    tail = min(len(data), 1500)
    return data[:-tail] + _flipped(data[-tail:], rng, tail)


def truncate(data: bytes, rng: Rng) -> bytes:
    """Cut the end off."""
    return data[: rng.integers(len(data))]


def cut_out(data: bytes, rng: Rng) -> bytes:
    """Lose a piece."""
    start, end = sorted(rng.integers(len(data), size=2).tolist())
    return data[:start] + data[min(end, start + 4096) :]


def insert(data: bytes, rng: Rng) -> bytes:
    """Gain a piece of noise."""
    place = rng.integers(len(data))
    return data[:place] + rng.bytes(int(rng.integers(1, 300))) + data[place:]


def blank(data: bytes, rng: Rng) -> bytes:
    """Have a block of zeros or ones, as disks that fail do."""
    place, size = int(rng.integers(len(data))), int(rng.choice([8, 512, 4096]))
    kept = data[:place] + rng.choice([b"\0", b"\xff"]) * size + data[place + size :]
    return kept[: len(data)]


def repeat(data: bytes, rng: Rng) -> bytes:
    """Come twice."""
    return data + data[rng.integers(len(data)) :]


def noise(data: bytes, rng: Rng) -> bytes:
    """Be something else, perhaps with the right first bytes."""
    return data[: int(rng.choice([0, 4, 16, 44]))] + rng.bytes(int(rng.integers(5000)))


def wrong_number(data: bytes, rng: Rng) -> bytes:
    """Have an absurd number where headers are, two or four bytes in either order."""
    size = int(rng.choice([2, 4]))
    value = int(rng.choice([0, 1, 2, 255, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1])) % 256**size
    place = int(rng.integers(4, min(len(data), 64)))
    return data[:place] + value.to_bytes(size, rng.choice(["little", "big"])) + data[place + size :]


ANYWHERE: tuple[Mutation, ...] = (flip_bits, truncate, cut_out, insert, blank, repeat, noise)


def _flipped(data: bytes, rng: Rng, most: int) -> bytes:
    changed = np.frombuffer(data, np.uint8).copy()
    if most:
        places = rng.integers(most, size=rng.integers(1, 21))
        np.bitwise_xor.at(changed, places, (1 << rng.integers(8, size=len(places))).astype(np.uint8))
    return changed.tobytes()
