"""Composite labels: the M best candidates of a clip as one label (Top-M pseudo-labels, §3)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

Order = Literal["ranked", "sorted"]
ORDERS: tuple[Order, ...] = ("ranked", "sorted")
# The paper's values of M.
EVERY_M = (1, 3, 5, 7, 10, 13, 15)
# Above this share of clips that are alone in their class, a network can only memorise them.
MOST_ALONE = 0.5


class ClassCounts(NamedTuple):
    """The classes of a machine type for one M."""

    m: int
    order: Order
    clips: int
    classes: int
    singletons: float
    """Share of the classes that have a single clip."""
    clips_alone: float
    """Share of the clips that are alone in their class."""
    entropy: float
    """Of the classes, in bits."""


def composite(candidates: Sequence[str], m: int, order: Order) -> tuple[str, ...]:
    """Return the best ``m`` candidates, or all if there are fewer: the parts of a composite label.

    Args:
        candidates: the best first.
        order: "ranked" keeps the order (paper: "a_b_c" is not "b_a_c"), "sorted" makes a set of them.
    """
    best = tuple(candidates[:m])
    return tuple(sorted(best)) if order == "sorted" else best


def class_counts(candidates: Sequence[Sequence[str]], m: int, order: Order) -> ClassCounts:
    """Return how the composite labels divide the clips of one machine type.

    Args:
        candidates: of each clip, the best first; at least one clip.
    """
    sizes = np.array(list(Counter(composite(each, m, order) for each in candidates).values()))
    share = sizes / sizes.sum()
    return ClassCounts(
        m,
        order,
        int(sizes.sum()),
        len(sizes),
        float(np.mean(sizes == 1)),
        float(np.sum(sizes == 1) / sizes.sum()),
        # Plus zero: no negative zero.
        float(-(share * np.log2(share)).sum() + 0),
    )


def warnings_of(counts: Sequence[ClassCounts], order: Order) -> Iterator[str]:
    """Yield what is wrong with the classes of a machine type, and for which M.

    Classes explode if more than half of the clips are alone in their class. They collapse if there is one class,
    where M = 1 has more.

    Args:
        counts: of one machine type; M = 1 among them.
        order: of the composite labels that are looked at.
    """
    having = [each for each in counts if each.order == order]
    first = next(each.classes for each in having if each.m == 1)
    if first == 1:
        yield "all clips have the same best candidate, so M = 1 has one class: nothing to tell apart"
    exploded = [str(each.m) for each in having if each.clips_alone > MOST_ALONE]
    collapsed = [str(each.m) for each in having if each.classes == 1 < first]
    if exploded:
        yield f"too many classes with M = {', '.join(exploded)} ({order}): most clips are alone in their class"
    if collapsed:
        yield f"one class with M = {', '.join(collapsed)} ({order}): nothing to tell apart"
