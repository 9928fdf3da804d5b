"""Clips that are repeated or cut to a length."""

import numpy as np
import pytest

from asdpipe.data.audio import tile


@pytest.mark.parametrize("length", [1, 3, 7, 10, 12, 25])
@pytest.mark.parametrize("offset", [0, 1, 6, 24])
def test_tile_reads_the_endlessly_repeated_clip_from_the_offset(length, offset):
    clip = np.arange(length, dtype=np.int16) * 11
    expected = [clip[(offset + i) % length] for i in range(10)]
    tiled = tile(clip, 10, offset)
    assert tiled.dtype == np.int16
    assert tiled.tolist() == expected


def test_tile_at_offset_zero_starts_with_the_clip_and_cuts_a_longer_one():
    assert tile(np.array([1, 2, 3], dtype=np.int16), 7).tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert tile(np.array([1, 2, 3], dtype=np.int16), 2).tolist() == [1, 2]
    assert tile(np.array([1, 2, 3], dtype=np.int16), 3).tolist() == [1, 2, 3]


def test_tile_of_an_empty_clip_is_an_error():
    with pytest.raises(ValueError, match="empty"):
        tile(np.zeros(0, dtype=np.int16), 5)
