"""Step 5, score: representatives, anomaly scores and thresholds; then the scores of external clips."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray
from typer import Option

from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.data import Decoding
from asdpipe.config.method import Method
from asdpipe.data.decoding import decoded, sources
from asdpipe.data.waveforms import BadClip, Decoded, Waveforms, read_clip
from asdpipe.errors import UserError
from asdpipe.method.representatives import anomaly_scores, decision_threshold, nearest_neighbour, selection_threshold
from asdpipe.method.representatives import representatives as make_representatives
from asdpipe.method.scorers import knn_scores, local_density, references, rescaled_scores, selective_score
from asdpipe.steps.features import POOL_COLUMNS, leave_out
from asdpipe.steps.options import Device, InFile, MaybeFile, Number, OutFile, Positive, Settings, Text

# One core decodes some 100 clips of 10 s in a second.
DECODING_THREADS = 4

MaybeOutFile = Annotated[Path | None, Option(dir_okay=False, help="Artifact to write, if it is wanted.")]

logger = logging.getLogger(__name__)


def represent(k_source: Positive, seed: Number, clips: InFile, embeddings: InFile, representatives: OutFile) -> None:
    """Make the representatives of every machine type, and the threshold of the external clips (§3.3, §4.1.1).

    Args:
        k_source: k-means centroids of the source clips; seed: of k-means.
    """
    table, vectors = join_embeddings(clips, embeddings)
    train = (table.split == "train").to_numpy()
    table, vectors = table[train], vectors[train]
    frames = []
    for machine, rows in table.groupby("machine").indices.items():
        part, embedding = table.iloc[rows], vectors[rows]
        is_source = (part.domain == "source").to_numpy()
        if is_source.all():
            logger.warning("%s has no target training clips: source representatives only", machine)
        found = make_representatives(embedding, is_source, k_source, seed)
        frame = pd.DataFrame(
            {
                "machine": machine,
                "domain": np.where(found.is_source, "source", "target"),
                "representative": range(len(found.clip)),
                "clip_id": part.clip_id.to_numpy()[found.clip],
                "threshold": selection_threshold(anomaly_scores(embedding, found.vectors)[0]),
            }
        )
        frames.append(frame.assign(vector=list(found.vectors)))
    write_table("representatives", pd.concat(frames), representatives)


def score(
    settings: Settings,
    seed: Number,
    clips: InFile,
    embeddings: InFile,
    scores: OutFile,
    thresholds: OutFile,
    representatives: MaybeFile = None,
) -> None:
    """Score the training and test clips of every machine type.

    Args:
        settings: uses kind, inference; seed: of SMOTE.
        representatives: for the paper's system with the back end kmeans.
    """
    method = Method.model_validate_json(settings)
    table, vectors = join_embeddings(clips, embeddings, distances=method.kind == "autoencoder")
    centres = None if representatives is None else _centres(representatives, vectors.shape[1])
    scored, limits = [], []
    for machine, rows in table.groupby("machine").indices.items():
        part, embedding = table.iloc[rows], vectors[rows]
        if not (part.split == "train").any():
            raise UserError(f"{embeddings}: has no training clip of machine type {machine}; delete it and run again")
        if centres is not None and machine not in centres:
            raise UserError(f"{representatives}: has none of machine type {machine}; delete it and run again")
        found = _score_machine(part, embedding, None if centres is None else centres[machine], method, seed)
        if np.isnan(found.score).any():
            clip = part.clip_id.to_numpy()[np.isnan(found.score)][0]
            raise UserError(f"{embeddings}: the score of {clip} is not a number; delete it and run again")
        scored.append(
            pd.DataFrame(
                {
                    "clip_id": part.clip_id,
                    "score": found.score,
                    "representative": pd.array(found.reference, dtype="Int32"),
                    "nearest_clip_id": found.nearest_clip_id,
                }
            )
        )
        limits.append((machine, *_limits(found.score[(part.split == "train").to_numpy()], method)))
    write_table("scores", pd.concat(scored), scores)
    columns = ["machine", "threshold", "decision_threshold"]
    write_table("thresholds", pd.DataFrame(limits, columns=columns), thresholds)


class Scored(NamedTuple):
    """The scores of one machine type's clips."""

    score: NDArray[np.float64]
    reference: Sequence[int | None] | NDArray[np.int64]
    """(clips,): index of the nearest representative or training clip; none: the score compares with none."""
    nearest_clip_id: Sequence[str | None] | NDArray[np.object_]


class Centres(NamedTuple):
    """The representatives of one machine type."""

    vectors: NDArray[np.float32]
    """(representatives, dim)."""
    clip_id: NDArray[np.object_]
    threshold: float


def _centres(file: Path, dim: int | None = None) -> dict[str, Centres]:
    """Return the representatives of every machine type.

    Args:
        dim: size of the embeddings, if it is known.

    Raises:
        UserError: there are none, or their vectors are not finite or of another size.
    """
    table = read_table("representatives", file)
    vectors = _stacked(table.vector, table.clip_id, file, dim)
    _check_finite(vectors, table.clip_id, file)
    return {
        str(machine): Centres(
            vectors[rows], table.clip_id.to_numpy(dtype=object)[rows], float(table.threshold.iloc[rows[0]])
        )
        for machine, rows in table.groupby("machine").indices.items()
    }


def _stacked(vectors: pd.Series, names: pd.Series, file: Path, dim: int | None = None) -> NDArray[np.float32]:
    """Return vectors as rows, float32 (n, dim).

    Args:
        names: of the clips, for the message; dim: None: as long as the first one.

    Raises:
        UserError: there are none, or they differ in size.
    """
    if vectors.empty:
        raise UserError(f"{file}: has no row that belongs here; delete it and run again")
    sizes = vectors.map(len)
    expected = dim or sizes.iloc[0]
    if (wrong := sizes != expected).any():
        message = f"the vector of {names[wrong].iloc[0]} has {sizes[wrong].iloc[0]} numbers, not {expected}"
        raise UserError(f"{file}: {message}; delete it and run again")
    return np.stack(list(vectors)).astype(np.float32)


def _check_finite(vectors: NDArray[np.float32], names: pd.Series, file: Path) -> None:
    if (bad := ~np.isfinite(vectors).all(axis=1)).any():
        raise UserError(f"{file}: the vector of {names[bad].iloc[0]} is not finite; delete it and run again")


def _score_machine(
    part: pd.DataFrame, embedding: NDArray[np.float32], centres: Centres | None, method: Method, seed: int
) -> Scored:
    settings = method.inference
    if method.kind == "autoencoder":
        simple = settings.autoencoder_score == "simple"
        value = embedding[:, 0] if simple else selective_score(embedding)
        return Scored(value.astype(np.float64), [None] * len(part), [None] * len(part))
    if method.kind == "iterative" and settings.backend == "kmeans":
        if centres is None:
            raise UserError("score needs --representatives for the back end kmeans")
        value, nearest = anomaly_scores(embedding, centres.vectors)
        return Scored(value, nearest, centres.clip_id[nearest])
    train = np.flatnonzero(part.split == "train")
    is_source = (part.domain.iloc[train] == "source").to_numpy()
    if method.kind == "raw_logmel":
        same = np.arange(len(part))[:, None] == train[None]
        value, nearest = nearest_neighbour(embedding.astype(np.float64), embedding[train].astype(np.float64), same)
        return Scored(value, nearest, part.clip_id.to_numpy()[train[nearest]])
    near = references(embedding[train], is_source, settings.smote_ratio, settings.smote_neighbours, seed)
    # A training clip is not its own neighbour, nor is a synthetic one that it is an end of.
    same = (train[near.clips] == np.arange(len(part))[:, None, None]).any(axis=2)
    if settings.backend == "knn":
        value, nearest = knn_scores(embedding, near.vectors, near.is_source, settings.neighbours, same)
    else:
        density = local_density(near.vectors, settings.density_neighbours)
        value, nearest = rescaled_scores(embedding, near.vectors, density, settings.neighbours, same)
    return Scored(value, nearest, part.clip_id.to_numpy()[train[near.clips[nearest, 0]]])


def _limits(training_scores: NDArray[np.float64], method: Method) -> tuple[float, float]:
    """Return the largest score of the training clips and the score above which a clip is called anomalous."""
    finite = training_scores[np.isfinite(training_scores)]
    if not len(finite):
        return np.inf, np.inf
    quantile, largest = method.inference.decision_quantile, float(finite.max())
    if method.kind == "raw_logmel":
        # Sums of deviations have no gamma rule of their own: the quantile of the training clips decides.
        return largest, float(np.quantile(finite, quantile))
    if method.kind == "autoencoder":
        # Its scores are distances; the rule takes distances less 1, as scores of cosines are.
        return largest, decision_threshold(finite - 1, quantile) + 1
    return largest, decision_threshold(finite, quantile)


def score_external(
    pool: Text,
    weights: InFile,
    description: InFile,
    representatives: InFile,
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
    from asdpipe.models.files import load_model
    from asdpipe.training.device import pick_device
    from asdpipe.training.embedding import embed

    network, num_samples = load_model(weights, description)
    decoding = Decoding.model_validate_json(settings)
    centres = _centres(representatives)
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
        for machine, centre in centres.items():
            if centre.vectors.shape[1] != embedding.shape[1]:
                raise UserError(f"{representatives}: is of another network than {weights}; delete it and run again")
            value, _ = anomaly_scores(embedding, centre.vectors)
            passed = np.flatnonzero(value <= centre.threshold)
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


def join_embeddings(clips: Path, embeddings: Path, distances: bool = False) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """Return the manifest of the embedded clips and their embeddings, float32 (clips, dim), in the manifest's order.

    Clips of unknown domain count as source.

    Args:
        distances: they are an autoencoder's, which are NaN for a domain without training clips.

    Raises:
        UserError: the embeddings are of other clips, differ in size, or are not finite.
    """
    embedded = read_table("embeddings", embeddings)
    table = read_table("clips", clips).merge(embedded, on="clip_id")
    if len(table) < len(embedded):
        raise UserError(f"{embeddings}: has clips that {clips} does not list; delete it and run again")
    table = table.assign(domain=table.domain.fillna("source"))
    vectors = _stacked(table.embedding, table.clip_id, embeddings)
    if not distances:
        _check_finite(vectors, table.clip_id, embeddings)
    return table.drop(columns="embedding"), vectors
