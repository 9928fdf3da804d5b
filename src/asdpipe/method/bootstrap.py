"""Which differences between systems are real: a paired bootstrap over test clips, and the scatter of seeds.

All systems are measured on the same drawn clips, so that clips that are hard for all do not blur the difference. Clips
are drawn within strata. Of n clips, n - 1 are drawn with replacement and count n / (n - 1) times (Rao and Wu 1988,
doi:10.1080/01621459.1988.10478591): drawing n would make intervals of a few clips too narrow.

Seeds are too few to be drawn: the intervals would be far too narrow. Their scatter is added instead, by Student's t
with the degrees of freedom that the seeds leave.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asdpipe.method.metrics import counted_clips

Floats = NDArray[np.float64]
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A difference of two systems, and its bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def is_real(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def strata(is_normal: NDArray[np.bool_], domain: NDArray[np.object_]) -> NDArray[np.int64]:
    """Return the stratum of every clip, (clips,): label and domain; label alone if a domain has a single clip of it."""
    domains = np.unique(domain.astype(str), return_inverse=True)[1]
    joint = 2 * domains + is_normal
    for label in (False, True):
        of_label = is_normal == label
        if of_label.any() and np.unique(joint[of_label], return_counts=True)[1].min() < 2:
            joint[of_label] = label - 2
    return np.unique(joint, return_inverse=True)[1].astype(np.int64)


def clip_weights(stratum: NDArray[np.int64], draws: int, rng: np.random.Generator) -> Floats:
    """Return how often every clip counts, (1 + draws, clips): once in the first row, then as drawn within strata.

    The weights of a stratum sum to its number of clips; the only clip of a stratum always counts once.
    """
    weights = np.ones((1 + draws, len(stratum)))
    for each in np.unique(stratum):
        clips = np.flatnonzero(stratum == each)
        if len(clips) > 1:
            share = np.full(len(clips), 1 / len(clips))
            weights[1:, clips] = rng.multinomial(len(clips) - 1, share, draws) * (len(clips) / (len(clips) - 1))
    return weights


def weighted_auc(is_normal: NDArray[np.bool_], score: Floats, weights: Floats, max_fpr: float | None = None) -> Floats:
    """Return the area under the ROC curve of weighted clips, (draws,).

    Args:
        is_normal, score: (clips,); larger scores are more anomalous.
        weights: (draws, clips), of which both labels have some.
        max_fpr: area up to this false-positive rate, McClish-standardised; None: the whole area.
    """
    if max_fpr is None:
        above = 0.5 + np.sign(score[~is_normal, None] - score[is_normal]) / 2
        anomalous, normal = weights[:, ~is_normal], weights[:, is_normal]
        return np.sum(anomalous @ above * normal, axis=1) / (anomalous.sum(axis=1) * normal.sum(axis=1))
    order = np.argsort(-score, kind="stable")
    levels = np.flatnonzero(np.diff(score[order], prepend=np.inf))

    def rate(counted: NDArray[np.bool_]) -> Floats:
        of_level = np.add.reduceat(weights[:, order] * counted[order], levels, axis=1)
        passed = np.cumsum(of_level, axis=1)
        return np.pad(passed, ((0, 0), (1, 0))) / passed[:, -1:]

    false, true = rate(is_normal), rate(~is_normal)
    step = np.diff(false, axis=1)
    width = np.clip(max_fpr - false[:, :-1], 0, step)
    # Clips with equal scores pass together: a straight line.
    rise = np.divide(np.diff(true, axis=1) * width, step, out=np.zeros_like(step), where=step > 0)
    area = np.sum(width * (true[:, :-1] + rise / 2), axis=1)
    chance = max_fpr**2 / 2
    return 0.5 * (1 + (area - chance) / (max_fpr - chance))


def weighted_metric(
    name: str, is_normal: NDArray[np.bool_], domain: NDArray[np.object_], score: Floats, weights: Floats
) -> Floats:
    """Return a metric of ``metrics.evaluate``, not the official score, for weighted clips, (draws,).

    It is NaN without normal or anomalous clips. Other arguments as for ``weighted_auc``; domain: (clips,).
    """
    kept, max_fpr = counted_clips(name, is_normal, domain)
    if is_normal[kept].all() or not is_normal[kept].any():
        return np.full(len(weights), np.nan)
    return weighted_auc(is_normal[kept], score[kept], weights[:, kept], max_fpr)


def difference(a: Floats, b: Floats, paired: bool, rng: np.random.Generator) -> Interval:
    """Return ``a`` minus ``b``, with the 95 % interval of clips and seeds.

    One seed has no scatter: the interval is that of its training alone.

    Args:
        a, b: a metric of two systems, (1 + draws, seeds): of all clips, then of the drawn ones.
        paired: whether the columns are of the same seeds.
    """
    drawn = a[1:].mean(axis=1) - b[1:].mean(axis=1)
    columns = [each for each in ([a[0] - b[0]] if paired else [a[0], b[0]]) if len(each) > 1]
    squares = np.array([each.var(ddof=1) / len(each) for each in columns])
    if squares.sum() > 0:
        # Welch's; n - 1 for pairs.
        freedom = squares.sum() ** 2 / sum(
            square**2 / (len(each) - 1) for square, each in zip(squares, columns, strict=True)
        )
        drawn = drawn + np.sqrt(squares.sum()) * rng.standard_t(freedom, len(drawn))
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(a[0].mean() - b[0].mean()), float(low), float(high))


def safest(differences: Mapping[tuple[int, int], Interval], systems: int) -> tuple[int, float]:
    """Return the system that the others can surpass by the least, and by how much at most.

    Args:
        differences: first minus second, by their numbers; each pair once.
    """
    regret = np.zeros(systems)
    for (first, second), interval in differences.items():
        regret[first] = max(regret[first], -interval.low)
        regret[second] = max(regret[second], interval.high)
    return int(regret.argmin()), float(regret.min())
