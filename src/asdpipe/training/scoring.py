"""Scorers fitted to the training clips of every machine type."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdpipe.artifacts.representatives import read_representatives
from asdpipe.errors import UserError
from asdpipe.method.representatives import Similarity
from asdpipe.method.scorers import NONE, KMeans, Scorer, Scores


class Fitted(NamedTuple):
    """The scorer of one machine type."""

    machine: str
    rows: NDArray[np.int64]
    """(clips,): the machine type's training clips among all of them."""
    scorer: Scorer
    clip_ids: NDArray[np.object_]
    """Names of the training clips by the rows that the scorer gives."""

    def nearest(self, found: Scores) -> NDArray[np.object_]:
        """Return the training clip behind each score, (clips,); None: the score compares with none."""
        nearest = self.clip_ids[found.clip]
        nearest[found.clip == NONE] = None
        return nearest


def fitted_scorers(
    train: pd.DataFrame,
    embedding: NDArray[np.float32],
    build: Callable[..., Scorer],
    seed: int,
    representatives: Path | None,
    similarity: Similarity,
) -> Iterator[Fitted]:
    """Yield the scorer of every machine type.

    Args:
        train, embedding: training clips, and their embeddings (clips, dim).
        build: returns a scorer for a seed that is to be fitted.
        representatives: of a back end that scores by them, to use instead of a fit, with this similarity.

    Raises:
        UserError: the representatives are of another network, or a machine type has none.
    """
    centres = None if representatives is None else read_representatives(representatives, embedding.shape[1])
    for machine, rows in train.groupby("machine").indices.items():
        part = train.iloc[rows]
        if centres is None:
            clip_ids = part.clip_id.to_numpy(dtype=object)
            scorer = build(seed=seed).fit(embedding[rows], (part.domain == "source").to_numpy())
        elif machine in centres:
            clip_ids = centres[str(machine)].clip_id
            scorer = KMeans(len(clip_ids), seed, similarity)
            scorer = scorer.of(centres[str(machine)].vectors, np.arange(len(clip_ids)))
        else:
            raise UserError(f"{representatives}: has none of machine type {machine}; delete it and run again")
        yield Fitted(str(machine), rows, scorer, clip_ids)
