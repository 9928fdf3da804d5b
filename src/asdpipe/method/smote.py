"""SMOTE: synthetic target clips between real ones (Chawla et al., 2002)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asdpipe.method.representatives import Floats, cosine, normalize


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
