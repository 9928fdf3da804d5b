"""Pseudo-labels for the next stage: clusters of the training clips (paper §4.2.2)."""

import logging

import numpy as np

from asdpipe.artifacts.tables import write_table
from asdpipe.artifacts.vectors import embedded_clips
from asdpipe.config.base import read_settings
from asdpipe.config.method import PseudoLabelSettings
from asdpipe.method.pseudo_labels import pseudo_label_ari, pseudo_labels
from asdpipe.steps.options import InFile, Number, OutFile, Settings

logger = logging.getLogger(__name__)


def pseudo_label(settings: Settings, seed: Number, clips: InFile, embeddings: InFile, labels: OutFile) -> None:
    """Cluster the embeddings of the training clips.

    Args:
        settings: numbers of clusters; seed: of k-means.
        clips, embeddings: of the training clips.
    """
    used = read_settings(PseudoLabelSettings, settings).pseudo_labels
    table, vectors = embedded_clips(clips, embeddings)
    result = pseudo_labels(
        vectors,
        table.machine.tolist(),
        table.domain.tolist(),
        k_source=used.k_source,
        k_target=used.k_target,
        seed=seed,
    )
    for machine, domain, found, wanted in result.reduced:
        logger.warning("%s, %s: %d clusters instead of %d, one per distinct clip", machine, domain, found, wanted)
    table = table.assign(cluster=result.cluster)
    ari = {}
    for machine, part in table.groupby("machine"):
        if part.attributes.notna().all():
            # Attributes are only used here to report how good the pseudo-labels are.
            ari[machine] = pseudo_label_ari(part.attributes, part.domain + "_" + part.cluster.astype(str))
            logger.info("%s: adjusted Rand index against the attributes %.3f", machine, ari[machine])
    candidates = table.assign(rank=1, label=table.cluster.astype(str), confidence=np.nan)
    write_table("pseudo_labels", candidates, labels, {"ari": ari})
