"""The scores of external clips: one shard of the pool against every machine type (paper §4.1.1)."""

import logging
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray

from asdpipe.artifacts.representatives import read_representatives
from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.base import read_settings
from asdpipe.config.method import ExternalScoreSettings
from asdpipe.data.decoding import Decoded, decoded
from asdpipe.data.packing import POOL_COLUMNS, leave_out
from asdpipe.data.reading import BadClip, read_clip
from asdpipe.data.sources import sources
from asdpipe.data.waveforms import Waveforms
from asdpipe.errors import UserError
from asdpipe.method.representatives import anomaly_scores
from asdpipe.models.files import load_model
from asdpipe.steps.options import Device, InFile, MaybeFile, Number, OutFile, Settings, Text
from asdpipe.training.device import pick_device
from asdpipe.training.embedding import embed

# One core decodes some 100 clips of 10 s in a second.
DECODING_THREADS = 4

logger = logging.getLogger(__name__)


def score_external(
    settings: Settings,
    pool: Text,
    weights: InFile,
    description: InFile,
    representatives: InFile,
    scores: OutFile,
    skipped: OutFile,
    index: MaybeFile = None,
    samples: MaybeFile = None,
    pool_clips: MaybeFile = None,
    pretrained: MaybeFile = None,
    shard: Number = 0,
    device: Device = "auto",
) -> None:
    """Score one shard of the pool against every machine type.

    Only scores that pass the machine type's threshold are kept (§4.1.1).

    Args:
        settings: of the scores, and how files are decoded.
        index, samples: the packed shard; or
        pool_clips, shard: the list of the pool, and the shard whose files are decoded now.
        pretrained: weights that a network with adapters was trained on.
        skipped: csv of its bad clips.
    """
    extractor, centres = load_model(weights, description, pretrained), read_representatives(representatives)
    clip_ids: list[str] = []
    bad: list[tuple[str, str]] = []
    waveforms: Iterable[NDArray[np.int16]]
    used = read_settings(ExternalScoreSettings, settings)
    decoding = used.decoding
    if index is not None and samples is not None:
        waveforms = packed = Waveforms([(index, samples)])
        total = len(packed)
        clip_ids += packed.clip_ids.tolist()
    elif pool_clips is not None:
        table = read_table("pool_clips", pool_clips, POOL_COLUMNS, pc.field("shard") == shard)
        total = len(table)
        read = partial(read_clip, channel=decoding.channel, min_seconds=decoding.min_seconds)
        waveforms = _good(decoded(sources(table), read, DECODING_THREADS), clip_ids, bad)
    else:
        raise UserError("score-external needs --index and --samples, or --pool-clips")
    start = 0
    rows, machines, values = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=object)], [np.zeros(0)]
    for embedding in embed(extractor, waveforms, total, pick_device(device)):
        for machine, centre in centres.items():
            if centre.vectors.shape[1] != embedding.shape[1]:
                raise UserError(f"{representatives}: is of another network than {weights}; delete it and run again")
            value, _ = anomaly_scores(embedding, centre.vectors, used.similarity)
            passed = np.flatnonzero(value <= centre.threshold)
            rows.append(start + passed)
            machines.append(np.full(len(passed), machine, dtype=object))
            values.append(value[passed])
        start += len(embedding)
    leave_out(pd.DataFrame(bad, columns=["path", "reason"]), total, decoding.on_bad_clip, skipped)
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
