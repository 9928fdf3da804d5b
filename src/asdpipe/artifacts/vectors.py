"""Embeddings and representatives as arrays: one row per clip, checked."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdpipe.artifacts.tables import read_table
from asdpipe.errors import UserError


def embedded_clips(clips: Path, embeddings: Path, may_be_nan: bool = False) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """Return the manifest of the embedded clips and their embeddings, float32 (clips, dim), in the manifest's order.

    Clips of unknown domain count as source.

    Args:
        may_be_nan: embeddings may hold NaN, as an autoencoder's distances to a domain without training clips do.

    Raises:
        UserError: the embeddings are of other clips, differ in size, or are not finite.
    """
    embedded = read_table("embeddings", embeddings)
    table = read_table("clips", clips).merge(embedded, on="clip_id")
    if len(table) < len(embedded):
        raise UserError(f"{embeddings}: has clips that {clips} does not list; delete it and run again")
    table = table.assign(domain=table.domain.fillna("source"))
    vectors = stacked(table.embedding, table.clip_id, embeddings)
    if not may_be_nan:
        check_finite(vectors, table.clip_id, embeddings)
    return table.drop(columns="embedding"), vectors


def stacked(vectors: pd.Series, names: pd.Series, file: Path, dim: int | None = None) -> NDArray[np.float32]:
    """Return vectors as rows, float32 (n, dim).

    Args:
        names: of the clips, for the message; file: that they are from.
        dim: None: as long as the first one.

    Raises:
        UserError: they differ in size.
    """
    if vectors.empty:
        return np.zeros((0, dim or 0), dtype=np.float32)
    sizes = vectors.map(len)
    expected = dim or sizes.iloc[0]
    if (wrong := sizes != expected).any():
        message = f"the vector of {names[wrong].iloc[0]} has {sizes[wrong].iloc[0]} numbers, not {expected}"
        raise UserError(f"{file}: {message}; delete it and run again")
    return np.stack(list(vectors)).astype(np.float32)


def check_finite(vectors: NDArray[np.float32], names: pd.Series, file: Path) -> None:
    """Raise a UserError if a vector is not finite."""
    if (bad := ~np.isfinite(vectors).all(axis=1)).any():
        raise UserError(f"{file}: the vector of {names[bad].iloc[0]} is not finite; delete it and run again")
