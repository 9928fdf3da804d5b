"""The largest regions of a map: rectangles of neighbouring cells that do not overlap."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Of the largest value left: what a cell must exceed to enlarge a region.
SHARE = 0.5


class Region(NamedTuple):
    """A rectangle of cells."""

    rows: slice
    columns: slice


def largest_regions(values: NDArray[np.floating], count: int) -> list[Region]:
    """Return up to ``count`` rectangles with large positive values, from the largest sum to the smallest.

    A rectangle has the largest sum of its values minus half of the largest value that is left: a cell with less than
    that is only taken in where it connects others. Then its cells are left out, and the next one is looked for.

    Args:
        values: (rows, columns), finite.
    """
    left = np.array(values, dtype=np.float64)
    found: list[tuple[float, Region]] = []
    while len(found) < count and left.max() > 0:
        rows, columns = _best_rectangle(left - SHARE * left.max())
        found.append((float(np.sum(values[rows, columns])), Region(rows, columns)))
        left[rows, columns] = -np.inf
    return [region for _, region in sorted(found, key=lambda each: -each[0])]


def _best_rectangle(values: NDArray[np.float64]) -> Region:
    """Return the rectangle with the largest sum."""
    # Infinities have no differences; a rectangle with one cell of this is never the best.
    never = -1 - np.abs(values[np.isfinite(values)]).sum()
    finite = np.where(np.isfinite(values), values, never)
    sums = np.zeros((len(values) + 1, values.shape[1] + 1))
    sums[1:, 1:] = finite.cumsum(axis=0).cumsum(axis=1)
    top, bottom = np.triu_indices(len(sums), 1)
    left, right = np.triu_indices(sums.shape[1], 1)
    bands = sums[bottom] - sums[top]
    inside = bands[:, right] - bands[:, left]
    vertical, horizontal = np.unravel_index(inside.argmax(), inside.shape)
    return Region(
        slice(int(top[vertical]), int(bottom[vertical])), slice(int(left[horizontal]), int(right[horizontal]))
    )
