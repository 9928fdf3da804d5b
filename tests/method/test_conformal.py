"""Conformal p-values and limits: by counting, by exact probabilities, and by simulation."""

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import binom

from asdpipe.method.conformal import alarm_limit, clips_needed, drift, p_values, smallest_rate

RATES = [Fraction(percent, 100) for percent in range(1, 21)]


def counted(score: float, calibration: list[float]) -> Fraction:
    """Return a p-value by its definition."""
    return Fraction(1 + sum(each >= score for each in calibration), 1 + len(calibration))


def test_p_values_count_calibration_clips_that_are_at_least_as_anomalous():
    rng = np.random.default_rng(0)
    for size in (0, 1, 2, 9, 50):
        # Few values, so that many are equal.
        calibration = rng.integers(0, 6, size).astype(float)
        scores = np.array([*np.arange(-1, 7), 2.5, -np.inf, np.inf])
        expected = [float(counted(score, calibration.tolist())) for score in scores]
        assert p_values(scores, calibration).tolist() == expected
    assert p_values([], np.ones(3)).shape == (0,)
    assert p_values(np.nan, np.ones(3)) == 0.25


def test_every_clip_of_a_group_takes_each_rank_equally_often():
    # Exchangeable: over all orders of five scores, the p-value of the last one is 1/5, ..., 5/5, each as often.
    found = [p_values(order[-1], np.array(order[:-1])) for order in permutations([0.1, 0.2, 0.3, 0.4, 0.5])]
    values, counts = np.unique(found, return_counts=True)
    assert values.tolist() == [0.2, 0.4, 0.6, 0.8, 1]
    assert counts.tolist() == [24] * 5
    # Equal scores make alarms rarer, never more frequent.
    tied = [float(p_values(order[-1], np.array(order[:-1]))) for order in permutations([0.1, 0.5, 0.5, 0.5, 0.5])]
    for rate in (0.2, 0.4, 0.6, 0.8):
        assert np.mean(np.array(tied) <= rate) <= rate


@pytest.mark.parametrize("size", [0, 3, 4, 9, 18, 19, 49, 98, 99, 100, 199])
def test_a_score_is_above_the_limit_exactly_where_its_p_value_is_at_most_the_rate(size):
    rng = np.random.default_rng(size)
    calibration = rng.integers(0, 1 + size // 2, size).astype(float)
    scores = np.arange(-1, 2 + size // 2, 0.5)
    found = p_values(scores, calibration)
    for rate in map(float, RATES):
        assert ((scores > alarm_limit(calibration, rate)) == (found <= rate)).all()


def test_limits_are_order_statistics_in_exact_arithmetic():
    for size in range(130):
        calibration = np.random.default_rng(size).permutation(size).astype(float)
        for rate in RATES:
            k = int(rate * (size + 1))
            expected = float(size - k) if k else np.inf
            assert alarm_limit(calibration, float(rate)) == expected, (size, rate)
            # Never the minimum, however few clips.
            assert size < 2 or alarm_limit(calibration, float(rate)) > 0


def test_the_least_number_of_clips_for_a_rate():
    for rate in [*RATES, Fraction(1, 3), Fraction(1, 2), Fraction(3, 4)]:
        needed = clips_needed(float(rate))
        assert Fraction(1, needed + 1) <= rate
        assert needed == 0 or Fraction(1, needed) > rate
        assert np.isfinite(alarm_limit(np.zeros(needed), float(rate)))
        assert needed == 0 or np.isinf(alarm_limit(np.zeros(needed - 1), float(rate)))
        assert smallest_rate(needed) <= float(rate)
    assert [clips_needed(rate) for rate in (0.01, 0.05, 0.1, 0.2)] == [99, 19, 9, 4]


@pytest.mark.parametrize("size", [9, 19, 60])
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2])
def test_the_rate_is_kept_whatever_the_scores_are(size, rate):
    rng = np.random.default_rng(7)
    runs = 3000
    # Heavy tails, and values that are often equal.
    for scores in (rng.standard_cauchy((runs, size + 1)), rng.poisson(2, (runs, size + 1)).astype(float)):
        calibration, new = scores[:, :size], scores[:, size]
        found = np.array([p_values(score, known) for score, known in zip(new, calibration, strict=True)])
        limits = np.array([alarm_limit(known, rate) for known in calibration])
        assert ((new > limits) == (found <= rate)).all()
        # Alarms of independent runs are binomial; the exact rate without ties is k / (n + 1).
        low, high = binom.interval(0.9999, runs, int(Fraction(str(rate)) * (size + 1)) / (size + 1))
        assert (found <= rate).sum() <= high
        if len(np.unique(scores)) == scores.size:
            assert (found <= rate).sum() >= low


def test_drift_is_told_from_chance():
    rng = np.random.default_rng(0)
    earlier = rng.normal(size=80)
    same = [drift(rng.normal(size=40), rng.normal(size=80)) for _ in range(200)]
    assert np.mean(np.array(same) < 0.05) < 0.12
    assert drift(rng.normal(1.5, size=40), earlier) < 1e-4
    assert drift(earlier, earlier) == 1
    # The published distribution of the largest difference of two samples: with 3 and 3 clips, 2 of 20 orders have 1.
    assert drift(np.array([4.0, 5, 6]), np.array([1.0, 2, 3])) == pytest.approx(0.1)
