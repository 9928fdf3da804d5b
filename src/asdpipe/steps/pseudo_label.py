"""Pseudo-labels for the next stage: clusters of the training clips (paper §4.2.2)."""

import logging

import numpy as np

from asdpipe.artifacts.resolved import noted
from asdpipe.artifacts.tables import write_table
from asdpipe.artifacts.vectors import embedded_clips
from asdpipe.config.base import read_settings
from asdpipe.config.method import PseudoLabelSettings
from asdpipe.method.data_size import AUTO, by_machine, count_clips, source_clusters, target_clusters
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
    machine, domain = table.machine.tolist(), table.domain.tolist()
    sizes = count_clips(machine, domain)
    k_source = by_machine(used.k_source, source_clusters, sizes)
    k_target = by_machine(used.k_target, target_clusters, sizes)
    stated = {"k_source": (used.k_source, k_source), "k_target": (used.k_target, k_target)}
    facts = noted({f"pseudo_labels.{name}": k for name, (setting, k) in stated.items() if setting == AUTO})
    result = pseudo_labels(vectors, machine, domain, k_source=k_source, k_target=k_target, seed=seed)
    for name, part, found, wanted in result.reduced:
        logger.warning("%s, %s: %d clusters instead of %d, one per distinct clip", name, part, found, wanted)
    table = table.assign(cluster=result.cluster)
    ari = {}
    for name, clips_of in table.groupby("machine"):
        if clips_of.attributes.notna().all():
            # Attributes are only used here to report how good the pseudo-labels are.
            ari[name] = pseudo_label_ari(clips_of.attributes, clips_of.domain + "_" + clips_of.cluster.astype(str))
            logger.info("%s: adjusted Rand index against the attributes %.3f", name, ari[name])
    candidates = table.assign(rank=1, label=table.cluster.astype(str), confidence=np.nan)
    write_table("pseudo_labels", candidates, labels, {"ari": ari} | facts)
