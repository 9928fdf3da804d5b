"""Pseudo-labels: clusters within each machine type and domain."""

import numpy as np
import pytest

from asdpipe.method.pseudo_labels import pseudo_labels

MACHINES = ("fan", "ToyCar", "valve")


def clusters(k_source: int, k_target: int) -> dict:
    return {"k_source": dict.fromkeys(MACHINES, k_source), "k_target": dict.fromkeys(MACHINES, k_target)}


PAPER = clusters(16, 4)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).sum(axis=1, keepdims=True))


def clips(seed: int = 0, source: int = 90, target: int = 10):
    """Three machine types that share one cloud of embeddings, in random order."""
    rng = np.random.default_rng(seed)
    machine = np.repeat(["fan", "ToyCar", "valve"], source + target)
    domain = np.tile(["source"] * source + ["target"] * target, 3)
    order = rng.permutation(len(machine))
    embedding = rng.normal(size=(len(machine), 6)) * rng.uniform(0.1, 10, (len(machine), 1))
    return embedding, machine[order].tolist(), domain[order].tolist()


def groups(machine, domain):
    pairs = np.array([f"{m}/{d}" for m, d in zip(machine, domain, strict=True)])
    return {pair: np.flatnonzero(pairs == pair) for pair in sorted(set(pairs))}


def test_every_machine_has_16_source_and_4_target_clusters_which_are_20_classes():
    embedding, machine, domain = clips()
    found = pseudo_labels(embedding, machine, domain, **PAPER, seed=0)
    assert found.reduced == []
    for pair, rows in groups(machine, domain).items():
        k = 16 if pair.endswith("source") else 4
        assert sorted(set(found.cluster[rows].tolist())) == list(range(k))
    for name in ("fan", "ToyCar", "valve"):
        classes = {(d, c) for m, d, c in zip(machine, domain, found.cluster, strict=True) if m == name}
        assert len(classes) == 20


def test_a_clips_label_is_the_nearest_centroid_of_its_own_machine_and_domain():
    embedding, machine, domain = clips()
    label = pseudo_labels(embedding, machine, domain, **PAPER, seed=0).cluster
    vectors = unit(embedding)
    for rows in groups(machine, domain).values():
        k = label[rows].max() + 1
        # At the fixed point of k-means the centroid of a cluster is the mean of its clips.
        centroids = np.array([vectors[rows[label[rows] == j]].mean(axis=0) for j in range(k)])
        for row in rows:
            distances = ((vectors[row] - centroids) ** 2).sum(axis=1)
            assert distances[label[row]] <= distances.min() + 1e-4


def test_clusters_of_a_machine_and_domain_do_not_depend_on_the_other_clips():
    embedding, machine, domain = clips()
    label = pseudo_labels(embedding, machine, domain, **PAPER, seed=0).cluster
    for rows in groups(machine, domain).values():
        changed = np.random.default_rng(9).normal(size=embedding.shape)
        changed[rows] = embedding[rows]
        again = pseudo_labels(changed, machine, domain, **PAPER, seed=0).cluster
        np.testing.assert_array_equal(again[rows], label[rows])


def test_target_clips_that_sound_like_source_clips_still_get_clusters_of_their_own():
    directions = np.eye(4)
    embedding = np.concatenate([np.repeat(directions, 5, axis=0), directions[:2], directions[:2]])
    domain = ["source"] * 20 + ["target"] * 4
    found = pseudo_labels(embedding, ["fan"] * 24, domain, **clusters(4, 2), seed=0)
    assert len({tuple(found.cluster[5 * i : 5 * i + 5]) for i in range(4)}) == 4
    assert all(len(set(found.cluster[5 * i : 5 * i + 5])) == 1 for i in range(4))
    assert sorted(found.cluster[20:22].tolist()) == [0, 1]
    assert found.cluster[22:].tolist() == found.cluster[20:22].tolist()


def test_separate_clusters_are_found_whatever_the_length_of_the_embeddings():
    rng = np.random.default_rng(0)
    true = rng.permutation(np.repeat(np.arange(16), 8))
    embedding = np.eye(16)[true] + 0.05 * rng.normal(size=(128, 16))
    embedding *= rng.uniform(0.01, 100, (128, 1))
    label = pseudo_labels(embedding, ["fan"] * 128, ["source"] * 128, **PAPER, seed=0).cluster
    assert len(set(zip(true.tolist(), label.tolist(), strict=True))) == 16
    assert len(set(label.tolist())) == 16


@pytest.mark.parametrize("repeats", [1, 3])
def test_fewer_distinct_clips_than_clusters_are_reported_and_get_one_cluster_each(repeats):
    embedding = np.concatenate([np.repeat(np.eye(8)[:5], repeats, axis=0), np.eye(8)[:3]])
    domain = ["source"] * (5 * repeats) + ["target"] * 3
    found = pseudo_labels(embedding, ["valve"] * len(domain), domain, **PAPER, seed=0)
    assert found.reduced == [("valve", "source", 5, 16), ("valve", "target", 3, 4)]
    assert sorted(set(found.cluster[: 5 * repeats].tolist())) == list(range(5))
    assert sorted(found.cluster[5 * repeats :].tolist()) == [0, 1, 2]


def test_exactly_as_many_distinct_clips_as_clusters_are_not_reported():
    found = pseudo_labels(np.eye(4), ["fan"] * 4, ["target"] * 4, **PAPER, seed=0)
    assert found.reduced == []
    assert sorted(found.cluster.tolist()) == [0, 1, 2, 3]


def test_pseudo_labels_are_determined_by_the_seed():
    embedding, machine, domain = clips()
    first, second, other = (pseudo_labels(embedding, machine, domain, **PAPER, seed=seed).cluster for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_every_machine_type_has_its_own_numbers_of_clusters():
    embedding, machine, domain = clips()
    source, target = {"fan": 2, "ToyCar": 5, "valve": 16}, {"fan": 4, "ToyCar": 1, "valve": 3}
    found = pseudo_labels(embedding, machine, domain, k_source=source, k_target=target, seed=0)
    for pair, rows in groups(machine, domain).items():
        name, part = pair.split("/")
        wanted = (source if part == "source" else target)[name]
        assert sorted(set(found.cluster[rows].tolist())) == list(range(wanted))
        same = pseudo_labels(embedding, machine, domain, **clusters(source[name], target[name]), seed=0)
        np.testing.assert_array_equal(found.cluster[rows], same.cluster[rows])
