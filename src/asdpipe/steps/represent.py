"""The representatives of every machine type, and the threshold of the external clips (paper §3.3, §4.1.1)."""

import logging

import numpy as np
import pandas as pd

from asdpipe.artifacts.resolved import noted
from asdpipe.artifacts.tables import write_table
from asdpipe.artifacts.vectors import embedded_clips
from asdpipe.config.base import read_settings
from asdpipe.config.method import RepresentSettings
from asdpipe.errors import UserError
from asdpipe.method.data_size import AUTO, by_machine, centroids, count_clips
from asdpipe.method.representatives import anomaly_scores, selection_threshold
from asdpipe.method.representatives import representatives as make_representatives
from asdpipe.steps.options import InFile, Number, OutFile, Settings

logger = logging.getLogger(__name__)


def represent(settings: Settings, seed: Number, clips: InFile, embeddings: InFile, representatives: OutFile) -> None:
    """Make representatives and selection thresholds.

    Args:
        settings: of the representatives; seed: of k-means.
        clips, embeddings: of the training clips.
    """
    used = read_settings(RepresentSettings, settings)
    table, vectors = embedded_clips(clips, embeddings)
    if table.empty:
        raise UserError(f"{embeddings}: has no training clip; delete it and run again")
    k_source = by_machine(used.k_source, centroids, count_clips(table.machine, table.domain))
    facts = noted({"inference.k_source": k_source} if used.k_source == AUTO else {})
    frames = []
    for machine, rows in table.groupby("machine").indices.items():
        part, embedding = table.iloc[rows], vectors[rows]
        is_source = (part.domain == "source").to_numpy()
        if is_source.all():
            logger.warning("%s has no target training clips: source representatives only", machine)
        found = make_representatives(embedding, is_source, k_source[str(machine)], seed)
        frame = pd.DataFrame(
            {
                "machine": machine,
                "domain": np.where(found.is_source, "source", "target"),
                "representative": range(len(found.clip)),
                "clip_id": part.clip_id.to_numpy()[found.clip],
                "threshold": selection_threshold(anomaly_scores(embedding, found.vectors, used.similarity)[0]),
            }
        )
        frames.append(frame.assign(vector=list(found.vectors)))
    write_table("representatives", pd.concat(frames), representatives, facts)
