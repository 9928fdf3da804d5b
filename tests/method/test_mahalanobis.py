"""Shrinkage Mahalanobis distances against scikit-learn's LedoitWolf and scipy's distances."""

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from scipy.stats import gamma
from sklearn.covariance import LedoitWolf

from asdpipe.method.mahalanobis import ShrinkageMahalanobis

NO_TRAINING_CLIP = -1


def random_clips(clips: int, dim: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spread = np.linspace(0.2, 2, dim)
    return ((1 + rng.normal(size=(clips, dim)) * spread) * rng.uniform(0.1, 9, size=(clips, 1))).astype(np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(float)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def domains(source: int, target: int) -> np.ndarray:
    return np.random.default_rng(9).permutation(np.arange(source + target) < source)


def score(train: np.ndarray, is_source: np.ndarray, clips: np.ndarray, own: np.ndarray | None = None, **settings):
    scorer = ShrinkageMahalanobis(**{"per_domain": False, **settings}).fit(train, is_source)
    return scorer.score(clips, np.full(len(clips), NO_TRAINING_CLIP) if own is None else own)


def expected(points: np.ndarray, covariance_of: np.ndarray, clip: np.ndarray) -> tuple[float, int]:
    """Return the distance to the mean of some points and the nearest of them."""
    precision = np.linalg.inv(LedoitWolf().fit(covariance_of).covariance_)
    each = [mahalanobis(clip, point, precision) for point in points]
    return mahalanobis(clip, points.mean(axis=0), precision), int(np.argmin(each))


# More clips than dimensions, and the other way round.
@pytest.mark.parametrize(("clips", "dim"), [(60, 8), (12, 40), (3, 20)])
def test_scores_are_distances_to_the_mean_with_scikit_learns_covariance(clips, dim):
    train, test = random_clips(clips, dim, 1), random_clips(7, dim, 2)
    found = score(train, domains(clips - 1, 1), test)
    for clip, value, reference, row in zip(unit(test), *found, strict=True):
        distance, nearest = expected(unit(train), unit(train), clip)
        assert value == pytest.approx(distance, rel=1e-4)
        assert reference == row == nearest


@pytest.mark.parametrize("dim", [6, 40])
def test_per_domain_the_smaller_distance_counts(dim):
    is_source = domains(25, 6)
    train, test = random_clips(31, dim, 1), random_clips(9, dim, 2)
    train[~is_source] *= -1
    test = np.concatenate([test, train[~is_source][:2] + 0.01])
    found = score(train, is_source, test, per_domain=True)
    chosen = set()
    for clip, value, row in zip(unit(test), found.score, found.clip, strict=True):
        each = []
        for flags in (is_source, ~is_source):
            distance, nearest = expected(unit(train)[flags], unit(train)[flags], clip)
            each.append((distance, np.flatnonzero(flags)[nearest]))
        assert value == pytest.approx(min(each)[0], rel=1e-4)
        assert row == min(each)[1]
        chosen.add(bool(is_source[row]))
    assert chosen == {True, False}


def test_a_domain_of_two_clips_has_the_covariance_of_all_clips():
    is_source = np.arange(20) < 18
    train, test = random_clips(20, 8, 1), random_clips(5, 8, 2)
    train[18:] *= -1
    test = np.concatenate([test, -test])
    for clip, value in zip(unit(test), score(train, is_source, test, per_domain=True).score, strict=True):
        source, _ = expected(unit(train)[:18], unit(train)[:18], clip)
        target, _ = expected(unit(train)[18:], unit(train), clip)
        assert value == pytest.approx(min(source, target), rel=1e-4)


def test_two_clips_alone_have_distances_that_count_all_directions_alike():
    train, test = random_clips(2, 5, 1), random_clips(6, 5, 2)
    found, mean = score(train, np.array([True, False]), test).score, unit(train).mean(axis=0)
    ratio = found / np.linalg.norm(unit(test) - mean, axis=1)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


def test_the_only_clip_of_a_domain_has_the_covariance_of_all_and_does_not_count_for_itself():
    is_source = np.arange(20) < 19
    train = random_clips(20, 8, 1)
    test = np.concatenate([random_clips(5, 8, 2), train[19:] + 0.01, train[19:]])
    own = np.array([NO_TRAINING_CLIP] * 6 + [19])
    found = score(train, is_source, test, own, per_domain=True)
    for clip, value, itself in zip(unit(test), found.score, own, strict=True):
        source, _ = expected(unit(train)[:19], unit(train)[:19], clip)
        target, _ = expected(unit(train)[19:], unit(train), clip)
        assert value == pytest.approx(source if itself == 19 else min(source, target), rel=1e-4)
    assert found.clip[5] == 19
    assert found.clip[6] != 19


@pytest.mark.parametrize("per_domain", [True, False])
@pytest.mark.parametrize("is_source", [True, False])
def test_one_domain_alone_is_scored_as_all_clips(per_domain, is_source):
    train, test = random_clips(20, 8, 1), random_clips(5, 8, 2)
    found = score(train, np.full(20, is_source), test, per_domain=per_domain)
    np.testing.assert_allclose(found.score, score(train, domains(10, 10), test).score, rtol=1e-9)


@pytest.mark.parametrize("per_domain", [True, False])
def test_a_training_clip_is_not_its_own_reference(per_domain):
    train = random_clips(20, 8, 1)
    found = score(train, domains(15, 5), train, np.arange(20), per_domain=per_domain)
    assert (found.clip != np.arange(20)).all()
    assert np.isfinite(found.score).all()


@pytest.mark.parametrize("per_domain", [True, False])
def test_equal_clips_and_single_clips_keep_the_order_by_angle(per_domain):
    angle = np.radians([0, 1, 20, 180])
    clips = np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)
    for train in (np.repeat(clips[:1], 4, axis=0), clips[:1]):
        found = score(train, np.arange(len(train)) < 2, clips, per_domain=per_domain)
        assert np.isfinite(found.score).all()
        assert (np.diff(found.score) > 0).all()
    alone = score(clips[:1], np.array([True]), clips[:1], np.array([0]), per_domain=per_domain)
    assert alone.score.tolist() == [np.inf]


def test_the_limit_is_the_quantile_of_a_gamma_distribution_fitted_to_the_distances():
    train = random_clips(200, 8, 1)
    scorer = ShrinkageMahalanobis(per_domain=False).fit(train, domains(190, 10))
    distance = scorer.score(train, np.arange(200)).score
    shape, _, scale = gamma.fit(distance, floc=0)
    assert scorer.limit(distance, 0.9) == pytest.approx(gamma.ppf(0.9, shape, scale=scale), rel=1e-6)
    assert 0.05 < (distance > scorer.limit(distance, 0.9)).mean() < 0.15
