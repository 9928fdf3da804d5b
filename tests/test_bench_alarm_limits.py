"""The measurement of alarm limits, on scores whose rates are known."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, gamma

from asdpipe.method.representatives import decision_threshold
from benchmarks.alarm_limits import RATES, SEEDS, false_alarms, inside, reachable, table_of


def test_the_band_is_that_of_the_binomial_distribution():
    low = next(number for number in range(201) if binom.cdf(number, 200, 0.05) >= 0.025)
    high = next(number for number in range(201) if binom.cdf(number, 200, 0.05) >= 0.975)
    assert np.flatnonzero(inside(np.arange(201), 200, 0.05))[[0, -1]].tolist() == [low, high]


def test_what_a_single_split_can_reach_is_what_exchangeable_clips_do():
    rng = np.random.default_rng(0)
    found = np.concatenate([false_alarms(rng.normal(size=80), 0.1, np.inf, rng)[:5, 0] for _ in range(100)])
    assert inside(found, 40, 0.1).mean() == pytest.approx(reachable(40, 40, 0.1), abs=0.07)
    assert reachable(40, 40, 0.1) < 0.9


def test_limits_from_scores_of_training_clips_are_found_too_low():
    rng = np.random.default_rng(0)
    known, new = gamma.rvs(4, size=300, random_state=rng) / 10 - 1, gamma.rvs(4, size=200, random_state=rng) / 8 - 1
    scores = pd.DataFrame({"machine": "fan", "domain": "source", "score": new, "seed": np.repeat(SEEDS, 100)})
    limits = {"fan": {rate: decision_threshold(known, 1 - rate) for rate in RATES}}
    table = table_of(scores, limits).set_index("rate")
    for rate, row in table.iterrows():
        assert row.conformal == pytest.approx(rate, abs=0.02)
        assert row.conformal_in_band
        # Of the distribution of the new scores, above the quantile of the old.
        expected = gamma.sf(gamma.ppf(1 - rate, 4, scale=0.1), 4, scale=0.125)
        assert row.threshold == pytest.approx(expected, abs=0.06)
    assert not table.threshold_in_band.any()
