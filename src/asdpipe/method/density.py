"""Density rescaling: distances to training clips relative to how densely these lie."""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from asdpipe.method.distances import euclidean
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

    def of(self, vectors: NDArray[np.float32], is_source: NDArray[np.bool_], clips: NDArray[np.int64]) -> Self:
        """Use existing references, and compute their densities."""
        self.density = local_density(vectors, self.density_neighbours)
        if self.per_domain:
            self.density = density_per_domain(vectors, is_source, self.density, self.density_neighbours)
        return super().of(vectors, is_source, clips)

    def score(self, embedding: Floats, own: NDArray[np.int64]) -> Scores:
        """Score clips."""
        known = self.references
        domains = known.is_source if self.per_domain else None
        score, nearest = rescaled_scores(
            embedding, known.vectors, self.density, self.neighbours, self.is_self(own), domains
        )
        return Scores(score, nearest, known.clips[nearest, 0])


def local_density(reference: Floats, k: int) -> NDArray[np.float64]:
    """Return the mean distance of each reference to its k nearest others, (references,); small in dense regions.

    Distances are Euclidean between unit vectors. The mean is at least 1e-4 (duplicates), and 1 for a single reference,
    so that it can be divided by.
    """
    unit = _unit(reference)
    distance = euclidean(unit, unit)
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
    distance = euclidean(_unit(embedding), _unit(reference)) / density
    if is_self is not None:
        distance[is_self] = np.inf
    group = np.ones(len(reference), dtype=np.bool_) if is_source is None else is_source
    return nearer_domain(distance, group, k) - 1, distance.argmin(axis=1)


def _unit(vectors: Floats) -> NDArray[np.float64]:
    # In float32, sqrt(2 - 2 cosine) of near duplicates is rounding noise.
    return normalize(vectors).astype(np.float64)
