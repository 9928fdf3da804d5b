"""Part 5: the embeddings of all clips in two dimensions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdpipe.artifacts.tables import read_table
from asdpipe.artifacts.vectors import check_finite, stacked
from asdpipe.errors import UserError
from asdpipe.method.representatives import normalize
from asdpipe.monitor.origin import Origin
from asdpipe.report.clips import Clips, first_embedded

# More make the page slow.
MOST_POINTS = 2000


@dataclass(frozen=True)
class EmbeddingMap:
    """Clips as points."""

    points: pd.DataFrame
    """Rows of the clips, with coordinates ``x``, ``y`` of all clips and ``own_x``, ``own_y`` of their machine type."""
    share: float
    """Of the variance that x and y have, in percent."""
    own_share: dict[str, float]
    """The same of each machine type's own coordinates."""
    clips: int
    """Of which the points are a part."""


def make_map(clips: Clips) -> EmbeddingMap:
    """Project the unit embeddings of training and test clips to their first two principal components.

    Raises:
        UserError: the embeddings are gone, or are not finite (an autoencoder has distances instead).
    """
    made = first_embedded(clips.made)
    table = pd.concat([clips.training, clips.table]).drop_duplicates("clip_id")
    embedded = pd.concat([read_table("embeddings", file) for file in _files(made)])
    table = table.merge(embedded, on="clip_id")
    if len(table) < 3:
        raise UserError("there are fewer than three clips with an embedding")
    vectors = stacked(table.embedding, table.clip_id, _files(made)[0])
    check_finite(vectors, table.clip_id, _files(made)[0])
    unit = normalize(vectors)
    # Evenly, in the order of machine types and splits.
    rows = np.linspace(0, len(table) - 1, min(MOST_POINTS, len(table))).round().astype(int)
    place, share = principal_components(unit)
    own, own_share = np.zeros((len(table), 2)), {}
    for machine, of in table.groupby("machine").indices.items():
        own[of], own_share[str(machine)] = principal_components(unit[of])
    columns = {"x": place[:, 0], "y": place[:, 1], "own_x": own[:, 0], "own_y": own[:, 1]}
    points = table.drop(columns="embedding").assign(**columns).iloc[rows]
    return EmbeddingMap(points, share, own_share, len(table))


def principal_components(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """Return vectors (n, dim) in their first two principal components, (n, 2), and their share of the variance in %."""
    # scikit-learn takes a second to import.
    from sklearn.decomposition import PCA

    place = np.zeros((len(vectors), 2))
    size = min(2, *vectors.shape)
    if len(vectors) < 2 or float(np.ptp(vectors, axis=0).max()) == 0:
        return place, 100.0
    fitted = PCA(size, svd_solver="full")
    place[:, :size] = fitted.fit_transform(vectors.astype(np.float64))
    return place, float(100 * fitted.explained_variance_ratio_.sum())


def _files(made: Origin) -> list[Path]:
    return [made.input(f"{split}_embeddings") for split in ("train", "test")]
