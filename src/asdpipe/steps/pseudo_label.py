"""Step 7, pseudo_label: clusters of the training clips, for the next stage's classes."""

import logging

from asdpipe.artifacts.tables import write_table
from asdpipe.config.method import Method
from asdpipe.method.pseudo_labels import pseudo_label_ari, pseudo_labels
from asdpipe.steps.options import InFile, Number, OutFile, Settings
from asdpipe.steps.score import join_embeddings

logger = logging.getLogger(__name__)


def pseudo_label(settings: Settings, seed: Number, clips: InFile, embeddings: InFile, labels: OutFile) -> None:
    """Cluster the embeddings of the training clips.

    Args:
        settings: uses pseudo_labels; seed: of k-means.
    """
    method = Method.model_validate_json(settings).pseudo_labels
    table, vectors = join_embeddings(clips, embeddings)
    train = (table.split == "train").to_numpy()
    table, vectors = table[train], vectors[train]
    result = pseudo_labels(
        vectors,
        table.machine.tolist(),
        table.domain.tolist(),
        k_source=method.k_source,
        k_target=method.k_target,
        seed=seed,
    )
    for machine, domain, used, wanted in result.reduced:
        logger.warning("%s, %s: %d clusters instead of %d, one per distinct clip", machine, domain, used, wanted)
    table = table.assign(cluster=result.cluster)
    ari = {}
    for machine, part in table.groupby("machine"):
        if part.attributes.notna().all():
            # The attributes are only looked at here, to tell how good the pseudo-labels are.
            ari[machine] = pseudo_label_ari(part.attributes, part.domain + "_" + part.cluster.astype(str))
            logger.info("%s: adjusted Rand index against the attributes %.3f", machine, ari[machine])
    write_table("pseudo_labels", table, labels, {"ari": ari})
