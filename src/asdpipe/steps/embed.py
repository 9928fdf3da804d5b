"""Step 4, embed: the embedding of every clip of the data set."""

import logging

import numpy as np
import pandas as pd
from torch import nn

from asdpipe.artifacts.files import file_digest
from asdpipe.artifacts.tables import write_table
from asdpipe.data.waveforms import Waveforms
from asdpipe.models.files import load_model
from asdpipe.steps.options import Device, InFile, MaybeFile, Number, OutFile
from asdpipe.training.device import pick_device
from asdpipe.training.embedding import embed as embed_clips

logger = logging.getLogger(__name__)


def embed(
    num_samples: Number,
    index: InFile,
    samples: InFile,
    embeddings: OutFile,
    weights: MaybeFile = None,
    description: MaybeFile = None,
    device: Device = "auto",
) -> None:
    """Embed all clips of a data set.

    Args:
        num_samples: length that clips are tiled or cut to.
        weights, description: of the model; without them clips become log-mel statistics (raw_logmel).
    """
    waveforms = Waveforms([(index, samples)])
    longer = waveforms.lengths > num_samples
    if longer.any():
        logger.warning(
            "%d clips are longer than the %d samples that are scored; only their beginning counts, e.g. %s",
            longer.sum(),
            num_samples,
            waveforms.clip_ids[longer][0],
        )
    network: nn.Module
    if weights is not None and description is not None:
        network, num_samples = load_model(weights, description)
        facts = {"weights_sha256": file_digest(weights)}
    else:
        # Only the yardstick needs torchaudio.
        from asdpipe.models.log_mel import LogMelStatistics

        network, facts = LogMelStatistics(), {"method": "raw_logmel"}
    batches = embed_clips(network, waveforms, len(waveforms), num_samples, pick_device(device))
    vectors = np.concatenate(list(batches))
    frame = pd.DataFrame({"clip_id": waveforms.clip_ids, "embedding": list(vectors)})
    write_table("embeddings", frame, embeddings, facts)
