"""Numbers that follow the number of training clips: the rules of settings that are ``auto``.

The upper bounds are the paper's values (§5.2), which hold at the sizes of DCASE: 990 source and 10 target clips per
machine type. A rule of a machine type takes the clips of that type, a rule of the data set those of all of them.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, NamedTuple

AUTO: Final = "auto"

# Source clips of a machine type in DCASE 2023 to 2025 (of a section in 2022), at which the paper's numbers are reached.
PAPER_SOURCE = 990
# A threshold needs several clips per centroid: a clip that is its own centroid has the lowest score there is. One
# centroid of all clips is worse than two for models of pseudo-labels (docs/evidence.md).
CLIPS_PER_CENTROID = 10
MOST_CENTROIDS = 16
# Fewest and most. One cluster would not split the source clips.
CLUSTERS = (2, 16)
# Ten target clips make four clusters.
TARGET_CLUSTERS_PER_CLIP = 0.4
MOST_TARGET_CLUSTERS = 4
# Fewest and most. Two or four instead of sixteen were nowhere better, and worse in most trainings of a hundred clips or
# more (docs/evidence.md). A sub-cluster needs clips of its own.
SUBCLUSTERS = (2, 16)
CLIPS_PER_SUBCLUSTER = 4
# About as many external clips as training clips.
MOST_EXTERNAL = 1000
# An epoch has at least so many batches, unless they would be smaller than 16 clips: fifty epochs make 2000 steps, which
# are better than 500 with a hundred clips per machine type (docs/evidence.md).
BATCHES_PER_EPOCH = 40
# Fewest and most.
SOURCE_PER_BATCH = (16, 80)
# One clip in five is a target clip.
SOURCE_PER_TARGET = 4
EPOCHS = 50
# Optimiser steps of a stage without external clips. More than fifty epochs of a few dozen clips make it worse
# (docs/evidence.md).
MIN_STEPS = 200


class Size(NamedTuple):
    """Numbers of original training clips of a machine type."""

    source: int
    target: int


Sizes = Mapping[str, Size]
"""By machine type."""
Rule = Callable[[Size], int]


def count_clips(machine: Iterable[str], domain: Iterable[str]) -> dict[str, Size]:
    """Return the size of every machine type.

    Args:
        machine, domain: of each original training clip; "source" or "target".
    """
    clips = Counter(zip(machine, domain, strict=True))
    return {name: Size(clips[name, "source"], clips[name, "target"]) for name in sorted({name for name, _ in clips})}


def by_machine(stated: int | Literal["auto"], rule: Rule, sizes: Sizes) -> dict[str, int]:
    """Return a number for every machine type: the stated one, or that of a rule."""
    return {name: stated if isinstance(stated, int) else rule(size) for name, size in sizes.items()}


# ---------------------------------------------------------------- of a machine type


def centroids(size: Size) -> int:
    """Return the centroids that represent the source clips (k_so, eq. 3)."""
    return _within(1, round(size.source / CLIPS_PER_CENTROID), MOST_CENTROIDS)


def source_clusters(size: Size) -> int:
    """Return the pseudo-labels of the source clips (k_so, eq. 13): they grow with the square root of the clips."""
    return _within(CLUSTERS[0], round(CLUSTERS[1] * math.sqrt(size.source / PAPER_SOURCE)), CLUSTERS[1])


def target_clusters(size: Size) -> int:
    """Return the pseudo-labels of the target clips (k_ta, eq. 13)."""
    return _within(1, math.ceil(TARGET_CLUSTERS_PER_CLIP * size.target), MOST_TARGET_CLUSTERS)


def external_clips(size: Size) -> int:
    """Return the largest number of external clips (N_max, eq. 7)."""
    return min(MOST_EXTERNAL, size.source + size.target)


# ---------------------------------------------------------------- of the data set


def subclusters(median_source: float) -> int:
    """Return the sub-clusters of a class (S).

    Args:
        median_source: median of the machine types' numbers of source clips.
    """
    return _within(SUBCLUSTERS[0], int(median_source // CLIPS_PER_SUBCLUSTER), SUBCLUSTERS[1])


def source_per_batch(total_source: int) -> int:
    """Return the source clips of a batch."""
    return _within(SOURCE_PER_BATCH[0], round(total_source / BATCHES_PER_EPOCH), SOURCE_PER_BATCH[1])


def target_per_batch(source: int) -> int:
    """Return the target clips of a batch with so many source clips, at least one."""
    return max(1, source // SOURCE_PER_TARGET)


def epochs(steps_per_epoch: int) -> int:
    """Return the epochs of a training: the paper's, or more if these have too few optimiser steps.

    Args:
        steps_per_epoch: optimiser steps of an epoch of the original source clips, without external clips.
    """
    return max(EPOCHS, math.ceil(MIN_STEPS / steps_per_epoch))


def _within(lowest: int, value: int, highest: int) -> int:
    return max(lowest, min(value, highest))
