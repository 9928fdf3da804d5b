"""Select the pseudo-anomalous set from external clips (paper §4.1.1, eq. 7)."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer]


class Selection(NamedTuple):
    """The selected external clips, ordered by machine type and rank."""

    row: NDArray[np.int64]
    """(selected,): row of the selected candidate."""
    rank: NDArray[np.int64]
    """(selected,): 1 for the most similar clip of its machine type."""
    n_out: dict[int, int]
    """N_out, number of clips assigned to each machine type; machine types without any are absent."""


def select(
    clip: Ints,
    machine: Ints,
    score: NDArray[np.floating],
    n_max: Ints,
    assign: Literal["most_similar", "rarest"] = "most_similar",
) -> Selection:
    """Assign every candidate clip to one machine type, then keep the N_ex = min(N_out, N_max) lowest scores (eq. 7).

    Equal scores are ranked by clip index, so the result does not depend on the order of the rows.

    Args:
        clip, machine, score: (candidates,), one row per clip and machine type whose threshold it is below.
        n_max: (machines,), maximum number of clips of each machine type.
        assign: machine type of a clip with several candidates: the one with the lowest score (paper), or with the
            fewest candidates (released code). Ties go to the lower score, then to the lower machine index.
    """
    keys = [machine, score]
    if assign == "rarest":
        candidates = np.bincount(machine, minlength=1) if len(machine) else np.zeros(1, dtype=int)
        keys.append(candidates[machine])
    by_clip = np.lexsort([*keys, clip])
    first = np.concatenate([[True], np.diff(clip[by_clip]) != 0]) if len(clip) else np.zeros(0, dtype=bool)
    rows = by_clip[first]
    rows = rows[np.lexsort([clip[rows], score[rows], machine[rows]])]
    machines, start, counts = np.unique(machine[rows], return_index=True, return_counts=True)
    rank = np.arange(len(rows)) - np.repeat(start, counts) + 1
    kept = rank <= n_max[machine[rows]]
    n_out = dict(zip(machines.tolist(), counts.tolist(), strict=True))
    return Selection(rows[kept], rank[kept], n_out)


def select_random(num_clips: int, n_max: Ints, seed: int) -> tuple[NDArray[np.int64], Ints]:
    """Draw N_max external clips per machine type at random, no clip twice (control experiment of Table 4).

    If the pool is too small, no machine type gets more than an equal share.

    Args:
        n_max: (machines,), number of clips of each machine type.

    Returns:
        Clip indices and machine indices, both (selected,), grouped by machine type.
    """
    each = np.minimum(n_max, num_clips // max(len(n_max), 1))
    drawn = np.random.default_rng(seed).permutation(num_clips)[: each.sum()]
    return drawn, np.repeat(np.arange(len(n_max)), each)
