"""Representatives, anomaly scores and thresholds (paper §3.3, eq. 2-6; §4.1.1).

scikit-learn and scipy are imported where they are used, because importing them takes longer than most steps.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asdpipe.method.distances import city_block

Floats = NDArray[np.floating]
Similarity = Literal["cosine", "dot"]
"""Cosine (eq. 5), or dot product of the unit embedding and the unnormalised centroid (released code)."""


class Representatives(NamedTuple):
    """Representatives of one machine type (eq. 2-4): source centroids first, then target clips."""

    vectors: NDArray[np.float32]
    """(representatives, dim). A centroid is a mean of unit vectors, so it is shorter than 1."""
    is_source: NDArray[np.bool_]
    """(representatives,)."""
    clip: NDArray[np.int64]
    """(representatives,): row of the training clip that is the representative or is nearest to the centroid."""


def normalize(vectors: Floats) -> NDArray[np.float32]:
    """Return vectors (n, dim) scaled to unit length; a zero vector stays zero."""
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def cluster(vectors: Floats, k: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return centroids (k', dim) and the index of each vector's nearest centroid (n,).

    k-means++ with 10 initialisations. k' is k, or the number of distinct vectors if that is smaller.
    """
    from sklearn.cluster import KMeans

    k = min(k, len(np.unique(vectors, axis=0)))
    kmeans = KMeans(n_clusters=k, n_init=10, random_state=seed).fit(np.asarray(vectors, dtype=np.float32))
    return kmeans.cluster_centers_.astype(np.float32), kmeans.labels_.astype(np.int32)


def representatives(embedding: Floats, is_source: NDArray[np.bool_], k_source: int, seed: int) -> Representatives:
    """Return the representatives of one machine type's training clips (eq. 2-4).

    Source clips are clustered after L2-normalisation; every target clip is its own representative.

    Args:
        embedding: (clips, dim), original training clips only, no external clips.
        is_source: (clips,).
        k_source: centroids of the source clips.
        seed: seed of k-means.
    """
    unit = normalize(embedding)
    source, target = np.flatnonzero(is_source), np.flatnonzero(~is_source)
    vectors, clip = unit[target], target
    if len(source):
        centroids, _ = cluster(unit[source], k_source, seed)
        nearest = source[cosine(centroids, unit[source]).argmax(axis=1)]
        vectors, clip = np.concatenate([centroids, vectors]), np.concatenate([nearest, clip])
    return Representatives(vectors, np.arange(len(clip)) < len(clip) - len(target), clip)


def cosine(a: Floats, b: Floats) -> NDArray[np.float32]:
    """Return the cosine similarity (len(a), len(b)) of every row of ``a`` to every row of ``b`` (eq. 5)."""
    return np.clip(normalize(a) @ normalize(b).T, -1, 1)


def anomaly_scores(
    embedding: Floats, vectors: Floats, similarity: Similarity = "cosine"
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return -max similarity to the representatives (eq. 6) and the index of the nearest one, both (clips,).

    Args:
        embedding: (clips, dim), not necessarily of unit length.
        vectors: (representatives, dim), from ``representatives``.
        similarity: with "dot", centroids of wide clusters are shorter and so look farther away.
    """
    if similarity == "cosine":
        values = cosine(embedding, vectors)
    else:
        values = np.clip(normalize(embedding) @ np.asarray(vectors, dtype=np.float32).T, -1, 1)
    nearest = values.argmax(axis=1)
    return -values[np.arange(len(nearest)), nearest].astype(np.float64), nearest


def selection_threshold(training_scores: Floats) -> float:
    """Return a^thr, the largest score of the training clips of a machine type (§4.1.1)."""
    return float(np.max(training_scores))


def decision_threshold(training_scores: Floats, quantile: float) -> float:
    """Return the score above which a clip is called anomalous: a quantile of a gamma distribution.

    As in the DCASE baseline, the distribution is fitted to the distances 1 + score of the training clips, here without
    those that are their own representative. If all distances are equal, the threshold is that distance.

    Args:
        training_scores: (clips,), at least -1.
        quantile: in (0, 1); 0.9 in the DCASE baseline.
    """
    distance = 1 + np.asarray(training_scores, dtype=np.float64)
    positive = distance[distance > 1e-6]
    # A gamma distribution cannot be fitted to distances that differ only by rounding.
    if len(positive) < 2 or np.ptp(positive) < 1e-6 * np.mean(positive):
        return float(np.max(distance) - 1)
    from scipy import stats

    shape, _, scale = stats.gamma.fit(positive, floc=0)
    return float(stats.gamma.ppf(quantile, shape, scale=scale) - 1)


def nearest_neighbour(
    query: Floats, train: Floats, is_self: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the city-block distance to the nearest training clip and its row, both (queries,).

    Dimensions are standardised by mean and standard deviation over the training clips.

    Args:
        query: (queries, dim).
        train: (clips, dim).
        is_self: (queries, clips), True where the training clip is the query itself and is ignored.
    """
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-9
    distance = city_block((query - mean) / deviation, (train - mean) / deviation)
    distance[is_self] = np.inf
    nearest = distance.argmin(axis=1)
    return distance[np.arange(len(nearest)), nearest], nearest
