"""The anomaly score of every training and test clip, and the limits of every machine type."""

import logging

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdpipe.artifacts.tables import write_table
from asdpipe.artifacts.vectors import embedded_clips
from asdpipe.config.base import read_settings
from asdpipe.config.method import ScoreSettings
from asdpipe.errors import UserError
from asdpipe.method.scorers import NONE, Scorer
from asdpipe.steps.options import InFile, MaybeFile, Number, OutFile, Settings
from asdpipe.training.scoring import fitted_scorers

logger = logging.getLogger(__name__)


def score(
    settings: Settings,
    seed: Number,
    train_clips: InFile,
    train_embeddings: InFile,
    test_clips: InFile,
    test_embeddings: InFile,
    scores: OutFile,
    thresholds: OutFile,
    representatives: MaybeFile = None,
) -> None:
    """Score the training and test clips of every machine type.

    Args:
        settings: back end and decision quantile; seed: of its draws.
        representatives: for back ends that score by them.
    """
    used = read_settings(ScoreSettings, settings)
    may_be_nan = used.backend.takes_nan
    train, known = embedded_clips(train_clips, train_embeddings, may_be_nan)
    test, unknown = embedded_clips(test_clips, test_embeddings, may_be_nan)
    if train.empty:
        raise UserError(f"{train_embeddings}: has no training clip; delete it and run again")
    if len(test) and known.shape[1] != unknown.shape[1]:
        raise UserError(f"{test_embeddings}: is of another network than {train_embeddings}; delete both and run again")
    if missing := sorted(set(test.machine) - set(train.machine)):
        message = f"{missing[0]}: has test clips but no training clips"
        raise UserError(f"{message}; add some, or leave it out of the data set's machines")
    if used.backend.by_representatives and representatives is None:
        raise UserError("score needs --representatives for this back end")
    centres = representatives if used.backend.by_representatives else None
    scored, limits = [], []
    for fitted in fitted_scorers(train, known, used.backend.build, seed, centres, used.similarity):
        rows, tested = fitted.rows, np.flatnonzero(test.machine == fitted.machine)
        part = pd.concat([train.iloc[rows], test.iloc[tested]])
        embedding = np.concatenate([known[rows], unknown[tested].reshape(len(tested), known.shape[1])])
        own = np.where(np.arange(len(part)) < len(rows), np.arange(len(part)), NONE)
        found = fitted.scorer.score(embedding, own)
        if np.isnan(found.score).any():
            bad = int(np.isnan(found.score).argmax())
            file = train_embeddings if bad < len(rows) else test_embeddings
            raise UserError(f"{file}: the score of {part.clip_id.iloc[bad]} is not a number; delete it and run again")
        scored.append(
            pd.DataFrame(
                {
                    "clip_id": part.clip_id,
                    "score": found.score,
                    "representative": pd.array(found.reference, dtype="Int32"),
                    "nearest_clip_id": fitted.nearest(found),
                }
            )
        )
        scored[-1].loc[found.reference == NONE, "representative"] = pd.NA
        limits.append((fitted.machine, *limits_of(fitted.scorer, found.score[: len(rows)], used.decision_quantile)))
    write_table("scores", pd.concat(scored), scores)
    columns = ["machine", "threshold", "decision_threshold"]
    write_table("thresholds", pd.DataFrame(limits, columns=columns), thresholds)


def limits_of(scorer: Scorer, training_scores: NDArray[np.float64], quantile: float) -> tuple[float, float]:
    """Return the largest score of the training clips and the score above which a clip is called anomalous."""
    finite = training_scores[np.isfinite(training_scores)]
    if not len(finite):
        return np.inf, np.inf
    return float(finite.max()), scorer.limit(finite, quantile)
