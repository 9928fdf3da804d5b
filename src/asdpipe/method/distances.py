"""Distances in NumPy alone, as scikit-learn and SciPy compute them: a bundle is scored where these are missing."""

import numpy as np
from numpy.typing import NDArray

# Rows at once, so that partial sums stay in the cache.
ROWS = 32

Points = NDArray[np.float64]


def euclidean(a: Points, b: Points) -> Points:
    """Return the Euclidean distance of every row of ``a`` to every row of ``b``, (len(a), len(b)).

    By scalar products, as in scikit-learn: equal rows may be apart by rounding.
    """
    squared = -2 * (a @ b.T)
    squared += np.einsum("ij,ij->i", a, a)[:, None]
    squared += np.einsum("ij,ij->i", b, b)
    np.maximum(squared, 0, out=squared)
    return np.sqrt(squared, out=squared)


def city_block(a: Points, b: Points) -> Points:
    """Return the sum of absolute differences of every row of ``a`` to every row of ``b``, (len(a), len(b))."""
    distance = np.zeros((len(a), len(b)))
    columns, others = np.ascontiguousarray(a.T), np.ascontiguousarray(b.T)
    for start in range(0, len(a), ROWS):
        part = distance[start : start + ROWS]
        difference = np.empty_like(part)
        # One dimension after the other, as in SciPy.
        for x, y in zip(columns[:, start : start + ROWS], others, strict=True):
            np.subtract(x[:, None], y, out=difference)
            np.abs(difference, out=difference)
            part += difference
    return distance
