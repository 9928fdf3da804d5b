"""The largest regions of a map."""

from itertools import product

import numpy as np

from asdpipe.method.regions import Region, largest_regions


def test_neighbouring_cells_are_one_region_and_the_largest_sum_is_first():
    values = np.zeros((5, 6))
    values[1:3, 1:4] = 2
    values[4, 5] = 5
    values[0, 5] = -9
    assert largest_regions(values, 3) == [Region(slice(1, 3), slice(1, 4)), Region(slice(4, 5), slice(5, 6))]
    assert largest_regions(values, 1) == [Region(slice(4, 5), slice(5, 6))]


def test_a_weak_cell_between_strong_ones_is_taken_in():
    values = np.zeros((1, 5))
    values[0, 1:4] = 3, 1, 3
    assert largest_regions(values, 1) == [Region(slice(0, 1), slice(1, 4))]


def test_regions_do_not_overlap():
    values = np.random.default_rng(0).normal(size=(8, 9))
    covered = np.zeros((8, 9), dtype=int)
    for region in largest_regions(values, 12):
        covered[region] += 1
    assert covered.max() == 1
    assert len(largest_regions(values, 3)) == 3


def test_a_map_without_positive_values_has_no_region():
    assert largest_regions(np.zeros((3, 3)), 3) == []
    assert largest_regions(np.full((2, 2), -1.0), 3) == []


def test_the_rectangle_is_the_best_of_all():
    rng = np.random.default_rng(1)
    for _ in range(20):
        values = rng.normal(size=(4, 5))
        (found,) = largest_regions(values, 1)
        above = values - values.max() / 2
        every = [
            above[top:bottom, left:right].sum()
            for top, left in product(range(4), range(5))
            for bottom, right in product(range(top + 1, 5), range(left + 1, 6))
        ]
        assert np.isclose(above[found].sum(), max(every))
