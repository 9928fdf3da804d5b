"""Scorers: the anomaly score of an embedding, given the training clips of its machine type.

For scores based on cosine or local density, 1 + score is a distance, as for the representatives of the paper (§3.3).
"""

from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from asdpipe.method.representatives import (
    Floats,
    Similarity,
    anomaly_scores,
    cosine,
    decision_threshold,
    nearest_neighbour,
    representatives,
)
from asdpipe.method.smote import References, references

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
    """Scores the clips of one machine type.

    Attributes have the names of the arguments of the class, so that a scorer can be built again.
    """

    def fit(self, embedding: Floats, is_source: NDArray[np.bool_]) -> Self:
        """Fit to training clips: embeddings (clips, dim) and domains (clips,); return ``self``."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what the fit has found, by the names of the arguments of ``of``."""

    def of(self, *args: Any, **arrays: Any) -> Self:
        """Use what another scorer of the same settings has found, instead of a fit; return ``self``."""

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

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the representatives."""
        return {"vectors": self.vectors, "clip": self.clip}

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
        return self.of(*references(embedding, is_source, self.smote_ratio, self.smote_neighbours, self.seed))

    def of(self, vectors: NDArray[np.float32], is_source: NDArray[np.bool_], clips: NDArray[np.int64]) -> Self:
        """Use existing references."""
        self.references = References(vectors, is_source, clips)
        return self

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the references."""
        return self.references._asdict()

    def is_self(self, own: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which references are the clip itself or synthetic clips made from it, (clips, references)."""
        return (self.references.clips == own[:, None, None]).any(axis=2)

    def score(self, embedding: Floats, own: NDArray[np.int64]) -> Scores:
        """Score clips."""
        known = self.references
        score, nearest = knn_scores(embedding, known.vectors, known.is_source, self.neighbours, self.is_self(own))
        return Scores(score, nearest, known.clips[nearest, 0])


class CityBlock:
    """City-block distance to the nearest training clip, on standardised dimensions (``nearest_neighbour``)."""

    def fit(self, embedding: Floats, is_source: NDArray[np.bool_]) -> Self:
        """Store the training clips."""
        return self.of(embedding)

    def of(self, train: Floats) -> Self:
        """Use training clips (clips, dim)."""
        self.train = train.astype(np.float64)
        return self

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the training clips."""
        return {"train": self.train}

    def score(self, embedding: Floats, own: NDArray[np.int64]) -> Scores:
        """Score clips."""
        is_self = own[:, None] == np.arange(len(self.train))
        score, nearest = nearest_neighbour(embedding.astype(np.float64), self.train, is_self)
        return Scores(score, nearest, nearest)

    def limit(self, training_scores: Floats, quantile: float) -> float:
        """Return the quantile of the scores: a gamma distribution does not fit sums of deviations."""
        return float(np.quantile(training_scores, quantile))


class DistanceLimit:
    """Decision threshold for scores that are distances: a quantile of a gamma distribution."""

    def limit(self, training_scores: Floats, quantile: float) -> float:
        """Return the decision threshold; ``decision_threshold`` takes distances minus 1."""
        return decision_threshold(training_scores - 1, quantile) + 1


class ReconstructionError(DistanceLimit):
    """Mean squared error of the autoencoder (simple mode of the DCASE baseline)."""

    def fit(self, embedding: Floats, is_source: NDArray[np.bool_]) -> Self:
        """Do nothing: the embedding of a clip already consists of its distances."""
        return self.of()

    def of(self) -> Self:
        """Do nothing."""
        return self

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return nothing."""
        return {}

    def score(self, embedding: Floats, own: NDArray[np.int64]) -> Scores:
        """Score clips by their distances (clips, 3); NaN for a domain without training clips."""
        none = np.full(len(embedding), NONE)
        return Scores(self.distance(embedding).astype(np.float64), none, none)

    def distance(self, embedding: Floats) -> Floats:
        """Return the distance used as score, (clips,)."""
        return embedding[:, 0]


class SelectiveMahalanobis(ReconstructionError):
    """Smaller of the squared Mahalanobis distances to source and target (selective mode of the DCASE baseline)."""

    def distance(self, embedding: Floats) -> Floats:
        """Return the distance to the nearer domain, (clips,)."""
        return np.fmin(embedding[:, 1], embedding[:, 2])


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
    return nearer_domain(distance, is_source, k), distance.argmin(axis=1)


def nearer_domain(distance: Floats, is_source: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    """Return the mean of the k smallest distances (clips, references) to one domain, the smaller one, (clips,)."""
    domains = [distance[:, domain] for domain in (is_source, ~is_source) if domain.any()]
    return np.min([mean_of_nearest(part, k) for part in domains], axis=0)


def mean_of_nearest(distance: Floats, k: int) -> NDArray[np.float64]:
    """Return the mean of the k smallest finite values of each row (or of all, if fewer); inf if there are none."""
    k = min(k, distance.shape[1])
    nearest = np.partition(distance, k - 1, axis=1)[:, :k].astype(np.float64)
    finite = np.isfinite(nearest)
    count = finite.sum(axis=1)
    total = nearest.sum(axis=1, where=finite)
    return np.divide(total, count, out=np.full(len(total), np.inf), where=count > 0)
