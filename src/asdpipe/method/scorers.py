"""Back ends beside the paper's: k nearest neighbours, SMOTE of the target domain, scores rescaled by local density.

Of every score of these, 1 + score is a distance, as with the paper's representatives. The autoencoder's scores, which
compare with no clip, are distances themselves.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asdpipe.method.representatives import Floats, cosine, normalize

# Unit vectors closer than this have a cosine that float32 does not tell from 1.
MIN_DENSITY = 1e-4


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


def selective_score(distances: Floats) -> Floats:
    """Return the score of the autoencoder's selective Mahalanobis mode, (clips,): the nearer domain's distance.

    Args:
        distances: (clips, 3), as ``autoencoder.clip_distances`` gives them; NaN for a domain that it does not know.
    """
    return np.fmin(distances[:, 1], distances[:, 2])


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
