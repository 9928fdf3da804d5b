"""The embedding of every clip of a split."""

import logging
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdpipe.artifacts.files import file_digest
from asdpipe.artifacts.tables import write_table
from asdpipe.config.base import read_settings
from asdpipe.config.method import NetworkSettings
from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.data.manifests import packed_clips
from asdpipe.data.waveforms import Waveforms
from asdpipe.models.files import load_model, untrained_model
from asdpipe.steps.options import Device, InFile, MaybeFile, Number, OutFile, Settings
from asdpipe.training.device import pick_device
from asdpipe.training.embedding import embed as embed_clips
from asdpipe.training.embedding import refuse_short

# A clip_seconds that differs by more from the clips' own length is most likely a mistake.
FAR = 1.5

logger = logging.getLogger(__name__)


def embed(
    settings: Settings,
    num_samples: Number,
    clips: InFile,
    index: InFile,
    samples: InFile,
    embeddings: OutFile,
    weights: MaybeFile = None,
    description: MaybeFile = None,
    pretrained: MaybeFile = None,
    device: Device = "auto",
) -> None:
    """Embed all clips of a split of a data set.

    Args:
        settings: of the network; num_samples: length that clips are tiled or cut to.
        clips, index, samples: of the split.
        weights, description: of the trained network; without them it is taken as it is.
        pretrained: weights of a network that is not trained, or those that a network with adapters was trained on.
    """
    facts: dict[str, Any]
    if weights is not None and description is not None:
        extractor, facts = load_model(weights, description, pretrained), {"weights_sha256": file_digest(weights)}
    else:
        used = read_settings(NetworkSettings, settings).network
        used.check_weights(pretrained)
        network = used.arguments()
        extractor, facts = untrained_model(network, num_samples, pretrained), {"network": network}
    if pretrained is not None:
        facts["pretrained_sha256"] = file_digest(pretrained)
    waveforms = Waveforms([(index, samples)])
    refuse_short(waveforms, extractor.min_samples)
    if extractor.num_samples is not None:
        compare_lengths(waveforms, extractor.num_samples)
    table = packed_clips(clips, index)
    packed = waveforms.rows(table.clip_id.tolist(), [True] * len(table))
    vectors: list[NDArray[np.float32]] = [np.zeros(0, dtype=np.float32)] * len(table)
    # Most extractors are the same for all machine types, and embed all clips in one pass.
    extractors = {machine: extractor.of_machine(machine) for machine in sorted(set(table.machine))}
    for one in dict.fromkeys(extractors.values()):
        rows = np.flatnonzero(table.machine.map(extractors) == one).tolist()
        clips_of_rows = (waveforms[row] for row in packed[rows])
        batches = embed_clips(one, clips_of_rows, len(rows), pick_device(device))
        for row, vector in zip(rows, chain.from_iterable(batches), strict=True):
            vectors[row] = vector
    # Of dtype object also if there are no clips.
    column = pd.Series(vectors, table.index, dtype=object)
    write_table("embeddings", pd.DataFrame({"clip_id": table.clip_id, "embedding": column}), embeddings, facts)


def compare_lengths(waveforms: Waveforms, num_samples: int) -> None:
    """Warn of clips whose end is not scored, and of a clip_seconds that is far from the clips' own length."""
    longer = waveforms.lengths > num_samples
    if longer.any():
        logger.warning(
            "%d clips are longer than the %d samples that are scored; only their beginning counts, e.g. %s",
            longer.sum(),
            num_samples,
            waveforms.clip_ids[longer][0],
        )
    typical = float(np.median(waveforms.lengths)) if len(waveforms) else num_samples
    if not num_samples / FAR <= typical <= num_samples * FAR:
        logger.warning(
            "half of the clips last %.3g s or less, clip_seconds is %.3g s: set it to the clips' usual length",
            typical / SAMPLE_RATE,
            num_samples / SAMPLE_RATE,
        )
