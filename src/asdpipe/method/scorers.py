"""Scorers: how anomalous a clip's embedding is, given the training clips of its machine type.

All have ``fit``, ``score`` and ``limit``. Of every score by cosine or local density, 1 + score is a distance, as with
the paper's representatives (§3.3).
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

# Unit vectors closer than this have a cosine that float32 does not tell from 1.
MIN_DENSITY = 1e-4
NONE = -1


class Scores(NamedTuple):
    """The scores of clips, and what each was compared with."""

    score: NDArray[np.float64]
    """(clips,), larger is more anomalous."""
    reference: NDArray[np.int64]
    """(clips,): index of the nearest representative (or reference); -1: the score compares with none."""
    clip: NDArray[np.int64]
    """(clips,): row of the training clip behind the reference; -1: none."""


class Scorer(Protocol):
    """A way to score the clips of one machine type."""

    def fit(self, embedding: Floats, is_source: NDArray[np.bool_]) -> Self:
        """Learn from the training clips: embeddings (clips, dim) and domains (clips,). Returns itself."""

    def score(self, embedding: Floats, own: NDArray[np.int64]) -> Scores:
        """Score clips.

        Args:
            embedding: (clips, dim).
            own: (clips,), row of the training clip that each is; -1: it is none.
        """

    def limit(self, training_scores: Floats, quantile: float) -> float:
        """Return the score above which a clip is called anomalous: of this quantile of the training clips' scores."""


class GammaLimit:
    """The decision threshold of scores of which 1 + score is a distance: a gamma distribution's quantile."""

    def limit(self, training_scores: Floats, quantile: float) -> float:
        """Return the decision threshold."""
        return decision_threshold(training_scores, quantile)


class KMeans(GammaLimit):
    """Minus the largest similarity to k-means centroids of the source clips and all target clips (§3.3, eq. 2-6).

    Args:
        k_source: centroids of the source clips; seed: of k-means.
        similarity: of ``anomaly_scores``.
    """

    def __init__(self, k_source: int, seed: int, similarity: Similarity) -> None:
        self.k_source, self.seed, self.similarity = k_source, seed, similarity

    def fit(self, embedding: Floats, is_source: NDArray[np.bool_]) -> Self:
        """Make the representatives."""
        found = representatives(embedding, is_source, self.k_source, self.seed)
        return self.of(found.vectors, found.clip)

    def of(self, vectors: Floats, clip: NDArray[np.int64]) -> Self:
        """Take representatives (n, dim) that were made before, and the rows (n,) of the training clips behind them."""
        self.vectors, self.clip = vectors, clip
        return self

    def score(self, embedding: Floats, own: NDArray[np.int64]) -> Scores:
        """Score clips."""
        score, nearest = anomaly_scores(embedding, self.vectors, self.similarity)
        return Scores(score, nearest, self.clip[nearest])


class NearestNeighbours(GammaLimit):
    """Minus the mean cosine to the nearest training clips of a domain; the nearer domain decides (``knn_scores``).

    Args:
        neighbours: per domain; smote_ratio, smote_neighbours: of ``smote``; seed: of its draws.
    """

    def __init__(self, neighbours: int, smote_ratio: float, smote_neighbours: int, seed: int) -> None:
        self.neighbours, self.smote_ratio, self.smote_neighbours = neighbours, smote_ratio, smote_neighbours
        self.seed = seed

    def fit(self, embedding: Floats, is_source: NDArray[np.bool_]) -> Self:
        """Keep the training clips, and synthetic target clips between them."""
        self.references = references(embedding, is_source, self.smote_ratio, self.smote_neighbours, self.seed)
        return self

    def is_self(self, own: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which references do not count, (clips, references): the clip itself, and synthetic ones made of it."""
        return (self.references.clips == own[:, None, None]).any(axis=2)

    def score(self, embedding: Floats, own: NDArray[np.int64]) -> Scores:
        """Score clips."""
        known = self.references
        score, nearest = knn_scores(embedding, known.vectors, known.is_source, self.neighbours, self.is_self(own))
        return Scores(score, nearest, known.clips[nearest, 0])


class DensityRescaled(NearestNeighbours):
    """Distance to the nearest training clips over the local density there, less 1 (``rescaled_scores``).

    Args:
        density_neighbours: neighbours that make the local density; others: as for NearestNeighbours.
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
    """City-block distance to the nearest training clip, dimensions scaled by their spread (``nearest_neighbour``)."""

    def fit(self, embedding: Floats, is_source: NDArray[np.bool_]) -> Self:
        """Keep the training clips."""
        self.train = embedding.astype(np.float64)
        return self

    def score(self, embedding: Floats, own: NDArray[np.int64]) -> Scores:
        """Score clips."""
        is_self = own[:, None] == np.arange(len(self.train))
        score, nearest = nearest_neighbour(embedding.astype(np.float64), self.train, is_self)
        return Scores(score, nearest, nearest)

    def limit(self, training_scores: Floats, quantile: float) -> float:
        """Return the decision threshold: sums of deviations have no gamma rule, the quantile itself decides."""
        return float(np.quantile(training_scores, quantile))


class ReconstructionError:
    """The autoencoder's mean squared error: the first of a clip's distances (the DCASE baseline's simple mode)."""

    def fit(self, embedding: Floats, is_source: NDArray[np.bool_]) -> Self:
        """Learn nothing: an embedding is made of distances."""
        return self

    def score(self, embedding: Floats, own: NDArray[np.int64]) -> Scores:
        """Score clips by their distances (clips, 3); NaN for a domain that the autoencoder does not know."""
        nothing = np.full(len(embedding), NONE)
        return Scores(self.distance(embedding).astype(np.float64), nothing, nothing)

    def distance(self, embedding: Floats) -> Floats:
        """Return the distance that counts, (clips,)."""
        return embedding[:, 0]

    def limit(self, training_scores: Floats, quantile: float) -> float:
        """Return the decision threshold; the rule takes distances less 1."""
        return decision_threshold(training_scores - 1, quantile) + 1


class SelectiveMahalanobis(ReconstructionError):
    """The smaller of the squared Mahalanobis distances to source and target (the baseline's selective mode)."""

    def distance(self, embedding: Floats) -> Floats:
        """Return the nearer domain's distance, (clips,)."""
        return np.fmin(embedding[:, 1], embedding[:, 2])


class References(NamedTuple):
    """What the clips of one machine type are compared with: its training clips, then synthetic target embeddings."""

    vectors: NDArray[np.float32]
    """(references, dim), of unit length."""
    is_source: NDArray[np.bool_]
    """(references,)."""
    clips: NDArray[np.int64]
    """(references, 2): rows of the training clips that the reference is made of, the nearer first; of its own twice."""


class Synthetic(NamedTuple):
    """Synthetic target embeddings of one machine type."""

    vectors: NDArray[np.float32]
    """(points, dim), of unit length."""
    clips: NDArray[np.int64]
    """(points, 2): rows of the two target clips that the point lies between, the nearer one first."""


def references(embedding: Floats, is_source: NDArray[np.bool_], ratio: float, k: int, seed: int) -> References:
    """Return training clips and what ``smote`` adds to them; the arguments are those of ``smote``."""
    points = smote(embedding, is_source, ratio, k, seed)
    rows = np.arange(len(embedding))
    return References(
        np.concatenate([normalize(embedding), points.vectors]),
        np.concatenate([is_source, np.zeros(len(points.vectors), dtype=np.bool_)]),
        np.concatenate([np.column_stack([rows, rows]), points.clips]),
    )


def smote(embedding: Floats, is_source: NDArray[np.bool_], ratio: float, k: int, seed: int) -> Synthetic:
    """Return points between target clips and their nearest target clips, scaled back to unit length.

    Target clips and points together are ``ratio`` times the source clips, rounded down. There is no point where the
    target clips are that many already, or fewer than two.

    Args:
        embedding: (clips, dim), training clips.
        is_source: (clips,).
        ratio: target over source; 0 asks for no point.
        k: nearest target clips (by cosine), of which one is drawn as the other end; all where there are fewer.
        seed: of the draws.
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
    way = rng.uniform(size=(count, 1))
    ends = target[np.column_stack([start, end])]
    vectors = normalize((1 - way) * unit[ends[:, 0]] + way * unit[ends[:, 1]])
    return Synthetic(vectors, np.where(way < 0.5, ends, ends[:, ::-1]))


def knn_scores(
    embedding: Floats,
    reference: Floats,
    is_source: NDArray[np.bool_],
    k: int,
    is_self: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return -mean cosine to the k nearest references of one domain, and the index of the nearest, both (clips,).

    Each domain has k neighbours of its own (all its references where there are fewer), and the domain with the lower
    score decides: a few target clips need not fill up with source clips. With k = 1 this is -max cosine (eq. 6).

    Args:
        embedding: (clips, dim); reference: (references, dim).
        is_source: (references,).
        k: at least 1.
        is_self: (clips, references), True where the reference is the clip itself, or made of it, and does not count.
            The score of a clip without any other reference is infinite.
    """
    distance = -cosine(embedding, reference)
    if is_self is not None:
        distance[is_self] = np.inf
    domains = [distance[:, domain] for domain in (is_source, ~is_source) if domain.any()]
    return np.min([_mean_of_nearest(each, k) for each in domains], axis=0), distance.argmin(axis=1)


def local_density(reference: Floats, k: int) -> NDArray[np.float64]:
    """Return the mean distance of each reference to its k nearest others, (references,): small where they are dense.

    Distances are Euclidean between unit vectors. A mean below 1e-4 (duplicates) counts as 1e-4, and a single reference
    has 1, so that dividing by it is always possible.
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
    """Return the mean of the k smallest rescaled distances, less 1, and the index of the nearest, both (clips,).

    A distance (Euclidean between unit vectors) is divided by the local density of its reference before the nearest
    ones are looked for: with k = 1, a clip above 0 is farther from every reference than that one's own neighbours are.

    Args:
        embedding: (clips, dim); reference: (references, dim).
        density: (references,), from ``local_density``.
        k: at least 1; all references where there are fewer.
        is_self: as in ``knn_scores``.
    """
    from sklearn.metrics.pairwise import euclidean_distances

    distance = euclidean_distances(_unit(embedding), _unit(reference)) / density
    if is_self is not None:
        distance[is_self] = np.inf
    return _mean_of_nearest(distance, k) - 1, distance.argmin(axis=1)


def _unit(vectors: Floats) -> NDArray[np.float64]:
    # In float32, sqrt(2 - 2 cosine) of near duplicates would be rounding noise.
    return normalize(vectors).astype(np.float64)


def _mean_of_nearest(distance: Floats, k: int) -> NDArray[np.float64]:
    """Return the mean of the k smallest finite values of each row, of all where there are fewer, inf where none."""
    k = min(k, distance.shape[1])
    nearest = np.partition(distance, k - 1, axis=1)[:, :k].astype(np.float64)
    counts = np.isfinite(nearest)
    number = counts.sum(axis=1)
    total = nearest.sum(axis=1, where=counts)
    return np.divide(total, number, out=np.full(len(total), np.inf), where=number > 0)
