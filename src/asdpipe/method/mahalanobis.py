"""Mahalanobis distance with a shrunk covariance, for embeddings with more dimensions than clips."""

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from asdpipe.method.distances import euclidean
from asdpipe.method.representatives import Floats, normalize
from asdpipe.method.scorers import DistanceLimit, Scores

# Of unit vectors; equal clips have no variance at all.
MIN_VARIANCE = 1e-12


class Metric(NamedTuple):
    """A Mahalanobis metric: the Euclidean distance after a linear map that whitens."""

    directions: NDArray[np.float64]
    """Principal directions, (directions, dim)."""
    within: NDArray[np.float64]
    """Inverse of the standard deviation along each of them, (directions,)."""
    elsewhere: NDArray[np.float64]
    """Inverse of the standard deviation in all other directions, ()."""

    def whiten(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return vectors (n, dim) such that their Euclidean distances are Mahalanobis distances."""
        along = vectors @ self.directions.T * (self.within - self.elsewhere)
        return self.elsewhere * vectors + along @ self.directions


def ledoit_wolf(points: NDArray[np.float64]) -> Metric:
    """Return the metric of the covariance of points (n, dim), shrunk after Ledoit and Wolf (2004).

    The covariance is (1 - a) S + a tr(S)/dim I. Its eigenvectors are those of S. S itself is not formed, as it is large
    for embeddings of several thousand dimensions. Two points say nothing about the shrinkage: it is 1, so that all
    directions count alike. Variances are at least 1e-12.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    centred = points - points.mean(axis=0)
    shrinkage = ledoit_wolf_shrinkage(centred, assume_centered=True) if len(points) > 2 else 1.0
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    variance = singular**2 / len(points)
    added = shrinkage * variance.sum() / points.shape[1]
    deviation = np.sqrt(np.maximum((1 - shrinkage) * variance + added, MIN_VARIANCE))
    return Metric(directions, 1 / deviation, np.asarray(1 / np.sqrt(max(added, MIN_VARIANCE))))


class ShrinkageMahalanobis(DistanceLimit):
    """Mahalanobis distance to the mean of the training clips, with the covariance of ``ledoit_wolf``.

    Embeddings have unit length. The reference is the nearest training clip in the same metric.

    Args:
        per_domain: mean and covariance of each domain; the smaller distance counts. A domain of one or two clips has
            the covariance of all clips. The only clip of a domain is no reference for itself.
    """

    def __init__(self, per_domain: bool) -> None:
        self.per_domain = per_domain

    def fit(self, embedding: Floats, is_source: NDArray[np.bool_]) -> Self:
        """Compute means and covariances."""
        self.unit = normalize(embedding).astype(np.float64)
        domains = [is_source, ~is_source] if self.per_domain else [np.ones_like(is_source)]
        self.rows = [np.flatnonzero(domain) for domain in domains if domain.any()]
        self.metrics = [ledoit_wolf(self.unit[rows] if len(rows) > 2 else self.unit) for rows in self.rows]
        return self

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the training clips, and rows and metric of every domain, whose names end with its number."""
        found: dict[str, NDArray[Any]] = {"unit": self.unit}
        for number, (rows, metric) in enumerate(zip(self.rows, self.metrics, strict=True)):
            found |= {f"{name}{number}": values for name, values in {"rows": rows, **metric._asdict()}.items()}
        return found

    def of(self, unit: NDArray[np.float64], **arrays: NDArray[Any]) -> Self:
        """Use what ``arrays`` has returned."""
        domains = range(sum(name.startswith("rows") for name in arrays))
        self.unit, self.rows = unit, [arrays[f"rows{number}"] for number in domains]
        self.metrics = [Metric(*(arrays[f"{name}{number}"] for name in Metric._fields)) for number in domains]
        return self

    def score(self, embedding: Floats, own: NDArray[np.int64]) -> Scores:
        """Score clips; the score of a clip without any other is infinite."""
        unit = normalize(embedding).astype(np.float64)
        found = [self._of_domain(unit, own, *each) for each in zip(self.rows, self.metrics, strict=True)]
        scores, nearest = (np.stack(each) for each in zip(*found, strict=True))
        domain, clip = scores.argmin(axis=0), np.arange(len(unit))
        return Scores(scores[domain, clip], nearest[domain, clip], nearest[domain, clip])

    def _of_domain(
        self, unit: NDArray[np.float64], own: NDArray[np.int64], rows: NDArray[np.int64], metric: Metric
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the distance to the mean of a domain, and the row of the nearest of its clips, both (clips,)."""
        mean = self.unit[rows].mean(axis=0)
        white = metric.whiten(unit - mean)
        distance = euclidean(white, metric.whiten(self.unit[rows] - mean))
        is_self = own[:, None] == rows
        distance[is_self] = np.inf
        score = np.linalg.norm(white, axis=1)
        score[is_self.all(axis=1)] = np.inf
        return score, rows[distance.argmin(axis=1)]
