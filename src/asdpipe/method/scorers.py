"""Scorers: the anomaly score of an embedding, given the training clips of its machine type.

For scores based on cosine or local density, 1 + score is a distance, as for the representatives of the paper (§3.3).
"""

from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from asdpipe.method.representatives import (
    Floats,
    Similarity,
    anomaly_scores,
    cosine,
    decision_threshold,
    nearest_neighbour,
    normalize,
    representatives,
)

# The cosine of unit vectors closer than this rounds to 1 in float32.
MIN_DENSITY = 1e-4
NONE = -1


class Scores(NamedTuple):
    """Anomaly scores of clips, and the reference that each is based on."""

    score: NDArray[np.float64]
    """(clips,), larger is more anomalous."""
    reference: NDArray[np.int64]
    """(clips,): index of the nearest representative or training clip; -1: none."""
    clip: NDArray[np.int64]
    """(clips,): row of the training clip that the reference belongs to; -1: none."""


class Scorer(Protocol):
    """Scores the clips of one machine type."""

    def fit(self, embedding: Floats, is_source: NDArray[np.bool_]) -> Self:
        """Fit to training clips: embeddings (clips, dim) and domains (clips,); return ``self``."""

    def score(self, embedding: Floats, own: NDArray[np.int64]) -> Scores:
        """Score clips.

        Args:
            embedding: (clips, dim).
            own: (clips,), row of the clip among the training clips; -1: not a training clip.
        """

    def limit(self, training_scores: Floats, quantile: float) -> float:
        """Return the score above which a clip is called anomalous, from the scores (clips,) of the training clips."""


class GammaLimit:
    """Decision threshold for scores of which 1 + score is a distance: a quantile of a gamma distribution."""

    def limit(self, training_scores: Floats, quantile: float) -> float:
        """Return the decision threshold."""
        return decision_threshold(training_scores, quantile)


class KMeans(GammaLimit):
    """Minus the largest similarity to k-means centroids of the source clips and all target clips (§3.3, eq. 2-6).

    Args:
        k_source: centroids of the source clips.
        seed: seed of k-means.
        similarity: see ``anomaly_scores``.
    """

    def __init__(self, k_source: int, seed: int, similarity: Similarity) -> None:
        self.k_source, self.seed, self.similarity = k_source, seed, similarity

    def fit(self, embedding: Floats, is_source: NDArray[np.bool_]) -> Self:
        """Compute the representatives."""
        found = representatives(embedding, is_source, self.k_source, self.seed)
        return self.of(found.vectors, found.clip)

    def of(self, vectors: Floats, clip: NDArray[np.int64]) -> Self:
        """Use existing representatives (n, dim), which belong to the training clips in rows ``clip`` (n,)."""
        self.vectors, self.clip = vectors, clip
        return self

    def score(self, embedding: Floats, own: NDArray[np.int64]) -> Scores:
        """Score clips."""
        score, nearest = anomaly_scores(embedding, self.vectors, self.similarity)
        return Scores(score, nearest, self.clip[nearest])


class NearestNeighbours(GammaLimit):
    """Minus the mean cosine to the nearest training clips of the nearer domain (``knn_scores``).

    Args:
        neighbours: nearest training clips per domain.
        smote_ratio, smote_neighbours, seed: see ``smote``.
    """

    def __init__(self, neighbours: int, smote_ratio: float, smote_neighbours: int, seed: int) -> None:
        self.neighbours, self.smote_ratio, self.smote_neighbours = neighbours, smote_ratio, smote_neighbours
        self.seed = seed

    def fit(self, embedding: Floats, is_source: NDArray[np.bool_]) -> Self:
        """Store the training clips and synthetic target clips."""
        self.references = references(embedding, is_source, self.smote_ratio, self.smote_neighbours, self.seed)
        return self

    def is_self(self, own: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which references are the clip itself or synthetic clips made from it, (clips, references)."""
        return (self.references.clips == own[:, None, None]).any(axis=2)

    def score(self, embedding: Floats, own: NDArray[np.int64]) -> Scores:
        """Score clips."""
        known = self.references
        score, nearest = knn_scores(embedding, known.vectors, known.is_source, self.neighbours, self.is_self(own))
        return Scores(score, nearest, known.clips[nearest, 0])


class DensityRescaled(NearestNeighbours):
    """Distance to the nearest training clips divided by their local density, minus 1 (``rescaled_scores``).

    Args:
        neighbours: nearest training clips, of both domains together.
        smote_ratio, smote_neighbours, seed: see ``smote``.
        density_neighbours: neighbours for the local density.
    """

    def __init__(
        self, neighbours: int, smote_ratio: float, smote_neighbours: int, density_neighbours: int, seed: int
    ) -> None:
        super().__init__(neighbours, smote_ratio, smote_neighbours, seed)
        self.density_neighbours = density_neighbours

    def score(self, embedding: Floats, own: NDArray[np.int64]) -> Scores:
        """Score clips."""
        known = self.references
        density = local_density(known.vectors, self.density_neighbours)
        score, nearest = rescaled_scores(embedding, known.vectors, density, self.neighbours, self.is_self(own))
        return Scores(score, nearest, known.clips[nearest, 0])


class CityBlock:
    """City-block distance to the nearest training clip, on standardised dimensions (``nearest_neighbour``)."""

    def fit(self, embedding: Floats, is_source: NDArray[np.bool_]) -> Self:
        """Store the training clips."""
        self.train = embedding.astype(np.float64)
        return self

    def score(self, embedding: Floats, own: NDArray[np.int64]) -> Scores:
        """Score clips."""
        is_self = own[:, None] == np.arange(len(self.train))
        score, nearest = nearest_neighbour(embedding.astype(np.float64), self.train, is_self)
        return Scores(score, nearest, nearest)

    def limit(self, training_scores: Floats, quantile: float) -> float:
        """Return the quantile of the scores: a gamma distribution does not fit sums of deviations."""
        return float(np.quantile(training_scores, quantile))


class ReconstructionError:
    """Mean squared error of the autoencoder (simple mode of the DCASE baseline)."""

    def fit(self, embedding: Floats, is_source: NDArray[np.bool_]) -> Self:
        """Do nothing: the embedding of a clip already consists of its distances."""
        return self

    def score(self, embedding: Floats, own: NDArray[np.int64]) -> Scores:
        """Score clips by their distances (clips, 3); NaN for a domain without training clips."""
        none = np.full(len(embedding), NONE)
        return Scores(self.distance(embedding).astype(np.float64), none, none)

    def distance(self, embedding: Floats) -> Floats:
        """Return the distance used as score, (clips,)."""
        return embedding[:, 0]

    def limit(self, training_scores: Floats, quantile: float) -> float:
        """Return the decision threshold; ``decision_threshold`` takes distances minus 1."""
        return decision_threshold(training_scores - 1, quantile) + 1


class SelectiveMahalanobis(ReconstructionError):
    """Smaller of the squared Mahalanobis distances to source and target (selective mode of the DCASE baseline)."""

    def distance(self, embedding: Floats) -> Floats:
        """Return the distance to the nearer domain, (clips,)."""
        return np.fmin(embedding[:, 1], embedding[:, 2])


class References(NamedTuple):
    """Training clips of one machine type, followed by synthetic target clips."""

    vectors: NDArray[np.float32]
    """(references, dim), of unit length."""
    is_source: NDArray[np.bool_]
    """(references,)."""
    clips: NDArray[np.int64]
    """(references, 2): rows of the training clips that a synthetic clip lies between, the nearer first; of a training
    clip its own row, twice."""


class Synthetic(NamedTuple):
    """Synthetic target clips of one machine type."""

    vectors: NDArray[np.float32]
    """(points, dim), of unit length."""
    clips: NDArray[np.int64]
    """(points, 2): rows of the two target clips that the point lies between, the nearer one first."""


def references(embedding: Floats, is_source: NDArray[np.bool_], ratio: float, k: int, seed: int) -> References:
    """Return the training clips and those that ``smote`` adds; see ``smote`` for the arguments."""
    points = smote(embedding, is_source, ratio, k, seed)
    rows = np.arange(len(embedding))
    return References(
        np.concatenate([normalize(embedding), points.vectors]),
        np.concatenate([is_source, np.zeros(len(points.vectors), dtype=np.bool_)]),
        np.concatenate([np.column_stack([rows, rows]), points.clips]),
    )


def smote(embedding: Floats, is_source: NDArray[np.bool_], ratio: float, k: int, seed: int) -> Synthetic:
    """Oversample the target domain (SMOTE): points between target clips and their neighbours, at unit length.

    Points are added until there are ``ratio`` times as many target as source clips, rounded down. There are none if the
    target clips suffice or are fewer than two.

    Args:
        embedding: (clips, dim), training clips.
        is_source: (clips,).
        ratio: target over source clips; 0: no points.
        k: nearest target clips (by cosine), one of which is drawn as the other end; all if there are fewer.
        seed: seed of the random generator.
    """
    unit = normalize(embedding)
    target = np.flatnonzero(~is_source)
    count = int(ratio * (len(unit) - len(target)) - len(target))
    if count <= 0 or len(target) < 2:
        return Synthetic(unit[:0], np.zeros((0, 2), dtype=np.int64))
    distance = -cosine(unit[target], unit[target])
    np.fill_diagonal(distance, np.inf)
    neighbours = distance.argsort(axis=1, kind="stable")[:, : min(k, len(target) - 1)]
    rng = np.random.default_rng(seed)
    start = rng.integers(len(target), size=count)
    end = neighbours[start, rng.integers(neighbours.shape[1], size=count)]
    weight = rng.uniform(size=(count, 1))
    ends = target[np.column_stack([start, end])]
    vectors = normalize((1 - weight) * unit[ends[:, 0]] + weight * unit[ends[:, 1]])
    return Synthetic(vectors, np.where(weight < 0.5, ends, ends[:, ::-1]))


def knn_scores(
    embedding: Floats,
    reference: Floats,
    is_source: NDArray[np.bool_],
    k: int,
    is_self: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return -mean cosine to the k nearest references of one domain, and the index of the nearest, both (clips,).

    The score is computed per domain, from k neighbours or all references if there are fewer, and the lower one counts,
    so that a few target clips are not averaged with source clips. With k = 1 this is -max cosine (eq. 6).

    Args:
        embedding: (clips, dim).
        reference: (references, dim).
        is_source: (references,).
        k: at least 1.
        is_self: (clips, references), True where the reference is the clip itself or made from it, and is ignored. The
            score of a clip without any other reference is infinite.
    """
    distance = -cosine(embedding, reference)
    if is_self is not None:
        distance[is_self] = np.inf
    domains = [distance[:, domain] for domain in (is_source, ~is_source) if domain.any()]
    return np.min([_mean_of_nearest(part, k) for part in domains], axis=0), distance.argmin(axis=1)


def local_density(reference: Floats, k: int) -> NDArray[np.float64]:
    """Return the mean distance of each reference to its k nearest others, (references,); small in dense regions.

    Distances are Euclidean between unit vectors. The mean is at least 1e-4 (duplicates), and 1 for a single reference,
    so that it can be divided by.
    """
    from sklearn.metrics.pairwise import euclidean_distances

    unit = _unit(reference)
    distance = euclidean_distances(unit)
    np.fill_diagonal(distance, np.inf)
    mean = _mean_of_nearest(distance, k)
    return np.where(np.isfinite(mean), np.maximum(mean, MIN_DENSITY), 1)


def rescaled_scores(
    embedding: Floats,
    reference: Floats,
    density: NDArray[np.float64],
    k: int,
    is_self: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the mean of the k smallest rescaled distances, minus 1, and the index of the nearest, both (clips,).

    Euclidean distances between unit vectors are divided by the local density of the reference. With k = 1, a clip with
    a score above 0 is farther from every reference than the neighbours of that reference are.

    Args:
        embedding: (clips, dim).
        reference: (references, dim).
        density: (references,), from ``local_density``.
        k: at least 1; all references if there are fewer.
        is_self: as in ``knn_scores``.
    """
    from sklearn.metrics.pairwise import euclidean_distances

    distance = euclidean_distances(_unit(embedding), _unit(reference)) / density
    if is_self is not None:
        distance[is_self] = np.inf
    return _mean_of_nearest(distance, k) - 1, distance.argmin(axis=1)


def _unit(vectors: Floats) -> NDArray[np.float64]:
    # In float32, sqrt(2 - 2 cosine) of near duplicates is rounding noise.
    return normalize(vectors).astype(np.float64)


def _mean_of_nearest(distance: Floats, k: int) -> NDArray[np.float64]:
    """Return the mean of the k smallest finite values of each row (or of all, if fewer); inf if there are none."""
    k = min(k, distance.shape[1])
    nearest = np.partition(distance, k - 1, axis=1)[:, :k].astype(np.float64)
    finite = np.isfinite(nearest)
    count = finite.sum(axis=1)
    total = nearest.sum(axis=1, where=finite)
    return np.divide(total, count, out=np.full(len(total), np.inf), where=count > 0)
