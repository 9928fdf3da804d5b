"""Decode clips to 16 kHz samples, prefetching in threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asdpipe.data.reading import BadClip, Source

# Decoded clips per thread that may wait: enough to keep a GPU busy, little memory.
PREFETCH = 8


class Clip(NamedTuple):
    """A clip before decoding."""

    clip_id: str
    name: str
    """Its name in messages."""
    source: Source | BadClip


class Decoded(NamedTuple):
    """A clip after decoding."""

    clip_id: str
    name: str
    """Its name in messages."""
    samples: NDArray[np.int16] | BadClip
    """16 kHz mono, or the reason why the clip is bad."""


def decoded(clips: Iterable[Clip], read: Callable[[Source], NDArray[np.int16]], threads: int = 1) -> Iterator[Decoded]:
    """Yield every clip decoded, in order.

    Args:
        read: returns 16 kHz mono samples, or raises BadClip.
        threads: number of threads that decode while the caller processes finished clips; 0: the caller decodes.
    """

    def decode(clip: Clip) -> Decoded:
        if isinstance(clip.source, BadClip):
            return Decoded(clip.clip_id, clip.name, clip.source)
        try:
            return Decoded(clip.clip_id, clip.name, read(clip.source))
        except BadClip as reason:
            return Decoded(clip.clip_id, clip.name, reason)

    if not threads:
        yield from map(decode, clips)
        return
    waiting: deque[Future[Decoded]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for clip in clips:
            waiting.append(pool.submit(decode, clip))
            if len(waiting) > PREFETCH * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
