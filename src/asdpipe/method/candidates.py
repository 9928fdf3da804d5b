"""Candidate labels of the training clips of one machine type, the best first (Top-M pseudo-labels, §2).

A clip's label is its section and its attributes; None if neither is known. Candidates do not depend on M.
scikit-learn and scipy are imported where they are used, because importing them takes longer than most steps.
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asdpipe.method.representatives import cluster, normalize

Labels = Sequence[str | None]
Floats = NDArray[np.floating]
Availability = Literal["consistent", "fragmented", "partial", "none"]
Strategy = Literal["sample", "cluster", "direct"]

# A label with fewer clips than this, on average, is fragmented.
CLIPS_PER_LABEL = 5
TREES = 200


class Ranking(NamedTuple):
    """The candidates of each clip, the best first; every clip has at least one, and none twice."""

    labels: list[tuple[str, ...]]
    confidence: list[tuple[float, ...]]
    """Of each candidate: its probability, or its distance with the sign changed."""
    used: int
    """Neighbours or clusters: fewer than asked for if there are too few clips."""


def availability(labels: Labels, k1: int) -> Availability:
    """Return how complete and consistent the labels of a machine type's training clips are (Table 1).

    - ``none``: no clip has a label; ``partial``: some clips have none;
    - ``consistent``: at most ``k1`` labels, with 5 clips or more on average, that all name the same fields;
    - ``fragmented``: any other labels of all clips.

    A label is fields joined by underscores, name and value in turn: ``vel_8_loc_E`` names vel and loc. The last field
    is a value; a first one without a name (a section, or a single word) is a value, too.
    """
    known = {label for label in labels if label is not None}
    if not known:
        return "none"
    if None in labels:
        return "partial"
    few = len(known) <= k1 and len(labels) >= CLIPS_PER_LABEL * len(known)
    return "consistent" if few and len({_field_names(label) for label in known}) == 1 else "fragmented"


def _field_names(label: str) -> tuple[str, ...]:
    fields = label.split("_")
    return tuple(fields[len(fields) % 2 :: 2])


def choose_strategy(labels: Labels, k1: int) -> Strategy:
    """Return the strategy for a machine type: ``sample`` for consistent labels, else ``cluster`` (Table 1).

    ``direct`` is never chosen: only a person knows that labels are reliable.
    """
    return "sample" if availability(labels, k1) == "consistent" else "cluster"


def rank_by_neighbours(features: Floats, labels: Labels, *, k1: int, confidence: float, seed: int) -> Ranking:
    """Rank the labels of each clip's nearest neighbours by a random forest (sample-wise label transfer).

    Neighbours are the ``k1`` nearest labelled clips other than the clip itself, after every feature is scaled to unit
    variance. A clip without neighbours, the only labelled one, keeps its label.

    Probabilities of a labelled clip are those of the trees that were not trained on it. Where no tree is left, they are
    the shares of the labels among its neighbours.

    Args:
        features: (clips, dim), statistics of the MFCCs.
        labels: of each clip, at least one of them known.
        confidence: candidates must be more probable than this; if none is, the most probable one is the only one. With
            more than 0.5, as in the paper, at most one candidate is left, because probabilities sum to 1: M has no
            effect. 0 keeps all, those of probability 0 too.
        seed: of the random forest.
    """
    from sklearn.neighbors import NearestNeighbors

    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)
    known = np.array([row for row, label in enumerate(labels) if label is not None])
    names, index = np.unique([labels[row] for row in known], return_inverse=True)
    # One more than k1: a labelled clip is its own nearest neighbour.
    search = NearestNeighbors(n_neighbors=min(k1 + 1, len(known)), algorithm="brute").fit(scaled[known])
    nearest = search.kneighbors(scaled, return_distance=False)
    probabilities, has_votes = _forest_probabilities(scaled, known, index, seed)

    found: list[tuple[str, ...]] = []
    values: list[tuple[float, ...]] = []
    for row, label in enumerate(labels):
        neighbours = [each for each in nearest[row] if known[each] != row][:k1]
        votes = Counter(index[neighbours].tolist())
        if not votes:
            found.append((str(label),))
            values.append((1.0,))
            continue
        share = {each: count / len(neighbours) for each, count in votes.items()}
        probability = {each: probabilities[row, each] if has_votes[row] else share[each] for each in votes}
        # The index of a label is its place in the alphabet.
        ranked = sorted(votes, key=lambda each: (-probability[each], each))
        kept = [each for each in ranked if probability[each] > confidence or confidence == 0] or ranked[:1]
        found.append(tuple(str(names[each]) for each in kept))
        values.append(tuple(float(probability[each]) for each in kept))
    return Ranking(found, values, min(k1, len(known) - 1))


def _forest_probabilities(
    features: Floats, known: NDArray[np.int64], index: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the probability of each label (clips, labels), and whether any tree had a vote (clips,)."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(TREES, oob_score=True, random_state=seed)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        # About clips without a vote.
        warnings.simplefilter("ignore", UserWarning)
        forest.fit(features[known], index)
    probabilities = forest.predict_proba(features)
    probabilities[known] = forest.oob_decision_function_
    # Without votes they are zero or NaN.
    return probabilities, probabilities.sum(axis=1) > 0.5


def rank_by_clusters(embedding: Floats, labels: Labels, *, k2: int, seed: int) -> Ranking:
    """Rank the labels of the clusters by their distance to each clip (cluster-wise label propagation).

    k-means on the L2-normalised embeddings of all clips, of both domains. The label of a cluster is

    - if all clips have a label (fragmented): that of most of its clips, so that a cluster settles conflicts;
    - if some have one (partial): that of most of its labelled clips, or ``cluster_<number>`` without any;
    - if none has one: its number.

    Of labels with the same number of clips the first in the alphabet counts. Distances are to the centroids; if some
    clips have a label, to the labelled clip that is nearest to the centroid, where the cluster has one. A label that
    several clusters have is a candidate once, at the smallest distance, so a clip may have fewer candidates than there
    are clusters. If some clips have a label, it is their first candidate, at distance 0.

    Args:
        embedding: (clips, dim).
        labels: of each clip.
        k2: clusters, at most the number of distinct clips.
        seed: of k-means.
    """
    from scipy.spatial.distance import cdist

    unit = normalize(embedding)
    points, nearest = cluster(unit, k2, seed)
    known = np.array([label is not None for label in labels])
    names = [str(number) for number in range(len(points))]
    if known.any():
        of_cluster = [
            [label for label, at in zip(labels, nearest, strict=True) if at == number] for number in range(len(points))
        ]
        names = [_most_frequent(each) or f"cluster_{number}" for number, each in enumerate(of_cluster)]
    keeps_own = bool(known.any() and not known.all())
    if keeps_own:
        for number in range(len(points)):
            rows = np.flatnonzero(known & (nearest == number))
            if len(rows):
                points[number] = unit[rows[cdist(points[[number]], unit[rows]).argmin()]]

    found: list[tuple[str, ...]] = []
    values: list[tuple[float, ...]] = []
    for label, distance in zip(labels, cdist(unit, points), strict=True):
        best: dict[str, float] = {} if label is None or not keeps_own else {label: 0.0}
        for each in distance.argsort(kind="stable"):
            best.setdefault(names[each], -float(distance[each]))
        found.append(tuple(best))
        values.append(tuple(best.values()))
    return Ranking(found, values, len(points))


def _most_frequent(labels: Iterable[str | None]) -> str | None:
    counts = Counter(filter(None, labels))
    return min(counts, key=lambda label: (-counts[label], label)) if counts else None


def own_labels(labels: Sequence[str]) -> Ranking:
    """Return the label of each clip as its only candidate (direct use of the ground truth)."""
    return Ranking([(label,) for label in labels], [(1.0,)] * len(labels), 0)
