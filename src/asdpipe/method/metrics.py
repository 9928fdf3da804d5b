"""Metrics of DCASE Task 2 (paper §5.1): AUC, AUC per domain, pAUC and the official score; ARI of pseudo-labels."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, roc_auc_score

METRICS = ("auc", "auc_source", "auc_target", "auc_source_within", "auc_target_within", "pauc", "official")
MAX_FPR = 0.1


def evaluate(
    is_normal: NDArray[np.bool_], domain: Sequence[str | None], score: NDArray[np.floating]
) -> dict[str, float]:
    """Return the metrics, in [0, 1], of one machine type and section.

    - ``auc``: all test clips.
    - ``auc_source``, ``auc_target``: normal clips of the domain against *all* anomalies (DCASE 2022 and later).
    - ``auc_source_within``, ``auc_target_within``: against the anomalies of the same domain (DCASE 2021).
    - ``pauc``: false-positive rates up to 0.1, McClish-standardised (chance 0.5), all test clips.
    - ``official``: harmonic mean of auc_source, auc_target and pauc.

    A metric without normal or without anomalous clips is NaN, and so is an official score that needs it.

    Args:
        is_normal: (clips,); domain: "source", "target" or None when unknown; score: (clips,), larger = anomalous.
    """
    domains = np.asarray(domain, dtype=object)
    values = {"auc": _auc(is_normal, score)}
    for name in ("source", "target"):
        inside = domains == name
        values[f"auc_{name}"] = _auc(is_normal, score, inside | ~is_normal)
        values[f"auc_{name}_within"] = _auc(is_normal, score, inside)
    values["pauc"] = _auc(is_normal, score, max_fpr=MAX_FPR)
    values["official"] = harmonic_mean([values["auc_source"], values["auc_target"], values["pauc"]])
    return {name: values[name] for name in METRICS}


def _auc(
    is_normal: NDArray[np.bool_],
    score: NDArray[np.floating],
    where: NDArray[np.bool_] | None = None,
    max_fpr: float | None = None,
) -> float:
    kept = slice(None) if where is None else where
    anomalous = ~is_normal[kept]
    if anomalous.all() or not anomalous.any():
        return math.nan
    return float(roc_auc_score(anomalous, score[kept], max_fpr=max_fpr))


def harmonic_mean(values: Iterable[float]) -> float:
    """Return the harmonic mean, zeros raised to machine epsilon as in the official evaluators; NaN if any is NaN."""
    array = np.maximum(np.asarray(list(values), dtype=np.float64), np.finfo(np.float64).eps)
    return float(len(array) / np.sum(1 / array))


def pseudo_label_ari(attributes: Sequence[str], pseudo_label: Sequence[str]) -> float:
    """Return the adjusted Rand index of pseudo-labels against the true operating states."""
    return float(adjusted_rand_score(attributes, pseudo_label))
