"""Fused scores against scipy's ranks and plain formulas, and what their scales depend on."""

import numpy as np
import pytest
from scipy.stats import percentileofscore

from asdpipe.method.fusion import fuse, rank, z_score

RNG = np.random.default_rng(0)
# Two methods of very different scales: 40 training clips, then 30 test clips.
SCORES = np.stack([RNG.normal(-0.9, 0.02, 70), RNG.gamma(3, 200, 70)])
IS_TRAIN = np.arange(70) < 40


def test_z_scores_have_the_mean_and_the_deviation_of_the_training_scores():
    fused = fuse(SCORES, IS_TRAIN, "z_score")
    expected = []
    for values in SCORES:
        mean = sum(values[:40]) / 40
        deviation = (sum((value - mean) ** 2 for value in values[:40]) / 40) ** 0.5
        expected.append((values - mean) / deviation)
    np.testing.assert_allclose(fused, (expected[0] + expected[1]) / 2)


def test_ranks_of_training_scores_are_their_mean_percentiles():
    training = np.round(SCORES[1, :40], -2)
    assert len(np.unique(training)) < 40
    expected = [percentileofscore(training, value, kind="mean") / 100 for value in training]
    np.testing.assert_allclose(rank(training, training), expected)


def test_ranks_between_training_scores_are_interpolated_and_beyond_them_the_order_is_kept():
    training = np.array([1.0, 2.0, 4.0])
    deviation = np.std(training)
    scores = np.array([-np.inf, -9, 0, 1, 1.5, 3, 4, 5, 1e6, np.inf])
    expected = [-9 - 1, 0 - 1]
    expected = [1 / 6 + each / (-each + deviation) for each in expected]
    expected += [1 / 6, 2 / 6, 4 / 6, 5 / 6, 5 / 6 + 1 / (1 + deviation), 5 / 6 + 1, np.inf]
    found = rank(scores, training)
    assert found[0] == -np.inf
    assert found[1:] == pytest.approx(expected, abs=1e-5)
    assert (np.diff(found[1:]) > 0).all()
    many = np.sort(RNG.normal(size=1000))
    assert (np.diff(rank(many, training)) > 0).all()


@pytest.mark.parametrize("scale", ["z_score", "rank"])
def test_scales_come_from_the_training_clips_alone(scale):
    fused = fuse(SCORES, IS_TRAIN, scale)
    changed = SCORES.copy()
    changed[:, 45:] = RNG.normal(size=(2, 25)) * 1e4
    np.testing.assert_array_equal(fuse(changed, IS_TRAIN, scale)[:45], fused[:45])
    np.testing.assert_array_equal(fuse(SCORES[:, :45], IS_TRAIN[:45], scale), fused[:45])


@pytest.mark.parametrize("scale", ["z_score", "rank"])
def test_fused_scores_do_not_depend_on_the_unit_of_a_method(scale):
    other = np.stack([3 + 1000 * SCORES[0], SCORES[1] / 7])
    np.testing.assert_allclose(fuse(other, IS_TRAIN, scale), fuse(SCORES, IS_TRAIN, scale), atol=1e-9)


@pytest.mark.parametrize("scale", ["z_score", "rank"])
def test_a_method_fused_with_itself_keeps_the_order_of_all_clips(scale):
    fused = fuse(np.stack([SCORES[1], SCORES[1]]), IS_TRAIN, scale)
    np.testing.assert_array_equal(np.argsort(fused), np.argsort(SCORES[1]))


@pytest.mark.parametrize("scaled", [z_score, rank])
def test_equal_infinite_or_missing_training_scores_leave_finite_numbers_in_order(scaled):
    tests = np.array([-1.0, 0.1 + 0.2, 0.5, 7.0])
    for training in (np.array([0.1 + 0.2, 0.3, 0.3]), np.array([0.3]), np.array([])):
        found = scaled(tests, training)
        assert np.isfinite(found).all()
        assert (np.diff(found) > 0).all()
        assert abs(found).max() < 10


@pytest.mark.parametrize("scale", ["z_score", "rank"])
def test_infinite_training_scores_take_no_part_in_the_scale_and_stay_infinite(scale):
    scores = np.concatenate([[[np.inf], [5.0]], SCORES], axis=1)
    fused = fuse(scores, np.arange(71) < 41, scale)
    assert fused[0] == np.inf
    assert np.isfinite(fused[1:]).all()
    alone = fuse(scores[:1, 1:], IS_TRAIN, scale)
    np.testing.assert_array_equal(fuse(scores[:1], np.arange(71) < 41, scale)[1:], alone)
