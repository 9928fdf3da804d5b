"""Split conformal p-values, and alarm limits that keep a rate of false alarms.

A new clip that is exchangeable with the calibration clips, as normal clips of the same machine and conditions are, has
a p-value of at most any ``rate`` with a probability of at most ``rate``, whatever the scores are and however few clips
there are (Vovk, Gammerman and Shafer, 2005; for outliers Bates et al., 2023). The probability is over calibration clips
and new clip together. What scores the calibration clips must not have been fitted to them.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scores = NDArray[np.float64]


def p_values(scores: ArrayLike, calibration: Scores) -> NDArray[np.float64]:
    """Return the p-values of scores (clips,) given those of n calibration clips: (1 + #{calibration >= score})/(n + 1).

    Equal scores count as at least as anomalous. NaN has the p-value 1 / (n + 1): what cannot be compared is suspicious.
    """
    below = np.searchsorted(np.sort(calibration), np.asarray(scores, dtype=np.float64), side="left")
    return (1 + len(calibration) - below) / (1 + len(calibration))


def smallest_rate(clips: int) -> float:
    """Return the smallest rate that a number of calibration clips can keep with alarms: 1 / (n + 1)."""
    return 1 / (clips + 1)


def clips_needed(rate: float) -> int:
    """Return how many calibration clips a rate in (0, 1) needs: the least n with 1 / (n + 1) <= rate."""
    clips = round(1 / rate) - 1
    # The same comparison as that of a p-value, so that rounding cannot make a difference.
    return clips + (smallest_rate(clips) > rate)


def alarm_limit(calibration: Scores, rate: float) -> float:
    """Return the score above which the p-value is at most a rate in (0, 1); infinite if there are too few clips.

    With k the largest number for which k / (n + 1) <= rate, this is the k-th largest score of the calibration clips.
    """
    size = len(calibration) + 1
    k = round(rate * size)
    k -= k / size > rate
    return float(np.sort(calibration)[-k]) if k else np.inf


def drift(new: Scores, earlier: Scores) -> float:
    """Return how likely new and earlier scores of normal clips are to differ so much if their distribution is the same.

    This is the p-value of the two-sided two-sample test of Kolmogorov and Smirnov; neither sample is empty.
    """
    from scipy.stats import ks_2samp

    return float(ks_2samp(new, earlier).pvalue)
