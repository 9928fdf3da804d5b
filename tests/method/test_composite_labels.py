"""Composite labels, and how they divide the clips of a machine type."""

import math

import numpy as np
import pytest

from asdpipe.method.composite_labels import EVERY_M, ORDERS, class_counts, composite, warnings_of


def test_a_composite_label_has_the_best_m_candidates_in_their_order_or_sorted():
    given = ("b", "c", "a")
    assert composite(given, 1, "ranked") == ("b",)
    assert composite(given, 2, "ranked") == ("b", "c")
    assert composite(given, 2, "sorted") == ("b", "c")
    assert composite(given, 3, "sorted") == ("a", "b", "c")
    # M larger than the number of candidates: all of them.
    assert composite(given, 15, "ranked") == given


def test_classes_are_counted_with_their_entropy_and_singletons():
    candidates = [("a", "b")] * 4 + [("b", "a")] * 2 + [("c",)] + [("a", "c")]
    found = class_counts(candidates, 2, "ranked")
    assert (found.clips, found.classes, found.singletons, found.clips_alone) == (8, 4, 0.5, 0.25)
    assert found.entropy == pytest.approx(0.5 * 1 + 0.25 * 2 + 2 * 0.125 * 3)
    first = class_counts(candidates, 1, "ranked")
    assert (first.classes, first.singletons) == (3, 1 / 3)
    assert first.entropy == pytest.approx(-(5 * math.log2(5 / 8) + 2 * math.log2(1 / 4) + math.log2(1 / 8)) / 8)
    assert class_counts(candidates, 2, "sorted").classes == 3
    one = class_counts([("a",)] * 3, 1, "ranked")
    assert (one.entropy, math.copysign(1, one.entropy)) == (0, 1)


def warned(candidates, order="ranked") -> list[str]:
    return list(warnings_of([class_counts(candidates, m, order) for order in ORDERS for m in EVERY_M], order))


def test_classes_that_explode_or_collapse_are_named():
    rng = np.random.default_rng(0)
    numbers = [str(number) for number in range(15)]
    # Random orders of 15 clusters. There are 455 sets of 3, 105 of 13, and one of 15.
    shuffled = [tuple(rng.permutation(numbers)) for _ in range(200)]
    (exploded,) = warned(shuffled)
    sets, collapsed = warned(shuffled, "sorted")
    assert exploded == "too many classes with M = 3, 5, 7, 10, 13, 15 (ranked): most clips are alone in their class"
    assert sets == "too many classes with M = 3, 5, 7, 10 (sorted): most clips are alone in their class"
    assert collapsed == "one class with M = 15 (sorted): nothing to tell apart"
    assert warned([("a", "b")] * 5 + [("b", "c")] * 5) == []


def test_one_label_only_is_named_once():
    (only,) = warned([("a",)] * 8)
    assert only == "all clips have the same best candidate, so M = 1 has one class: nothing to tell apart"
