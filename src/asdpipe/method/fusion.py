"""Fusion of the anomaly scores of several methods, on scales that the training clips define."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Scale = Literal["z_score", "rank"]


def fuse(scores: Scores, is_train: NDArray[np.bool_], scale: Scale) -> Scores:
    """Return the mean over methods of the scaled scores of one machine type, (clips,).

    Scales come from the finite scores of the training clips alone. Infinite scores stay infinite.

    Args:
        scores: (methods, clips), larger is more anomalous.
        is_train: (clips,).
        scale: ``z_score`` or ``rank``, the functions of these names.
    """
    scaled = {"z_score": z_score, "rank": rank}[scale]
    return np.mean([scaled(values, values[is_train & np.isfinite(values)]) for values in scores], axis=0)


def z_score(scores: Scores, training: Scores) -> Scores:
    """Return scores (clips,) minus the mean of the training scores, divided by their standard deviation."""
    return (scores - (training.mean() if len(training) else 0)) / _deviation(training)


def rank(scores: Scores, training: Scores) -> Scores:
    """Return the rank of each score (clips,) among the training scores, increasing everywhere.

    The rank of a training score is the share of training scores below it, plus half the share of equal ones; it is
    linear in between. Beyond the training scores, e / (e + s) is added to it, where e is the exceedance and s the
    standard deviation of the training scores: the order of clips is kept, and no method outweighs the others.
    """
    if not len(training):
        return scores
    known, count = np.unique(training, return_counts=True)
    ranks = (np.cumsum(count) - count / 2) / len(training)
    exceedance = scores - np.clip(scores, known[0], known[-1])
    # The formula gives NaN for infinite scores.
    finite = np.where(np.isfinite(scores), exceedance, 0)
    beyond = finite / (np.abs(finite) + _deviation(training))
    return np.where(np.isfinite(scores), np.interp(scores, known, ranks) + beyond, scores)


def _deviation(training: Scores) -> float:
    """Return the standard deviation, or 1 if the training scores are equal up to rounding."""
    if not len(training):
        return 1.0
    deviation = float(training.std())
    return deviation if deviation > 1e-9 * np.abs(training).max() else 1.0
