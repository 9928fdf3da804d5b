"""Density rescaling: distances to training clips relative to how densely these lie."""

import numpy as np
from numpy.typing import NDArray

from asdpipe.method.representatives import Floats, normalize
from asdpipe.method.scorers import NearestNeighbours, Scores, mean_of_nearest, nearer_domain

# The cosine of unit vectors closer than this rounds to 1 in float32.
MIN_DENSITY = 1e-4


class DensityRescaled(NearestNeighbours):
    """Distance to the nearest training clips divided by their local density, minus 1 (``rescaled_scores``).

    Args:
        neighbours: nearest training clips, of both domains together.
        smote_ratio, smote_neighbours, seed: see ``smote``.
        density_neighbours: neighbours for the local density.
        per_domain: take neighbours and densities within each domain; the lower score counts.
    """

    def __init__(
        self,
        neighbours: int,
        smote_ratio: float,
        smote_neighbours: int,
        density_neighbours: int,
        per_domain: bool,
        seed: int,
    ) -> None:
        super().__init__(neighbours, smote_ratio, smote_neighbours, seed)
        self.density_neighbours, self.per_domain = density_neighbours, per_domain

    def score(self, embedding: Floats, own: NDArray[np.int64]) -> Scores:
        """Score clips."""
        known, k = self.references, self.density_neighbours
        density = local_density(known.vectors, k)
        domains = known.is_source if self.per_domain else None
        if domains is not None:
            density = density_per_domain(known.vectors, domains, density, k)
        score, nearest = rescaled_scores(embedding, known.vectors, density, self.neighbours, self.is_self(own), domains)
        return Scores(score, nearest, known.clips[nearest, 0])


def local_density(reference: Floats, k: int) -> NDArray[np.float64]:
    """Return the mean distance of each reference to its k nearest others, (references,); small in dense regions.

    Distances are Euclidean between unit vectors. The mean is at least 1e-4 (duplicates), and 1 for a single reference,
    so that it can be divided by.
    """
    from sklearn.metrics.pairwise import euclidean_distances

    unit = _unit(reference)
    distance = euclidean_distances(unit)
    np.fill_diagonal(distance, np.inf)
    mean = mean_of_nearest(distance, k)
    return np.where(np.isfinite(mean), np.maximum(mean, MIN_DENSITY), 1)


def density_per_domain(
    reference: Floats, is_source: NDArray[np.bool_], density: NDArray[np.float64], k: int
) -> NDArray[np.float64]:
    """Return the local density of each reference among those of its domain, (references,).

    The only reference of a domain keeps its density among all references.

    Args:
        reference: (references, dim).
        is_source: (references,).
        density: (references,), among all references.
        k: see ``local_density``.
    """
    density = density.copy()
    for domain in (is_source, ~is_source):
        if domain.sum() > 1:
            density[domain] = local_density(reference[domain], k)
    return density


def rescaled_scores(
    embedding: Floats,
    reference: Floats,
    density: NDArray[np.float64],
    k: int,
    is_self: NDArray[np.bool_] | None = None,
    is_source: NDArray[np.bool_] | None = None,
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
        is_source: (references,); the mean is taken per domain, and the lower one counts. None: there is one domain.
    """
    from sklearn.metrics.pairwise import euclidean_distances

    distance = euclidean_distances(_unit(embedding), _unit(reference)) / density
    if is_self is not None:
        distance[is_self] = np.inf
    group = np.ones(len(reference), dtype=np.bool_) if is_source is None else is_source
    return nearer_domain(distance, group, k) - 1, distance.argmin(axis=1)


def _unit(vectors: Floats) -> NDArray[np.float64]:
    # In float32, sqrt(2 - 2 cosine) of near duplicates is rounding noise.
    return normalize(vectors).astype(np.float64)
