"""Candidate labels against brute force, and clusters made by hand."""

from collections import Counter

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from asdpipe.method import candidates
from asdpipe.method.candidates import (
    availability,
    choose_strategy,
    own_labels,
    rank_by_clusters,
    rank_by_neighbours,
)

SPEEDS = ["spd_1", "spd_2", "spd_3"]


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """Enough for every clip to be out of some bag, and fast."""
    monkeypatch.setattr(candidates, "TREES", 30)


@pytest.mark.parametrize(
    ("labels", "k1", "expected"),
    [
        ([None] * 20, 15, "none"),
        (["spd_1"] * 19 + [None], 15, "partial"),
        (SPEEDS * 5, 15, "consistent"),
        # Fewer than 5 clips per label, or more labels than neighbours.
        (SPEEDS * 4, 15, "fragmented"),
        (SPEEDS * 5, 2, "fragmented"),
        # Labels of other fields; values, sections and words without a name are not fields.
        (["spd_1", "vel_1"] * 5, 15, "fragmented"),
        (["spd_1", "spd_1_mic_1"] * 5, 15, "fragmented"),
        (["00_spd_1", "01_spd_1"] * 5, 15, "consistent"),
        (["00_spd_1", "01_vel_1"] * 5, 15, "fragmented"),
        (["idle", "fast"] * 5, 15, "consistent"),
        (["car_A1_spd_28V", "car_B1_spd_31V"] * 5, 15, "consistent"),
        # One attribute only.
        (["spd_1"] * 5, 15, "consistent"),
        (["spd_1"] * 4, 15, "fragmented"),
    ],
)
def test_what_labels_are_like_chooses_the_strategy(labels, k1, expected):
    assert availability(labels, k1) == expected
    assert choose_strategy(labels, k1) == ("sample" if expected == "consistent" else "cluster")


def two_groups(per_label: int = 12, spread: float = 1.5, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Return features (clips, 6) of three overlapping labels, in random order, one feature far larger than the rest."""
    rng = np.random.default_rng(seed)
    index = rng.permutation(np.repeat(np.arange(3), per_label))
    features = 3 * np.eye(6)[index] + spread * rng.standard_normal((len(index), 6))
    features[:, 5] *= 1000
    return features.astype(np.float32), [SPEEDS[each] for each in index]


def brute_force(features: np.ndarray, labels: list[str | None], k1: int, seed: int) -> list[dict[str, float]]:
    """Return the labels of each clip's neighbours with their probability, by plain loops and scikit-learn's forest."""
    # As the forest of the package sees them: its splits compare float32 values.
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)
    known = [row for row, label in enumerate(labels) if label is not None]
    names = sorted({labels[row] for row in known})
    forest = RandomForestClassifier(candidates.TREES, oob_score=True, random_state=seed)
    forest.fit(scaled[known], [labels[row] for row in known])
    probability = forest.predict_proba(scaled)
    probability[known] = forest.oob_decision_function_
    found = []
    for row in range(len(scaled)):
        others = [other for other in known if other != row]
        others.sort(key=lambda other: np.sqrt(((scaled[row].astype(float) - scaled[other]) ** 2).sum()))
        found.append({labels[other]: probability[row, names.index(labels[other])] for other in others[:k1]})
    return found


@pytest.mark.parametrize("hidden", [0, 10])
def test_labels_of_the_nearest_neighbours_are_ranked_by_the_forests_out_of_bag_probabilities(hidden):
    features, labels = two_groups()
    labels = [None] * hidden + labels[hidden:]
    found = rank_by_neighbours(features, labels, k1=5, confidence=0, seed=3)
    expected = brute_force(features, labels, 5, 3)
    assert found.used == 5
    assert {len(each) for each in found.labels} > {1}
    for ranked, confidence, wanted in zip(found.labels, found.confidence, expected, strict=True):
        assert dict(zip(ranked, confidence, strict=True)) == pytest.approx(wanted)
        assert list(confidence) == sorted(confidence, reverse=True)


def test_only_confident_labels_are_kept_or_else_the_best():
    features, labels = two_groups()
    everything = rank_by_neighbours(features, labels, k1=15, confidence=0, seed=0)
    confident = rank_by_neighbours(features, labels, k1=15, confidence=0.9, seed=0)
    some = rank_by_neighbours(features, labels, k1=15, confidence=0.2, seed=0)
    assert any(each[0] <= 0.9 for each in everything.confidence)
    # Probabilities sum to 1, so above 0.5 one candidate is left, whatever M.
    assert [each[:1] for each in everything.labels] == confident.labels
    assert {len(each) for each in some.labels} == {1, 2, 3}
    for ranked, confidence, kept in zip(everything.labels, everything.confidence, some.labels, strict=True):
        above = sum(value > 0.2 for value in confidence)
        assert kept == ranked[: max(above, 1)]


def test_a_clip_is_not_its_own_neighbour_even_among_equal_clips():
    # Pairs of equal clips; the label of a clip is that of one other clip only: of its twin, or of nobody.
    features = np.repeat(np.eye(6), 2, axis=0)
    found = rank_by_neighbours(features, [f"spd_{row}" for row in range(12)], k1=1, confidence=0, seed=0)
    assert found.labels == [(f"spd_{row + 1 - 2 * (row % 2)}",) for row in range(12)]
    same = rank_by_neighbours(np.zeros((12, 3)), [f"spd_{row}" for row in range(12)], k1=5, confidence=0, seed=0)
    assert all(f"spd_{row}" not in ranked for row, ranked in enumerate(same.labels))
    assert {len(ranked) for ranked in same.labels} == {5}


def test_fewer_clips_than_neighbours_are_all_used_and_a_single_clip_keeps_its_label():
    features, labels = two_groups(per_label=2)
    found = rank_by_neighbours(features, labels, k1=15, confidence=0, seed=0)
    assert found.used == 5
    assert [set(ranked) for ranked in found.labels] == [set(labels)] * 6
    alone = rank_by_neighbours(features[:1], labels[:1], k1=15, confidence=0.9, seed=0)
    assert (alone.labels, alone.confidence, alone.used) == ([(labels[0],)], [(1.0,)], 0)
    one_known = rank_by_neighbours(features, [None, None, "spd_1", None, None, None], k1=15, confidence=0.9, seed=0)
    assert one_known.labels == [("spd_1",)] * 6


def test_one_label_only_is_every_clips_candidate():
    features, _ = two_groups()
    assert rank_by_neighbours(features, ["spd_1"] * 36, k1=15, confidence=0.9, seed=0).labels == [("spd_1",)] * 36


def test_without_out_of_bag_trees_the_neighbours_vote(monkeypatch):
    features, labels = two_groups(per_label=2)
    # The only tree was trained on some clips.
    monkeypatch.setattr(candidates, "TREES", 1)
    forest = RandomForestClassifier(1, oob_score=True, random_state=0)
    with pytest.warns(UserWarning, match="OOB"):
        forest.fit((features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9), labels)
    in_every_bag = np.nan_to_num(forest.oob_decision_function_).sum(axis=1) == 0
    assert 0 < in_every_bag.sum() < 6
    found = rank_by_neighbours(features, labels, k1=5, confidence=0, seed=0)
    for row in np.flatnonzero(in_every_bag):
        votes = Counter(labels[:row] + labels[row + 1 :])
        ranked = sorted(votes, key=lambda label: (-votes[label], label))
        assert found.labels[row] == tuple(ranked)
        assert found.confidence[row] == pytest.approx([votes[label] / 5 for label in ranked])


# Three far directions with clips around them, and how far each clip is from its own direction.
CENTRES = np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0.6, 0.8, 0]])


def around(counts: tuple[int, ...] = (3, 3, 3)) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings of any length near CENTRES, and the number of the centre of each."""
    rng = np.random.default_rng(0)
    of = np.repeat(np.arange(3), counts)
    vectors = CENTRES[of] + 0.01 * rng.standard_normal((len(of), 4))
    return vectors * rng.uniform(0.1, 10, (len(of), 1)), of


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def distances(embedding: np.ndarray, points: list[np.ndarray]) -> np.ndarray:
    return np.array([[np.linalg.norm(clip - point) for point in points] for clip in unit(embedding)])


def test_fragmented_labels_are_settled_by_the_majority_of_the_cluster():
    embedding, of = around((5, 4, 4))
    labels = ["b", "b", "b", "a", "c", *["d", "c", "c", "d"], *["a", "a", "a", "b"]]
    found = rank_by_clusters(embedding, labels, k2=3, seed=0)
    centroids = [unit(embedding)[of == number].mean(axis=0) for number in range(3)]
    # c and d are as frequent: the first in the alphabet counts.
    majority = ["b", "c", "a"]
    for row, distance in enumerate(distances(embedding, centroids)):
        order = np.argsort(distance)
        assert found.labels[row] == tuple(majority[each] for each in order)
        assert found.confidence[row] == pytest.approx(-distance[order], abs=1e-5)
    assert found.labels[3] == ("b", "a", "c") or found.labels[3] == ("b", "c", "a")
    assert found.used == 3


def test_a_label_of_several_clusters_is_a_candidate_once_at_the_smallest_distance():
    embedding, of = around()
    found = rank_by_clusters(embedding, ["a"] * 3 + ["b"] * 3 + ["a"] * 3, k2=3, seed=0)
    assert found.labels == [("a", "b")] * 3 + [("b", "a")] * 3 + [("a", "b")] * 3
    centroids = [unit(embedding)[of == number].mean(axis=0) for number in range(3)]
    # Of a clip near the second centre the third is nearer than the first.
    distance = distances(embedding, centroids)
    assert (distance[3:6, 2] < distance[3:6, 0]).all()
    np.testing.assert_allclose([each[1] for each in found.confidence[3:6]], -distance[3:6, 2], atol=1e-5)


def test_partial_labels_pass_to_unlabelled_clips_by_the_distance_to_labelled_representatives():
    embedding, of = around((5, 4, 3))
    # First cluster: b is most frequent. Second: a. Third: none has a label.
    labels = ["b", None, "b", "a", None, *[None, "a", None, None], *[None] * 3]
    found = rank_by_clusters(embedding, labels, k2=3, seed=0)
    scaled = unit(embedding)
    centroids = [scaled[of == number].mean(axis=0) for number in range(3)]
    nearest = min((0, 2, 3), key=lambda row: np.linalg.norm(scaled[row] - centroids[0]))
    points = [scaled[nearest], scaled[6], centroids[2]]
    own = next(label for label in found.labels[9] if label.startswith("cluster_"))
    assert found.labels[9][0] == own
    names = ["b", "a", own]
    for row, distance in enumerate(distances(embedding, points)):
        ranked = [names[each] for each in np.argsort(distance)]
        by_name = dict(zip(names, -distance, strict=True))
        if labels[row] is None:
            assert found.labels[row] == tuple(ranked)
            assert found.confidence[row] == pytest.approx([by_name[each] for each in ranked], abs=1e-5)
        else:
            # A labelled clip has its own label first.
            assert found.labels[row] == (labels[row], *(each for each in ranked if each != labels[row]))
            assert found.confidence[row][0] == 0
    assert found.labels[3][0] == "a"


def test_without_labels_the_clusters_numbers_are_ranked_by_distance():
    embedding, of = around()
    found = rank_by_clusters(embedding, [None] * 9, k2=3, seed=0)
    number = [found.labels[3 * centre][0] for centre in range(3)]
    assert sorted(number) == ["0", "1", "2"]
    centroids = [unit(embedding)[of == centre].mean(axis=0) for centre in range(3)]
    for row, distance in enumerate(distances(embedding, centroids)):
        assert found.labels[row] == tuple(number[each] for each in np.argsort(distance))


def test_fewer_distinct_clips_than_clusters_get_one_cluster_each():
    found = rank_by_clusters(np.repeat(np.eye(4), 2, axis=0), [None] * 8, k2=15, seed=0)
    assert found.used == 4
    assert {len(each) for each in found.labels} == {4}
    assert rank_by_clusters(np.eye(4)[:1], [None], k2=15, seed=0).labels == [("0",)]


def test_the_same_seed_gives_the_same_candidates():
    features, labels = two_groups()
    embedding = np.random.default_rng(0).standard_normal((80, 5))
    for seed in (0, 1):
        first, second = (rank_by_neighbours(features, labels, k1=9, confidence=0.1, seed=seed) for _ in range(2))
        assert first == second
        first, second = (rank_by_clusters(embedding, [None] * 80, k2=15, seed=seed) for _ in range(2))
        assert first == second


def test_direct_use_has_one_candidate_each():
    assert own_labels(["a", "b", "a"]).labels == [("a",), ("b",), ("a",)]
    assert own_labels(["a", "b"]).confidence == [(1.0,), (1.0,)]
