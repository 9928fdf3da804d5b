"""The bootstrap: weights of clips, metrics of weighted clips, and intervals that cover the truth."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from asdpipe.method.bootstrap import (
    Interval,
    clip_weights,
    difference,
    safest,
    strata,
    weighted_auc,
    weighted_metric,
)
from asdpipe.method.metrics import METRICS, evaluate


def labels(clips: int) -> tuple[np.ndarray, np.ndarray]:
    """Return label and domain of as many clips, a quarter each."""
    return np.arange(clips) < clips // 2, np.array(["source", "target"] * (clips // 2), dtype=object)


@pytest.mark.parametrize("decimals", [8, 1, 0])
@pytest.mark.parametrize("max_fpr", [None, 0.1])
def test_areas_of_weighted_clips_are_those_of_scikit_learn(decimals, max_fpr):
    rng = np.random.default_rng(0)
    is_normal, domain = labels(60)
    # Many are equal.
    score = np.round(rng.normal(size=60) + ~is_normal, decimals)
    weights = clip_weights(strata(is_normal, domain), 20, rng)
    expected = [roc_auc_score(~is_normal, score, sample_weight=each, max_fpr=max_fpr) for each in weights]
    np.testing.assert_allclose(weighted_auc(is_normal, score, weights, max_fpr), expected, atol=1e-12)


def test_metrics_of_all_clips_are_those_of_the_evaluation():
    rng = np.random.default_rng(1)
    is_normal, domain = rng.random(50) < 0.6, rng.choice(["source", "target"], 50).astype(object)
    score = np.round(rng.normal(size=50) + ~is_normal, 1)
    known = evaluate(is_normal, domain, score)
    for name in METRICS[:-1]:
        found = weighted_metric(name, is_normal, domain, score, np.ones((1, 50)))
        assert found[0] == pytest.approx(known[name], abs=1e-12)
    assert np.isnan(weighted_metric("auc_target", is_normal, np.full(50, "source"), score, np.ones((1, 50)))).all()


def test_clips_are_drawn_within_strata_with_the_variance_of_a_mean():
    rng = np.random.default_rng(2)
    stratum = np.repeat([0, 1, 2], [4, 9, 1])
    weights = clip_weights(stratum, 20_000, rng)
    assert (weights[0] == 1).all()
    assert (weights[:, 13] == 1).all()
    values = rng.normal(size=14)
    for each, count in ((0, 4), (1, 9)):
        clips = stratum == each
        np.testing.assert_allclose(weights[:, clips].sum(axis=1), count)
        means = weights[1:, clips] @ values[clips] / count
        assert means.mean() == pytest.approx(values[clips].mean(), abs=0.02)
        # Drawing all n would give (n - 1) / n of it.
        assert means.var() == pytest.approx(values[clips].var(ddof=1) / count, rel=0.04)


def test_a_domain_with_one_clip_of_a_label_is_drawn_with_the_other():
    is_normal = np.array([True] * 4 + [False] * 5)
    domain = np.array(["source", "source", "target", "target", "source", "source", "source", "source", "target"])
    assert strata(is_normal, domain.astype(object)).tolist() == [*[1, 1, 2, 2], *[0] * 5]
    assert len(set(strata(is_normal, np.full(9, "", dtype=object)))) == 2


def coverage(seeds: int, truth: float, repetitions: int = 250) -> float:
    """Return how often the interval of two systems with Gaussian scores holds the true difference of their AUC.

    Half of a score is the clip's, the same for both systems. A seed shifts all anomalous clips of one system.
    """
    covered = 0
    is_normal, domain = labels(40)
    for number in range(repetitions):
        rng = np.random.default_rng(number)
        weights, clip = clip_weights(strata(is_normal, domain), 200, rng), rng.normal(size=40)
        found = []
        for shift in (1.0, 1.0 + truth):
            aucs = []
            for _ in range(seeds):
                of_seed = rng.normal(0, 0.5) if seeds > 1 else 0
                score = (clip + rng.normal(size=40)) / np.sqrt(2) + (shift + of_seed) * ~is_normal
                aucs.append(weighted_auc(is_normal, score, weights))
            found.append(np.stack(aucs, axis=1))
        interval = difference(*found, paired=number % 2 == 0, rng=rng)
        # Scores of two clips differ by N(shift, 2) plus the seed's N(0, 0.25).
        spread = np.sqrt(2 + (0.25 if seeds > 1 else 0))
        true = stats.norm.cdf(1 / spread) - stats.norm.cdf((1 + truth) / spread)
        covered += interval.low <= true <= interval.high
    return covered / repetitions


@pytest.mark.parametrize(("seeds", "truth"), [(1, 0.0), (1, 1.0), (3, 0.0), (3, 0.7)])
def test_intervals_hold_the_true_difference_as_often_as_they_say(seeds, truth):
    # 95 % of 250: 0.92 to 0.975 in 95 % of all cases; the t of few seeds is a little cautious.
    assert 0.91 <= coverage(seeds, truth) <= 0.99


def test_the_same_clips_for_both_make_the_interval_short():
    rng = np.random.default_rng(3)
    is_normal, domain = labels(100)
    hard = rng.normal(size=100) + ~is_normal
    scores = [hard + 0.1 * rng.normal(size=100) for _ in range(2)]
    both = clip_weights(strata(is_normal, domain), 500, rng)
    apart = clip_weights(strata(is_normal, domain), 500, rng)

    def width(*weights: np.ndarray) -> float:
        aucs = [weighted_auc(is_normal, *each)[:, None] for each in zip(scores, weights, strict=True)]
        interval = difference(*aucs, paired=True, rng=rng)
        return interval.high - interval.low

    assert width(both, both) < width(both, apart) / 4


@pytest.mark.parametrize("paired", [True, False])
def test_the_scatter_of_seeds_is_that_of_students_t(paired):
    a, b = np.array([70.0, 74, 72]), np.array([60.0, 65, 67])
    found = difference(np.tile(a, (200_001, 1)), np.tile(b, (200_001, 1)), paired, np.random.default_rng(4))
    assert found.value == pytest.approx(8)
    test = stats.ttest_rel(a, b) if paired else stats.ttest_ind(a, b, equal_var=False)
    assert found[1:] == pytest.approx(test.confidence_interval(0.95), abs=0.15)


def test_one_seed_has_the_interval_of_its_clips():
    a, b = np.arange(1001.0)[:, None], np.zeros((1001, 1))
    found = difference(a, b, True, np.random.default_rng(5))
    assert found == pytest.approx((0, *np.quantile(np.arange(1, 1001), [0.025, 0.975])))


def test_the_safest_is_the_one_that_others_surpass_by_the_least():
    differences = {(0, 1): Interval(1, -2, 4), (0, 2): Interval(-1, -6, 4), (1, 2): Interval(-2, -3, -1)}
    # Others surpass the first by up to 6, the second by 4, the third by 4: by 0 of the second alone.
    assert safest(differences, 3) == (1, 4)
    assert safest({(0, 1): Interval(3, 1, 5)}, 2) == (0, 0)
    assert Interval(3, 1, 5).is_real
    assert not Interval(0, 0, 0).is_real
