"""Metrics of DCASE Task 2 (paper §5.1): AUC, pAUC and the official score of each year."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

METRICS = (
    "auc",
    "auc_source",
    "auc_target",
    "auc_source_within",
    "auc_target_within",
    "pauc",
    "pauc_source_within",
    "pauc_target_within",
    "official",
)
MAX_FPR = 0.1

Scoring = Literal["dcase2020", "dcase2021", "dcase2022"]
OFFICIAL_TERMS: dict[Scoring, tuple[str, ...]] = {
    "dcase2020": ("auc", "pauc"),
    "dcase2021": ("auc_source_within", "auc_target_within", "pauc_source_within", "pauc_target_within"),
    "dcase2022": ("auc_source", "auc_target", "pauc"),
}
"""Metrics in the official score of 2020 (no domains), of 2021, and of 2022 and later."""


def evaluate(
    is_normal: NDArray[np.bool_],
    domain: Sequence[str | None],
    score: NDArray[np.floating],
    scoring: Scoring = "dcase2022",
) -> dict[str, float]:
    """Return the metrics, in [0, 1], of one machine type and section.

    - ``auc``: all test clips.
    - ``auc_source``, ``auc_target``: normal clips of the domain against *all* anomalies (DCASE 2022 and later).
    - ``auc_source_within``, ``auc_target_within``: against the anomalies of the same domain (DCASE 2021).
    - ``pauc``: false-positive rates up to 0.1, McClish-standardised (chance 0.5), all test clips.
    - ``pauc_source_within``, ``pauc_target_within``: the same, clips of one domain only (DCASE 2021).
    - ``official``: ``official_score`` of this machine type and section alone.

    A metric is NaN if it has no normal or no anomalous clips or a score is NaN; ``official`` is NaN if a term is.

    Args:
        is_normal: (clips,).
        domain: (clips,), "source", "target" or None if unknown.
        score: (clips,), larger is more anomalous.
        scoring: formula of the official score.
    """
    domains = np.asarray(domain, dtype=object)
    values = {name: _auc(is_normal, score, *counted_clips(name, is_normal, domains)) for name in METRICS[:-1]}
    values["official"] = official_score([""], [values], scoring)
    return values


def counted_clips(
    metric: str, is_normal: NDArray[np.bool_], domain: NDArray[np.object_]
) -> tuple[NDArray[np.bool_], float | None]:
    """Return which clips (clips,) a metric counts, and the false-positive rate that it ends at; None: 1.

    Args:
        metric: one of METRICS, not the official score; is_normal, domain: as for ``evaluate``.
    """
    area, _, where = metric.partition("_")
    name, _, within = where.partition("_")
    inside = domain == name if name else np.ones(len(is_normal), dtype=np.bool_)
    return inside if within or not name else inside | ~is_normal, MAX_FPR if area == "pauc" else None


def official_score(machines: Sequence[str], values: Sequence[Mapping[str, float]], scoring: Scoring) -> float:
    """Return the official score of a year; NaN if any term is.

    - 2022 and later: harmonic mean of source AUC, target AUC and pAUC of all machine types and sections.
    - 2021: harmonic mean of AUC and pAUC of all machine types, sections and domains, computed within each domain.
    - 2020: mean of AUC and pAUC over the machine IDs of a machine type, then over machine types. The challenge ranked
      per machine type and defined no overall score; this one is ASDKit's.

    Args:
        machines: machine type of every entry of ``values``.
        values: metrics of every machine type and section (machine ID in 2020).
    """
    terms = [[metrics[name] for name in OFFICIAL_TERMS[scoring]] for metrics in values]
    if scoring != "dcase2020":
        return harmonic_mean(itertools.chain.from_iterable(terms))
    by_machine: dict[str, list[list[float]]] = {}
    for machine, section_terms in zip(machines, terms, strict=True):
        by_machine.setdefault(machine, []).append(section_terms)
    return float(np.mean([np.mean(sections) for sections in by_machine.values()]))


def harmonic_mean(values: Iterable[float]) -> float:
    """Return the harmonic mean, with zeros replaced by machine epsilon as in the official evaluators; NaN if any is."""
    array = np.maximum(np.asarray(list(values), dtype=np.float64), np.finfo(np.float64).eps)
    return float(len(array) / np.sum(1 / array))


def _auc(
    is_normal: NDArray[np.bool_],
    score: NDArray[np.floating],
    where: NDArray[np.bool_],
    max_fpr: float | None,
) -> float:
    """Return the area under the ROC curve, or the McClish-standardised area up to ``max_fpr``; NaN if undefined."""
    # Importing scikit-learn takes a second, and some steps only need the names above.
    from sklearn.metrics import roc_auc_score

    anomalous, score = ~is_normal[where], score[where]
    if anomalous.all() or not anomalous.any() or np.isnan(score).any():
        return math.nan
    # scikit-learn rejects infinite scores. Ranks give the same ROC curve.
    _, ranks = np.unique(score, return_inverse=True)
    return float(roc_auc_score(anomalous, ranks, max_fpr=max_fpr))
