"""Read the table of representatives."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asdpipe.artifacts.tables import read_table
from asdpipe.artifacts.vectors import check_finite, stacked
from asdpipe.errors import UserError


class Centres(NamedTuple):
    """The representatives of one machine type."""

    vectors: NDArray[np.float32]
    """(representatives, dim)."""
    clip_id: NDArray[np.object_]
    """(representatives,): clip that is the representative or is nearest to it."""
    threshold: float
    """Largest score of the training clips; external clips at or below it are candidates for selection."""


def read_representatives(file: Path, dim: int | None = None) -> dict[str, Centres]:
    """Return the representatives by machine type.

    Args:
        dim: expected size of the vectors; None accepts any.

    Raises:
        UserError: the table is empty, or vectors are not finite or differ in size.
    """
    table = read_table("representatives", file)
    if table.empty:
        raise UserError(f"{file}: has no rows; delete it and run again")
    vectors = stacked(table.vector, table.clip_id, file, dim)
    check_finite(vectors, table.clip_id, file)
    return {
        str(machine): Centres(
            vectors[rows], table.clip_id.to_numpy(dtype=object)[rows], float(table.threshold.iloc[rows[0]])
        )
        for machine, rows in table.groupby("machine").indices.items()
    }
