"""Prefetching: an item is made while the one before is used."""

import threading
import time

import pytest

from asdpipe.training.prefetch import prefetch


@pytest.mark.parametrize("count", [0, 1, 5])
def test_items_come_in_order_and_all(count):
    assert list(prefetch(iter(range(count)))) == list(range(count))


def test_the_next_item_is_made_while_one_is_used():
    made = [threading.Event() for _ in range(3)]

    def items():
        for number, each in enumerate(made):
            each.set()
            yield number

    following = prefetch(items())
    assert next(following) == 0
    assert made[1].wait(5)
    # Only one ahead.
    time.sleep(0.05)
    assert not made[2].is_set()


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        raise ValueError("no more")

    following = prefetch(items())
    assert next(following) == 1
    with pytest.raises(ValueError, match="no more"):
        next(following)


def test_whoever_stops_early_leaves_no_thread_behind():
    before = threading.active_count()
    following = prefetch(iter(range(100)))
    next(following)
    following.close()
    assert threading.active_count() == before
