"""Distances are those of scikit-learn and SciPy."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import euclidean_distances

from asdpipe.method.distances import ROWS, city_block, euclidean


@pytest.mark.parametrize(("rows", "others", "dim"), [(1, 1, 1), (5, 7, 3), (ROWS + 8, 60, 384), (0, 3, 2)])
def test_distances_are_those_of_other_libraries(rows, others, dim):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((rows, dim)), rng.standard_normal((others, dim))
    assert np.array_equal(city_block(a, b), cdist(a, b, "cityblock"))
    if rows:
        # The order of sums within a product is that of the BLAS library, which differs with its build.
        np.testing.assert_allclose(euclidean(a, b), euclidean_distances(a, b), rtol=1e-12)
    assert (euclidean(b, b).diagonal() < 1e-5).all()
