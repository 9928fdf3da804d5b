"""Candidate labels of every training clip, and the classes that they make for each M (Top-M pseudo-labels, §2-3)."""

import logging
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdpipe.artifacts.files import write_csv
from asdpipe.artifacts.tables import write_table
from asdpipe.artifacts.vectors import embedded_clips
from asdpipe.config.base import read_settings
from asdpipe.config.labels import Candidates
from asdpipe.config.method import RankLabelsSettings
from asdpipe.data.manifests import packed_clips
from asdpipe.data.waveforms import Waveforms
from asdpipe.errors import UserError
from asdpipe.method.candidates import (
    Labels,
    Ranking,
    Strategy,
    availability,
    choose_strategy,
    own_labels,
    rank_by_clusters,
    rank_by_neighbours,
)
from asdpipe.method.composite_labels import EVERY_M, ORDERS, class_counts, warnings_of
from asdpipe.steps.options import InFile, MaybeFile, Number, OutFile, Settings
from asdpipe.training.labels import check_complete, described_clips

Vectors = dict[str, NDArray[np.float32]]
"""A vector per clip, by clip_id."""

logger = logging.getLogger(__name__)


def rank_labels(
    settings: Settings,
    num_samples: Number,
    seed: Number,
    clips: InFile,
    index: InFile,
    samples: InFile,
    labels: OutFile,
    classes: OutFile,
    embeddings: MaybeFile = None,
) -> None:
    """Rank the candidate labels of every training clip.

    Args:
        settings: of the candidates; num_samples: length that clips are tiled or cut to.
        seed: of k-means and the random forests.
        clips, index, samples: of the training clips.
        labels: candidates; classes: number and size of the classes per machine type and M.
        embeddings: latent embeddings of the training clips; needed if a machine type is clustered.
    """
    used = read_settings(RankLabelsSettings, settings).candidates
    table = packed_clips(clips, index)
    table = table.assign(own=pd.Series([clip.own_label for clip in described_clips(table)], dtype=object))
    machines = {str(machine): part for machine, part in table.groupby("machine")}
    if unknown := sorted(used.strategies.keys() - machines.keys()):
        logger.warning("labels.candidates.strategies: there are no training clips of %s", ", ".join(unknown))
    strategies = {machine: strategy_of(machine, part, used) for machine, part in machines.items()}
    sampled = table[table.machine.map(strategies) == "sample"]
    clustered = table[table.machine.map(strategies) == "cluster"]
    vectors = mfcc_statistics(sampled, index, samples, num_samples) | latent_vectors(clustered, clips, embeddings)

    tables, counts = [], []
    for machine, part in machines.items():
        own, strategy = part.own.tolist(), strategies[machine]
        ranking = rank(strategy, [vectors.get(clip_id) for clip_id in part.clip_id], own, used, seed)
        warn_of_few(machine, strategy, ranking.used, used)
        tables.append(as_rows(part, ranking))
        found = [class_counts(ranking.labels, m, order) for order in ORDERS for m in EVERY_M]
        # Whether a training sorts candidates is decided later; "ranked" is the paper's order.
        for order, level in zip(ORDERS, (logging.WARNING, logging.INFO), strict=True):
            for warning in warnings_of(found, order):
                logger.log(level, "%s: %s", machine, warning)
        counts.append(pd.DataFrame(found).assign(machine=machine, strategy=strategy))
    columns = ["machine", "strategy", "order", "m", "clips", "classes", "singletons", "entropy"]
    write_csv(pd.concat(counts)[columns], classes)
    write_table("pseudo_labels", pd.concat(tables), labels, {"strategies": strategies})


def strategy_of(machine: str, clips: pd.DataFrame, used: Candidates) -> Strategy:
    """Return the strategy of a machine type, as set or chosen.

    Args:
        clips: its training clips, with their labels in column ``own``.

    Raises:
        UserError: the strategy that is set needs labels that clips do not have.
    """
    own, stated = clips.own.tolist(), used.of(machine)
    chosen = choose_strategy(own, used.k1) if stated == "auto" else stated
    without = clips.clip_id[clips.own.isna()].tolist()
    advice = f"take cluster (labels.candidates.strategies: {{{machine}: cluster}})"
    if chosen == "direct" and without:
        message = f"{len(without)} training clips of {machine} have no section or attributes, e.g. {without[0]}"
        raise UserError(f"labels.candidates: direct uses the label of each clip, but {message}; {advice}")
    if chosen == "sample" and len(without) == len(own):
        raise UserError(f"labels.candidates: sample needs labels, but no training clip of {machine} has any; {advice}")
    which = availability(own, used.k1)
    count = clips.own.nunique()
    logger.info("%s: strategy %s (%d clips, %d labels: %s)", machine, chosen, len(own), count, which)
    return chosen


def mfcc_statistics(clips: pd.DataFrame, index: Path, samples: Path, num_samples: int) -> Vectors:
    """Return mean and standard deviation of the MFCCs of clips, computed on the CPU."""
    if clips.empty:
        return {}
    # Imported here because clusters need no PyTorch.
    import torch

    from asdpipe.models.mfcc import MfccStatistics
    from asdpipe.training.embedding import embed

    waveforms = Waveforms([(index, samples)])
    rows = waveforms.rows(clips.clip_id.tolist(), [True] * len(clips))
    batches = embed(MfccStatistics(num_samples), (waveforms[row] for row in rows), len(rows), torch.device("cpu"))
    return dict(zip(clips.clip_id, chain.from_iterable(batches), strict=True))


def latent_vectors(clips: pd.DataFrame, manifest: Path, embeddings: Path | None) -> Vectors:
    """Return the latent embeddings of clips.

    Raises:
        UserError: there are none, or not of every clip.
    """
    if clips.empty:
        return {}
    if embeddings is None:
        message = f"the clips of {', '.join(sorted(set(clips.machine)))} are to be clustered, but it is not set"
        raise UserError(
            f"labels.candidates.latent: {message}; name the method whose embeddings to take, or take another strategy"
        )
    table, vectors = embedded_clips(manifest, embeddings)
    found = dict(zip(table.clip_id, vectors, strict=True))
    check_complete(clips.clip_id, found, "latent embeddings")
    return {clip_id: found[clip_id] for clip_id in clips.clip_id}


def rank(
    strategy: Strategy, vectors: Sequence[NDArray[np.float32] | None], own: Labels, used: Candidates, seed: int
) -> Ranking:
    """Return the candidates of a machine type's clips.

    Args:
        vectors: of its clips; not used with ``direct``.
        own: their labels.
    """
    if strategy == "direct":
        return own_labels([str(label) for label in own])
    stacked = np.stack([vector for vector in vectors if vector is not None])
    if strategy == "sample":
        return rank_by_neighbours(stacked, own, k1=used.k1, confidence=used.confidence, seed=seed)
    return rank_by_clusters(stacked, own, k2=used.k2, seed=seed)


def warn_of_few(machine: str, strategy: Strategy, found: int, used: Candidates) -> None:
    """Warn of a machine type with fewer clips than K1 or K2."""
    if strategy == "sample" and found < used.k1:
        logger.warning("%s: %d neighbours instead of k1 = %d: there are no more clips", machine, found, used.k1)
    if strategy == "cluster" and found < used.k2:
        logger.warning("%s: %d clusters instead of k2 = %d, one per distinct clip", machine, found, used.k2)


def as_rows(clips: pd.DataFrame, ranking: Ranking) -> pd.DataFrame:
    """Return one row per candidate."""
    table = clips[["clip_id", "machine", "domain"]].assign(label=ranking.labels, confidence=ranking.confidence)
    table = table.explode(["label", "confidence"], ignore_index=True)
    return table.assign(rank=table.groupby("clip_id", sort=False).cumcount() + 1)
