"""Step 5, score: representatives, anomaly scores and thresholds; then the scores of external clips."""

import logging
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray
from typer import Option

from asdpipe.artifacts import read_table, write_table
from asdpipe.config import Method
from asdpipe.config_data import Decoding
from asdpipe.data.decoding import decoded, sources
from asdpipe.data.waveforms import BadClip, Decoded, Waveforms, read_clip
from asdpipe.errors import UserError
from asdpipe.method.inference import (
    anomaly_scores,
    decision_threshold,
    nearest_neighbour,
    representatives,
    selection_threshold,
)
from asdpipe.steps.features import POOL_COLUMNS, leave_out
from asdpipe.steps.options import Device, InFile, MaybeFile, Number, OutFile, Settings, Text

# One core decodes some 100 clips of 10 s in a second.
DECODING_THREADS = 4

MaybeOutFile = Annotated[Path | None, Option(dir_okay=False, help="Artifact to write, if it is wanted.")]

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
    scores: OutFile,
    skipped: MaybeOutFile = None,
    index: MaybeFile = None,
    samples: MaybeFile = None,
    pool_clips: MaybeFile = None,
    shard: Number = 0,
    settings: Settings = "{}",
    device: Device = "auto",
) -> None:
    """Score one shard of the pool against every machine type; keep what passes its threshold (§4.1.1).

    Args:
        index, samples: the packed shard; or
        pool_clips, shard, settings, skipped: the manifest, the shard whose files are decoded now, channel, min_seconds
            and on_bad_clip, and the csv of its bad clips.
    """
    # PyTorch is only loaded by the steps that need it.
    from asdpipe.training.checkpoint import load_model
    from asdpipe.training.device import pick_device
    from asdpipe.training.embedding import embed

    network, num_samples = load_model(weights, description)
    decoding = Decoding.model_validate_json(settings)
    centres = {
        machine: np.stack(list(part.vector))
        for machine, part in read_table("representatives", representatives_in).groupby("machine")
    }
    limit = read_table("thresholds", thresholds).set_index("machine").threshold
    clip_ids: list[str] = []
    bad: list[tuple[str, str]] = []
    waveforms: Iterable[NDArray[np.int16]]
    if index is not None and samples is not None:
        waveforms = packed = Waveforms([(index, samples)])
        total = len(packed)
        clip_ids += packed.clip_ids.tolist()
    elif pool_clips is not None and skipped is not None:
        table = read_table("pool_clips", pool_clips, POOL_COLUMNS, pc.field("shard") == shard)
        total = len(table)
        read = partial(read_clip, channel=decoding.channel, min_seconds=decoding.min_seconds)
        waveforms = _good(decoded(sources(table), read, DECODING_THREADS), clip_ids, bad)
    else:
        raise UserError("score-external needs --index and --samples, or --pool-clips and --skipped")
    start = 0
    rows, machines, values = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=object)], [np.zeros(0)]
    for embedding in embed(network, waveforms, total, num_samples, pick_device(device)):
        for machine, vector in centres.items():
            value, _ = anomaly_scores(embedding, vector)
            passed = np.flatnonzero(value <= limit[machine])
            rows.append(start + passed)
            machines.append(np.full(len(passed), machine, dtype=object))
            values.append(value[passed])
        start += len(embedding)
    if skipped is not None:
        leave_out(pd.DataFrame(bad, columns=["path", "reason"]), total, decoding, skipped)
    frame = pd.DataFrame(
        {
            "clip_id": np.array(clip_ids, dtype=object)[np.concatenate(rows)],
            "machine": np.concatenate(machines),
            "score": np.concatenate(values),
        }
    )
    logger.info("%d clips, %d rows under a threshold", start, len(frame))
    write_table("external_scores", frame, scores, {"pool": pool, "scored": start})


def _good(clips: Iterable[Decoded], clip_ids: list[str], bad: list[tuple[str, str]]) -> Iterator[NDArray[np.int16]]:
    """Yield the samples of good clips and note their names; note bad clips and why they are bad."""
    for clip_id, name, samples in clips:
        if isinstance(samples, BadClip):
            bad.append((name, str(samples)))
        else:
            clip_ids.append(clip_id)
            yield samples


def join_embeddings(clips: Path, embeddings: Path) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """Return the manifest of the embedded clips and their embeddings, float32 (clips, dim), in the manifest's order.

    Clips of unknown domain count as source.
    """
    table = read_table("clips", clips).merge(read_table("embeddings", embeddings), on="clip_id")
    table = table.assign(domain=table.domain.fillna("source"))
    return table.drop(columns="embedding"), np.stack(list(table.embedding)).astype(np.float32)
