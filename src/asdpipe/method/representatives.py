"""Representatives, anomaly scores and thresholds (paper §3.3, eq. 2-6; §4.1.1).

scikit-learn and scipy are imported where they are used: their imports take longer than most steps that need neither.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


class Representatives(NamedTuple):
    """Representatives of one machine type (eq. 2-4): source centroids first, then target clips."""

    vectors: NDArray[np.float32]
    """(representatives, dim)."""
    is_source: NDArray[np.bool_]
    """(representatives,)."""
    clip: NDArray[np.int64]
    """(representatives,): row of the training clip that is the representative, or lies nearest to the centroid."""


def normalize(vectors: Floats) -> NDArray[np.float32]:
    """Return vectors (n, dim) scaled to unit length; a zero vector stays zero."""
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def cluster(vectors: Floats, k: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return centroids (k', dim) and the nearest one of each vector (n,), by k-means (k-means++, best of 10 starts).

    k' is k, or the number of distinct vectors where there are fewer.
    """
    from sklearn.cluster import KMeans

    k = min(k, len(np.unique(vectors, axis=0)))
    kmeans = KMeans(n_clusters=k, n_init=10, random_state=seed).fit(np.asarray(vectors, dtype=np.float32))
    return kmeans.cluster_centers_.astype(np.float32), kmeans.labels_.astype(np.int32)


def representatives(embedding: Floats, is_source: NDArray[np.bool_], k_source: int, seed: int) -> Representatives:
    """Return the representatives of one machine type's training clips (eq. 2-4).

    Source clips are clustered after L2-normalisation; every target clip is its own representative.

    Args:
        embedding: (clips, dim), original training clips only: external clips never take part.
        is_source: (clips,).
        k_source: centroids of the source clips.
        seed: of k-means.
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
    """Return the cosine similarity of every row of ``a`` to every row of ``b`` (eq. 5)."""
    return np.clip(normalize(a) @ normalize(b).T, -1, 1)


def anomaly_scores(embedding: Floats, vectors: Floats) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return -max cosine to the representatives (eq. 6) and the index of the nearest one, both (clips,)."""
    similarity = cosine(embedding, vectors)
    nearest = similarity.argmax(axis=1)
    return -similarity[np.arange(len(nearest)), nearest].astype(np.float64), nearest


def selection_threshold(training_scores: Floats) -> float:
    """Return the largest score of a machine type's training clips, a^thr (§4.1.1)."""
    return float(np.max(training_scores))


def decision_threshold(training_scores: Floats, quantile: float) -> float:
    """Return the score above which a clip is called anomalous: a quantile of the gamma distribution of the scores.

    The gamma distribution is fitted to 1 + score, the distance, of clips that are not their own representative (the
    DCASE baseline's rule). Where all distances are the same, that distance decides.

    Args:
        training_scores: (clips,), each from -1 on.
        quantile: in (0, 1); the DCASE baseline takes 0.9.
    """
    distance = 1 + np.asarray(training_scores, dtype=np.float64)
    positive = distance[distance > 1e-6]
    # Distances that differ by rounding only have no distribution.
    if len(positive) < 2 or np.ptp(positive) < 1e-6 * np.mean(positive):
        return float(np.max(distance) - 1)
    from scipy import stats

    shape, _, scale = stats.gamma.fit(positive, floc=0)
    return float(stats.gamma.ppf(quantile, shape, scale=scale) - 1)


def nearest_neighbour(
    query: NDArray[np.floating], train: NDArray[np.floating], is_query: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the city-block distance to the nearest training clip and its row, both (queries,).

    Every dimension is scaled by its mean and standard deviation over the training clips.

    Args:
        query: (queries, dim); train: (clips, dim).
        is_query: (queries, clips), True where the training clip is the query itself and does not count.
    """
    from scipy.spatial.distance import cdist

    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-9
    distance = cdist((query - mean) / deviation, (train - mean) / deviation, "cityblock")
    distance[is_query] = np.inf
    nearest = distance.argmin(axis=1)
    return distance[np.arange(len(nearest)), nearest], nearest
