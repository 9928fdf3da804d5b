"""Step 5, score: representatives, anomaly scores and thresholds; then the scores of external clips."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdpipe.artifacts import read_table, write_table
from asdpipe.config import Method
from asdpipe.data.waveforms import Waveforms
from asdpipe.method.inference import (
    anomaly_scores,
    decision_threshold,
    nearest_neighbour,
    representatives,
    selection_threshold,
)
from asdpipe.steps.options import Device, InFile, Number, OutFile, Settings, Text

logger = logging.getLogger(__name__)


def score(
    settings: Settings,
    seed: Number,
    clips: InFile,
    embeddings: InFile,
    representatives_out: OutFile,
    scores: OutFile,
    thresholds: OutFile,
) -> None:
    """Score the training and test clips of every machine type.

    Args:
        settings: uses kind, inference; seed: of k-means.
    """
    method = Method.model_validate_json(settings)
    table, vectors = join_embeddings(clips, embeddings)
    centres, scored, limits = [], [], []
    for machine, rows in table.groupby("machine").indices.items():
        part, embedding = table.iloc[rows], vectors[rows]
        train = np.flatnonzero(part.split == "train")
        is_source = (part.domain.iloc[train] == "source").to_numpy()
        if not (~is_source).any():
            logger.warning("%s has no target training clips: source representatives only", machine)
        if method.kind == "raw_logmel":
            vector, clip = embedding[train], np.arange(len(train))
            source = is_source
            same = np.arange(len(part))[:, None] == train[None]
            value, nearest = nearest_neighbour(embedding.astype(np.float64), vector.astype(np.float64), same)
        else:
            vector, source, clip = representatives(embedding[train], is_source, method.inference.k_source, seed)
            value, nearest = anomaly_scores(embedding, vector)
        clip_ids = part.clip_id.to_numpy()[train][clip]
        domain = np.where(source, "source", "target")
        centres.append(
            pd.DataFrame(
                {"machine": machine, "domain": domain, "representative": range(len(vector)), "clip_id": clip_ids}
            ).assign(vector=list(vector))
        )
        scored.append(
            pd.DataFrame(
                {
                    "clip_id": part.clip_id,
                    "score": value,
                    "representative": nearest,
                    "nearest_clip_id": clip_ids[nearest],
                }
            )
        )
        limits.append((machine, *_limits(value[train], method)))
    write_table("representatives", pd.concat(centres), representatives_out)
    write_table("scores", pd.concat(scored), scores)
    columns = ["machine", "threshold", "decision_threshold"]
    write_table("thresholds", pd.DataFrame(limits, columns=columns), thresholds)


def _limits(training_scores: NDArray[np.float64], method: Method) -> tuple[float, float]:
    finite = training_scores[np.isfinite(training_scores)]
    if method.kind == "raw_logmel":
        # Distances have no gamma rule of their own: the quantile of the training clips decides.
        quantile = float(np.quantile(finite, method.inference.decision_quantile)) if len(finite) else np.inf
        return float(finite.max(initial=0)), quantile
    return selection_threshold(finite), decision_threshold(finite, method.inference.decision_quantile)


def score_external(
    pool: Text,
    weights: InFile,
    description: InFile,
    representatives_in: InFile,
    thresholds: InFile,
    index: InFile,
    samples: InFile,
    scores: OutFile,
    device: Device = "auto",
) -> None:
    """Score one shard of the pool against every machine type; keep what passes its threshold (§4.1.1)."""
    # PyTorch is only loaded by the steps that need it.
    from asdpipe.training.checkpoint import load_model
    from asdpipe.training.device import pick_device
    from asdpipe.training.embedding import embed

    network, num_samples = load_model(weights, description)
    waveforms = Waveforms([(index, samples)])
    centres = {
        machine: np.stack(list(part.vector))
        for machine, part in read_table("representatives", representatives_in).groupby("machine")
    }
    limit = read_table("thresholds", thresholds).set_index("machine").threshold
    kept = [pd.DataFrame({"clip_id": [], "machine": [], "score": []})]
    start = 0
    for embedding in embed(network, waveforms, num_samples, pick_device(device)):
        clip_ids = waveforms.clip_ids[start : start + len(embedding)]
        start += len(embedding)
        for machine, vector in centres.items():
            value, _ = anomaly_scores(embedding, vector)
            passed = value <= limit[machine]
            kept.append(pd.DataFrame({"clip_id": clip_ids[passed], "machine": machine, "score": value[passed]}))
    frame = pd.concat(kept[1:] or kept, ignore_index=True)
    logger.info("%d clips, %d rows under a threshold", len(waveforms), len(frame))
    write_table("external_scores", frame, scores, {"pool": pool, "scored": len(waveforms)})


def join_embeddings(clips: Path, embeddings: Path) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """Return the manifest of the embedded clips and their embeddings, float32 (clips, dim), in the manifest's order."""
    table = read_table("clips", clips).merge(read_table("embeddings", embeddings), on="clip_id")
    return table.drop(columns="embedding"), np.stack(list(table.embedding)).astype(np.float32)
