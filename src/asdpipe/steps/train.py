"""Train one stage from scratch: assemble the classes of its clips, then train on them."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from typer import Option

from asdpipe.artifacts.files import file_digest, write_csv
from asdpipe.artifacts.resolved import noted
from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.base import read_settings, with_values
from asdpipe.config.method import TrainingSettings
from asdpipe.config.targets import targets
from asdpipe.data.manifests import packed_clips
from asdpipe.data.waveforms import Waveforms
from asdpipe.method.data_size import count_clips
from asdpipe.method.objectives import Sum
from asdpipe.models.base import FeatureExtractor
from asdpipe.models.build import build_extractor
from asdpipe.models.files import save_model
from asdpipe.models.pretrained import load_pretrained
from asdpipe.provenance.code import code_digest
from asdpipe.steps.options import Device, InFile, MaybeFile, Number, OutFile, Settings, TorchCompile
from asdpipe.training.auto import numbers
from asdpipe.training.batches import TrainingSet
from asdpipe.training.device import pick_device
from asdpipe.training.job import Job, objective_context
from asdpipe.training.labels import assemble_labels
from asdpipe.training.state import Checkpoint

PoolFiles = Annotated[list[Path], Option(exists=True, dir_okay=False, help="Packed shards of the pool, in order.")]

# Not a declared output: Snakemake deletes those of a job that failed.
CHECKPOINT = "training.checkpoint.safetensors"

logger = logging.getLogger(__name__)


def train(
    settings: Settings,
    num_samples: Number,
    stage: Number,
    seed: Number,
    clips: InFile,
    index: InFile,
    samples: InFile,
    labels: OutFile,
    weights: OutFile,
    description: OutFile,
    history: OutFile,
    pseudo_labels: MaybeFile = None,
    selected: MaybeFile = None,
    candidates: MaybeFile = None,
    pretrained: MaybeFile = None,
    pool_index: PoolFiles = [],  # noqa: B006 (typer reads it, nobody changes it)
    pool_samples: PoolFiles = [],  # noqa: B006
    device: Device = "auto",
    torch_compile: TorchCompile = False,
) -> None:
    """Train one stage.

    Args:
        settings: the method's training settings.
        num_samples: length that clips are tiled or cut to.
        clips, index, samples: of the training clips.
        pseudo_labels, selected: from the previous stage; none in stage 1.
        candidates: ranked labels of the training clips, from rank_labels; none if the classes use none.
        pretrained: weights that the training starts from.
        pool_index, pool_samples: all shards of the pool, needed with ``selected``.
    """
    used = read_settings(TrainingSettings, settings)
    used.network.check_weights(pretrained)
    originals, stated = packed_clips(clips, index), used.model_dump(mode="json")
    resolved = numbers(stated, count_clips(originals.machine, originals.domain))
    used, facts = with_values(used, resolved), noted(resolved)
    external = None if selected is None else read_table("selected", selected)
    packs = [(index, samples), *zip(pool_index, pool_samples, strict=True)]
    waveforms = Waveforms(packs, [] if external is None else external.clip_id.tolist())
    table, classes = assemble_labels(
        originals,
        used.labeller(),
        None if pseudo_labels is None else read_table("pseudo_labels", pseudo_labels),
        None if external is None else external[external.clip_id.isin(waveforms.clip_ids[waveforms.in_pool])],
        None if candidates is None else read_table("pseudo_labels", candidates),
    )
    counts = table.origin.value_counts()
    logger.info("stage %d: %s clips in %d classes", stage, counts.to_dict(), len(classes))
    if len(classes) == 1 and used.uses_classes:
        logger.warning(
            "there is one class only: nothing to tell apart, so this stage learns nothing; "
            "a data set of one machine type needs a pool and external.first_stage: random"
        )
    groups = noise_groups(table)
    if groups.max() == 0 and used.mixes_machines:
        logger.warning(
            "there is one machine type and no external clip: without background noise the triplet loss is left out"
        )
    data = TrainingSet(
        waveforms,
        waveforms.rows(table.clip_id.tolist(), (table.origin == "original").tolist()),
        table.class_index.to_numpy(),
        groups,
        (table.domain == "target").to_numpy(),
    )
    network = used.network.arguments()
    facts |= {} if pretrained is None else {"pretrained_sha256": file_digest(pretrained)}
    made_of = facts | {"settings": stated, "num_samples": num_samples, "stage": stage, "seed": seed}
    made_of |= made_from(table, packs, code_digest("train", targets(stated)))

    def build(**context: Any) -> FeatureExtractor:
        extractor = build_extractor(network, num_samples=num_samples, **context)
        if pretrained is not None:
            load_pretrained(extractor, pretrained, network)
        return extractor

    job = Job(
        data,
        table.machine.to_numpy(dtype=object),
        network,
        build,
        lambda extractor: Sum(used.objectives(**objective_context(extractor), num_classes=len(classes))),
        (seed, stage),
        pick_device(device),
        lambda name: Checkpoint(
            weights.with_name(f"{name}.{CHECKPOINT}" if name else CHECKPOINT), made_of | {"name": name}
        ),
        torch_compile,
    )
    trained = used.training.build().train(job)
    write_table("labels", table, labels)
    # Four decimals are too few for the end of a schedule.
    rates = [f"{rate:.4f}" if rate >= 0.001 else f"{rate:.4g}" for rate in trained.history.learning_rate]
    write_csv(trained.history.assign(learning_rate=rates), history)
    save_model(
        trained.extractor,
        trained.network,
        num_samples,
        weights,
        description,
        stage=stage,
        seed=seed,
        classes=[f"{each.origin}:{each.name}" for each in classes],
        training={name: value for name, value in stated.items() if name != "network"},
        **facts,
    )
    for checkpoint in trained.checkpoints:
        checkpoint.remove()


def made_from(table: pd.DataFrame, packs: Sequence[tuple[Path, Path]], code: str) -> dict[str, Any]:
    """Return what identifies the inputs and the code of a training, JSON-able.

    Samples are known by size and time: reading gigabytes would take longer than an epoch.
    """
    rows = hashlib.sha256(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes()).hexdigest()
    files = [(file_digest(index), samples.stat().st_size, samples.stat().st_mtime_ns) for index, samples in packs]
    return {"labels": rows, "packs": files, "code": code}


def noise_groups(table: pd.DataFrame) -> NDArray[np.int32]:
    """Return the group of every clip (clips,): the background noise of a positive comes from another group (eq. 8).

    Groups are machine types. Where there is one machine type only, external clips stand in for the others.
    """
    group = table.machine if table.machine.nunique() > 1 else table.origin
    return group.astype("category").cat.codes.to_numpy(dtype=np.int32)
