"""Embeddings and representatives as validated arrays."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdpipe.artifacts.tables import read_table
from asdpipe.errors import UserError


def embedded_clips(clips: Path, embeddings: Path, may_be_nan: bool = False) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """Return the rows of ``clips`` that have an embedding, and the embeddings, float32 (clips, dim), in the same order.

    Clips of unknown domain count as source.

    Args:
        clips: table ``clips``.
        embeddings: table ``embeddings``.
        may_be_nan: allow NaN; an autoencoder's distance to a domain without training clips is NaN.

    Raises:
        UserError: embeddings of unknown clips, of different sizes, or not finite.
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
        vectors: one sequence of numbers per clip.
        names: clip names, for error messages.
        file: origin of the vectors, for error messages.
        dim: expected size; None takes that of the first vector.

    Raises:
        UserError: a vector has another size.
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
