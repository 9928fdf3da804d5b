"""k-NN, SMOTE and rescaled scores against plain loops and constructed clusters."""

import math

import numpy as np
import pytest

from asdpipe.method.density import density_per_domain, local_density, rescaled_scores
from asdpipe.method.representatives import anomaly_scores, decision_threshold
from asdpipe.method.scorers import knn_scores
from asdpipe.method.smote import smote


def unit(x) -> np.ndarray:
    x = np.asarray(x, dtype=float)
    return x / math.sqrt(sum(float(each) ** 2 for each in x))


def cos(a, b) -> float:
    return float(unit(a) @ unit(b))


def chord(a, b) -> float:
    return math.sqrt(sum((float(x) - float(y)) ** 2 for x, y in zip(unit(a), unit(b), strict=True)))


def random_clips(clips: int, dim: int = 6, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(clips, dim)) * rng.uniform(0.1, 30, size=(clips, 1))).astype(np.float32)


def at_angles(*degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)


def domains(source: int, target: int) -> np.ndarray:
    """Flags in mixed order, so that rows of target clips are not simply the last ones."""
    return np.random.default_rng(9).permutation(np.arange(source + target) < source)


# ---------------------------------------------------------------- k-NN


def test_one_neighbour_gives_exactly_the_scores_and_the_nearest_ones_of_the_paper():
    clips, reference = random_clips(200, 16, 1), random_clips(40, 16, 2)
    score, nearest = knn_scores(clips, reference, domains(30, 10), 1)
    expected, expected_nearest = anomaly_scores(clips, reference)
    np.testing.assert_array_equal(score, expected)
    np.testing.assert_array_equal(nearest, expected_nearest)
    assert score.dtype == np.float64


@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_score_is_minus_the_mean_of_the_largest_cosines_in_the_nearer_domain(k):
    clips, reference, is_source = random_clips(30, seed=1), random_clips(25, seed=2), domains(16, 9)
    score, nearest = knn_scores(clips, reference, is_source, k)
    for clip, value, index in zip(clips, score, nearest, strict=True):
        per_domain = [
            -sum(sorted((cos(clip, each) for each in reference[flags]), reverse=True)[:k]) / k
            for flags in (is_source, ~is_source)
        ]
        assert value == pytest.approx(min(per_domain), abs=1e-5)
        assert index == max(range(25), key=lambda j: cos(clip, reference[j]))


def test_neighbours_of_one_domain_are_not_filled_up_with_the_other():
    # Two target references beside the clip; the third nearest of all is a source reference on the opposite side.
    reference, is_source = at_angles(10, 20, 180, 181, 182), np.array([False, False, True, True, True])
    score, nearest = knn_scores(at_angles(0), reference, is_source, 3)
    assert score[0] == pytest.approx(-(math.cos(math.radians(10)) + math.cos(math.radians(20))) / 2, abs=1e-6)
    assert nearest[0] == 0


@pytest.mark.parametrize("is_source", [True, False])
def test_one_domain_alone_is_plain_k_nn(is_source):
    clips, reference = random_clips(10, seed=1), random_clips(12, seed=2)
    score, _ = knn_scores(clips, reference, np.full(12, is_source), 4)
    for clip, value in zip(clips, score, strict=True):
        assert value == pytest.approx(-sum(sorted(cos(clip, each) for each in reference)[-4:]) / 4, abs=1e-5)


def test_more_neighbours_never_lower_a_score():
    clips, reference, is_source = random_clips(50, seed=1), random_clips(30, seed=2), domains(20, 10)
    scores = np.array([knn_scores(clips, reference, is_source, k)[0] for k in (1, 2, 4, 8, 16)])
    assert (np.diff(scores, axis=0) >= -1e-6).all()


def test_more_neighbours_than_references_are_all_references():
    clips, reference, is_source = random_clips(8, seed=1), random_clips(7, seed=2), domains(4, 3)
    np.testing.assert_array_equal(
        knn_scores(clips, reference, is_source, 99)[0], knn_scores(clips, reference, is_source, 4)[0]
    )


def test_a_clip_is_never_its_own_neighbour_but_its_duplicate_is():
    clips, is_source = random_clips(20), domains(15, 5)
    is_source[[3, 7]] = True
    clips[7] = clips[3]
    score, nearest = knn_scores(clips, clips, is_source, 1, np.eye(20, dtype=bool))
    for i in range(20):
        others = [j for j in range(20) if j != i]
        assert nearest[i] == max(others, key=lambda j: cos(clips[i], clips[j]))
        assert score[i] == pytest.approx(-max(cos(clips[i], clips[j]) for j in others), abs=1e-6)
    assert (nearest[3], nearest[7]) == (7, 3)
    assert score[[3, 7]] == pytest.approx([-1, -1], abs=1e-6)


def test_a_clip_that_does_not_count_leaves_the_mean_to_the_other_references():
    clips = at_angles(0, 30, 60)
    score, _ = knn_scores(clips, clips, np.ones(3, dtype=bool), 3, np.eye(3, dtype=bool))
    thirty, sixty = math.cos(math.radians(30)), math.cos(math.radians(60))
    assert score == pytest.approx([-(thirty + sixty) / 2, -thirty, -(thirty + sixty) / 2], abs=1e-6)


def test_the_only_target_clip_is_scored_against_the_source_and_a_clip_without_any_other_is_infinitely_far():
    clips = at_angles(0, 60)
    score, nearest = knn_scores(clips, clips, np.array([True, False]), 2, np.eye(2, dtype=bool))
    assert score == pytest.approx([-0.5, -0.5], abs=1e-6)
    assert nearest.tolist() == [1, 0]
    score, _ = knn_scores(clips, clips[:1], np.array([True]), 2, np.array([[True], [False]]))
    assert score == pytest.approx([np.inf, -0.5], abs=1e-6)


def test_scores_do_not_depend_on_the_length_of_embeddings():
    clips, reference, is_source = random_clips(30, seed=1), random_clips(25, seed=2), domains(16, 9)
    longer, shorter = reference * np.linspace(0.1, 50, 25)[:, None], clips * np.linspace(0.01, 9, 30)[:, None]
    np.testing.assert_allclose(
        knn_scores(shorter, longer, is_source, 3)[0], knn_scores(clips, reference, is_source, 3)[0], atol=1e-6
    )
    np.testing.assert_allclose(local_density(longer, 4), local_density(reference, 4), rtol=1e-5)
    np.testing.assert_allclose(
        rescaled_scores(shorter, longer, local_density(longer, 4), 2)[0],
        rescaled_scores(clips, reference, local_density(reference, 4), 2)[0],
        atol=1e-5,
    )


# ---------------------------------------------------------------- SMOTE


@pytest.mark.parametrize(
    ("source", "target", "ratio", "points"),
    [
        (990, 10, 0.2, 188),
        (990, 10, 0.05, 39),
        (990, 10, 1, 980),
        (990, 10, 0, 0),
        (990, 10, 0.01, 0),
        (990, 1, 0.2, 0),
        (990, 0, 0.2, 0),
        (0, 10, 0.2, 0),
        (20, 30, 0.5, 0),
        (40, 2, 0.5, 18),
    ],
)
def test_points_fill_the_target_clips_up_to_the_ratio_of_source_clips(source, target, ratio, points):
    is_source = domains(source, target)
    vectors, clips = smote(random_clips(source + target), is_source, ratio, 2, seed=0)
    assert vectors.shape == (points, 6)
    assert clips.shape == (points, 2)
    assert not is_source[clips].any()


def test_every_point_lies_between_a_target_clip_and_one_of_its_nearest_and_is_scaled_to_unit_length():
    embedding, is_source = random_clips(110), domains(100, 10)
    vectors, clips = smote(embedding, is_source, 1, 3, seed=0)
    target = np.flatnonzero(~is_source)
    near = {
        i: sorted((j for j in target if j != i), key=lambda j: -cos(embedding[i], embedding[j]))[:3] for i in target
    }
    for point, (one, other) in zip(vectors, clips, strict=True):
        assert other in near[one] or one in near[other]
        assert math.sqrt(sum(float(x) ** 2 for x in point)) == pytest.approx(1, abs=1e-6)
        # The point is s * one + t * other; before it was scaled, the weights were positive and summed to one.
        pair = np.column_stack([unit(embedding[one]), unit(embedding[other])])
        weights, residue, *_ = np.linalg.lstsq(pair, point.astype(float), rcond=None)
        assert residue.sum() < 1e-10
        assert weights[0] >= weights[1] > 0, "the nearer clip comes first"


def test_points_are_spread_over_all_target_clips_and_over_the_whole_way_between_them():
    embedding, is_source = random_clips(1010), domains(1000, 10)
    vectors, clips = smote(embedding, is_source, 1, 2, seed=0)
    # 990 points, 10 clips, each is an end of a fifth of them on average, and of half of those the nearer end.
    nearer = np.bincount(clips[:, 0], minlength=1010)[~is_source]
    assert nearer.min() >= 30
    way = np.empty(len(vectors))
    for i, (point, (one, other)) in enumerate(zip(vectors, clips, strict=True)):
        pair = np.column_stack([unit(embedding[one]), unit(embedding[other])])
        weights = np.linalg.lstsq(pair, point.astype(float), rcond=None)[0]
        way[i] = weights[1] / weights.sum()
    assert way.max() < 0.5 + 1e-5
    assert np.histogram(way, bins=5, range=(0, 0.5))[0].min() > 150


def test_any_of_the_k_nearest_target_clips_is_the_other_end_and_a_point_may_lie_nearer_to_it():
    # The clips at 0, 10 and 25 degrees: nobody is nearest to the last one, which is nearest to the one at 10.
    embedding, is_source = np.concatenate([at_angles(*range(100, 200)), at_angles(0, 10, 25)]), np.arange(103) < 100
    nearest, any_of_two = (set(map(tuple, smote(embedding, is_source, 1, k, 0).clips.tolist())) for k in (1, 2))
    assert nearest == {(100, 101), (101, 100), (101, 102), (102, 101)}
    assert any_of_two == nearest | {(100, 102), (102, 100)}


def test_points_are_determined_by_the_seed():
    embedding, is_source = random_clips(110), domains(100, 10)
    first, second, other = (smote(embedding, is_source, 0.5, 2, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.vectors, second.vectors)
    np.testing.assert_array_equal(first.clips, second.clips)
    assert not np.array_equal(first.vectors, other.vectors)


def test_source_clips_take_no_part_in_the_points():
    embedding, is_source = random_clips(110), domains(100, 10)
    changed = embedding.copy()
    changed[is_source] = random_clips(100, seed=5)
    np.testing.assert_array_equal(
        smote(embedding, is_source, 0.5, 2, 0).vectors, smote(changed, is_source, 0.5, 2, 0).vectors
    )


def test_two_target_clips_are_each_others_neighbours_however_many_are_asked_for():
    embedding, is_source = random_clips(22), np.arange(22) < 20
    _, clips = smote(embedding, is_source, 0.5, 5, seed=0)
    assert sorted(set(map(tuple, clips.tolist()))) == [(20, 21), (21, 20)]


def test_equal_target_clips_give_points_equal_to_them():
    embedding = np.concatenate([random_clips(40), np.repeat(random_clips(1, seed=3), 4, axis=0)])
    vectors, _ = smote(embedding, np.arange(44) < 40, 0.5, 2, seed=0)
    assert len(vectors) == 16
    np.testing.assert_allclose(vectors, np.tile(unit(embedding[-1]), (16, 1)), atol=1e-6)


def test_oversampling_only_brings_clips_nearer_and_what_is_made_of_a_training_clip_can_be_left_out():
    train, test, is_source = random_clips(110, seed=1), random_clips(50, seed=2), domains(100, 10)
    points = smote(train, is_source, 0.5, 2, seed=0)
    reference = np.concatenate([train, points.vectors])
    source = np.append(is_source, np.zeros(len(points.vectors), dtype=bool))
    plain, more = knn_scores(test, train, is_source, 1)[0], knn_scores(test, reference, source, 1)[0]
    assert (more <= plain + 1e-6).all()
    assert (more < plain - 1e-3).any()
    made_of = np.concatenate([np.repeat(np.arange(110)[:, None], 2, axis=1), points.clips])
    is_self = (made_of == np.arange(110)[:, None, None]).any(axis=2)
    score, nearest = knn_scores(train, reference, source, 1, is_self)
    for i in range(110):
        others = [j for j in range(len(reference)) if j != i and (j < 110 or i not in points.clips[j - 110])]
        assert score[i] == pytest.approx(-max(cos(train[i], reference[j]) for j in others), abs=1e-6)
        assert nearest[i] in others


# ---------------------------------------------------------------- local density


@pytest.mark.parametrize("k", [1, 3, 16])
def test_local_density_is_the_mean_distance_to_the_nearest_other_references(k):
    reference = random_clips(20)
    density = local_density(reference, k)
    assert density.dtype == np.float64
    for i in range(20):
        distances = sorted(chord(reference[i], reference[j]) for j in range(20) if j != i)[:k]
        assert density[i] == pytest.approx(sum(distances) / k, rel=1e-5)


def test_local_density_of_fewer_references_than_neighbours_is_of_all_others():
    reference = at_angles(0, 60, 90)
    sixty, thirty, ninety = 1, 2 * math.sin(math.radians(15)), math.sqrt(2)
    expected = [(sixty + ninety) / 2, (sixty + thirty) / 2, (ninety + thirty) / 2]
    assert local_density(reference, 16) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("k_density", [1, 4])
@pytest.mark.parametrize("k", [1, 3])
def test_rescaled_scores_equal_a_loop_over_distances_divided_by_the_density_of_the_reference(k, k_density):
    clips, reference = random_clips(15, seed=1), random_clips(20, seed=2)
    score, nearest = rescaled_scores(clips, reference, local_density(reference, k_density), k)
    assert score.dtype == np.float64
    for clip, value, index in zip(clips, score, nearest, strict=True):
        ratios = []
        for j in range(20):
            own = sorted(chord(reference[j], reference[i]) for i in range(20) if i != j)[:k_density]
            ratios.append(chord(clip, reference[j]) / (sum(own) / k_density))
        assert value == pytest.approx(sum(sorted(ratios)[:k]) / k - 1, abs=1e-4)
        assert index == ratios.index(min(ratios))


@pytest.mark.parametrize(("target", "k"), [(8, 1), (8, 3), (1, 1)])
def test_rescaled_scores_per_domain_take_densities_and_neighbours_within_each_and_the_lower_one(target, k):
    clips, reference, is_source = random_clips(15, seed=1), random_clips(12 + target, seed=2), domains(12, target)
    density = density_per_domain(reference, is_source, local_density(reference, 4), 4)
    score, nearest = rescaled_scores(clips, reference, density, k, is_source=is_source)
    for clip, value, index in zip(clips, score, nearest, strict=True):
        scores, ratios = [], {}
        for flags in (is_source, ~is_source):
            rows = np.flatnonzero(flags)
            own = {}
            for j in rows:
                # The only clip of a domain has its density among all.
                others = rows if len(rows) > 1 else range(len(reference))
                spacing = sorted(chord(reference[j], reference[i]) for i in others if i != j)[:4]
                own[j] = chord(clip, reference[j]) / (sum(spacing) / 4)
            scores.append(sum(sorted(own.values())[:k]) / min(k, len(rows)) - 1)
            ratios |= own
        assert value == pytest.approx(min(scores), abs=1e-4)
        assert index == min(ratios, key=ratios.__getitem__)


def test_a_clip_beside_a_sparse_domain_is_no_longer_more_anomalous_than_one_beside_a_dense_domain():
    # Source references are 1 degree apart, target references 10: a clip half a step away is normal in both.
    source, target = np.arange(0, 20), np.arange(90, 180, 10)
    reference = at_angles(*source, *target)
    is_source = np.arange(len(reference)) < len(source)
    clips = at_angles(9.5, 135, -5)  # amid the source, amid the target, five steps off the source
    plain, _ = knn_scores(clips, reference, is_source, 1)
    assert plain[0] < plain[1]
    assert plain[1] == pytest.approx(plain[2], abs=1e-6), "five degrees are five degrees to plain k-NN"
    score, nearest = rescaled_scores(clips, reference, local_density(reference, 2), 1)
    assert score[0] == pytest.approx(score[1], abs=0.01)
    assert score[0] == pytest.approx(-0.5, abs=0.01)
    # The first reference has neighbours at 1 and 2 degrees.
    assert score[2] == pytest.approx(5 / 1.5 - 1, abs=0.01)
    assert nearest[2] == 0


def test_the_nearest_reference_is_the_one_with_the_smallest_rescaled_distance():
    # 4 degrees from a dense reference (steps of 1), 6 from a sparse one (steps of 10).
    reference = at_angles(0, 1, 2, 12, 22, 32)
    _, nearest = rescaled_scores(at_angles(6), reference, local_density(reference, 1), 1)
    assert nearest[0] == 3


def test_equal_densities_keep_the_order_of_the_paper_s_scores():
    # All corners of a regular simplex have the same density.
    reference, clips = np.eye(8, dtype=np.float32), np.abs(random_clips(40, 8))
    score, nearest = rescaled_scores(clips, reference, local_density(reference, 3), 1)
    expected, expected_nearest = anomaly_scores(clips, reference)
    np.testing.assert_array_equal(np.argsort(score), np.argsort(expected))
    np.testing.assert_array_equal(nearest, expected_nearest)
    np.testing.assert_allclose(1 + score, np.sqrt(1 + expected), atol=1e-5)


def test_a_rescaled_training_clip_is_not_its_own_neighbour():
    train = random_clips(15)
    density = local_density(train, 4)
    score, nearest = rescaled_scores(train, train, density, 2, np.eye(15, dtype=bool))
    for i in range(15):
        ratios = {j: chord(train[i], train[j]) / density[j] for j in range(15) if j != i}
        assert nearest[i] == min(ratios, key=ratios.__getitem__)
        assert score[i] == pytest.approx(sum(sorted(ratios.values())[:2]) / 2 - 1, abs=1e-4)
    itself, _ = rescaled_scores(train, train, density, 1)
    np.testing.assert_allclose(itself, -1, atol=1e-5)


def test_duplicates_do_not_make_scores_infinite_or_undefined():
    reference = np.concatenate([np.repeat(random_clips(1, seed=3), 5, axis=0), random_clips(10)])
    density = local_density(reference, 3)
    assert (density > 0).all()
    assert density[:5].max() < density[5:].min()
    clips = np.concatenate([reference[:1], random_clips(20, seed=4)])
    score, nearest = rescaled_scores(clips, reference, density, 1)
    assert np.isfinite(score).all()
    assert score[0] == pytest.approx(-1, abs=1e-2)
    assert nearest[0] < 5
    assert (nearest[1:] >= 5).all(), "only a clip equal to the duplicates is near to them"


def test_references_that_are_all_the_same_keep_the_order_of_clips():
    reference = np.repeat(at_angles(0), 4, axis=0)
    score, _ = rescaled_scores(at_angles(0, 1, 20, 180), reference, local_density(reference, 16), 1)
    assert np.isfinite(score).all()
    assert (np.diff(score) > 0).all()
    assert score[0] == pytest.approx(-1, abs=1e-2)


def test_a_single_reference_leaves_the_distance_as_it_is():
    reference = at_angles(0)
    density = local_density(reference, 16)
    assert density.tolist() == [1]
    score, nearest = rescaled_scores(at_angles(0, 60, 180), reference, density, 5)
    assert score == pytest.approx([-1, 0, 1], abs=1e-6)
    assert nearest.tolist() == [0, 0, 0]
    alone, _ = rescaled_scores(reference, reference, density, 1, np.array([[True]]))
    assert alone.tolist() == [np.inf]


def test_a_zero_embedding_has_finite_scores():
    zero, reference, is_source = np.zeros((1, 6), dtype=np.float32), random_clips(12), domains(8, 4)
    assert knn_scores(zero, reference, is_source, 3)[0].tolist() == [0]
    assert np.isfinite(rescaled_scores(zero, reference, local_density(reference, 3), 1)[0]).all()


def test_references_are_left_as_they_were():
    reference, is_source = random_clips(12), domains(8, 4)
    before = reference.copy()
    smote(reference, is_source, 1, 2, 0)
    knn_scores(reference, reference, is_source, 2, np.eye(12, dtype=bool))
    rescaled_scores(reference, reference, local_density(reference, 3), 1, np.eye(12, dtype=bool))
    np.testing.assert_array_equal(reference, before)


def test_the_decision_threshold_takes_scores_of_every_back_end():
    train, is_source = random_clips(200, 16), domains(190, 10)
    same = np.eye(200, dtype=bool)
    for score in (
        knn_scores(train, train, is_source, 3, same)[0],
        rescaled_scores(train, train, local_density(train, 16), 1, same)[0],
    ):
        above = (score > decision_threshold(score, 0.9)).mean()
        assert 0.03 < above < 0.17
