"""Pseudo-labels for training clips: k-means per machine type and domain (paper §4.2.2, eq. 13)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from asdpipe.method.representatives import cluster, normalize


class PseudoLabels(NamedTuple):
    """Pseudo-labels of training clips."""

    cluster: NDArray[np.int32]
    """(clips,): index of the nearest centroid of the clip's own machine type and domain."""
    reduced: list[tuple[str, str, int, int]]
    """(machine, domain, clusters used, clusters requested) where there are too few distinct clips."""


def pseudo_labels(
    embedding: NDArray[np.floating],
    machine: Sequence[str],
    domain: Sequence[str],
    *,
    k_source: Mapping[str, int],
    k_target: Mapping[str, int],
    seed: int,
) -> PseudoLabels:
    """Cluster the L2-normalised embeddings of each machine type and domain (eq. 13).

    Args:
        embedding: (clips, dim), original training clips only.
        machine: machine type of each clip.
        domain: "source" or "target" for each clip.
        k_source, k_target: clusters of each machine type, at most the number of distinct clips.
        seed: seed of k-means.
    """
    unit = normalize(embedding)
    machines, domains = np.asarray(machine), np.asarray(domain)
    labels = np.zeros(len(unit), dtype=np.int32)
    reduced = []
    for name, part in sorted(set(zip(machine, domain, strict=True))):
        rows = (machines == name) & (domains == part)
        k = (k_source if part == "source" else k_target)[name]
        centroids, labels[rows] = cluster(unit[rows], k, seed)
        if len(centroids) < k:
            reduced.append((name, part, len(centroids), k))
    return PseudoLabels(labels, reduced)


def pseudo_label_ari(attributes: Sequence[str], pseudo_label: Sequence[str]) -> float:
    """Return the adjusted Rand index of pseudo-labels and true attributes."""
    return float(adjusted_rand_score(attributes, pseudo_label))
