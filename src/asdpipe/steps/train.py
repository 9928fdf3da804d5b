"""Step 3, train: assemble the classes of the stage, then train a network on them from scratch."""

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
from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.method import Method
from asdpipe.data.waveforms import Waveforms
from asdpipe.errors import UserError
from asdpipe.method.classes import class_indices, external_class, original_class
from asdpipe.models.files import save_model
from asdpipe.provenance.code import code_digest
from asdpipe.steps.options import Device, InFile, MaybeFile, Number, OutFile, Settings, TorchCompile
from asdpipe.training import fit as loop
from asdpipe.training.batches import TrainingSet
from asdpipe.training.device import pick_device
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
    pool_index: PoolFiles = [],  # noqa: B006 (typer reads it, nobody changes it)
    pool_samples: PoolFiles = [],  # noqa: B006
    device: Device = "auto",
    torch_compile: TorchCompile = False,
) -> None:
    """Train one stage.

    Args:
        settings: uses labels, network, loss, triplet, training.
        num_samples: length of the network's input.
        pseudo_labels, selected: from the previous stage; none in stage 1.
        pool_index, pool_samples: all shards of the pool, needed with ``selected``.
    """
    method = Method.model_validate_json(settings)
    external = None if selected is None else read_table("selected", selected)
    packs = [(index, samples), *zip(pool_index, pool_samples, strict=True)]
    waveforms = Waveforms(packs, [] if external is None else external.clip_id.tolist())
    table = assemble_labels(
        training_clips(clips, index),
        None if pseudo_labels is None else read_table("pseudo_labels", pseudo_labels),
        None if external is None else external[external.clip_id.isin(waveforms.clip_ids[waveforms.in_pool])],
        method,
    )
    classes = class_indices(table.origin, table.class_name)[1]
    counts = table.origin.value_counts()
    logger.info("stage %d: %s clips in %d classes", stage, counts.to_dict(), len(classes))
    groups = noise_groups(table)
    if len(classes) == 1:
        logger.warning(
            "there is one class only: nothing to tell apart, so this stage learns nothing; "
            "a data set of one machine type needs a pool and external.first_stage: random"
        )
    if groups.max() == 0 and method.triplet.enabled and method.triplet.noise_from == "other_machine":
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
    used = method.model_dump(mode="json", include={"labels", "network", "loss", "triplet", "training"})
    checkpoint = Checkpoint(
        weights.with_name(CHECKPOINT),
        {"settings": used, "num_samples": num_samples, "stage": stage, "seed": seed}
        | made_from(table, packs, code_digest("train")),
    )
    with checkpoint.stoppable():
        network, losses = loop.train(
            data,
            len(classes),
            method,
            num_samples,
            (seed, stage),
            pick_device(device),
            checkpoint,
            torch_compile=torch_compile,
        )
    write_table("labels", table, labels)
    write_csv(losses, history)
    save_model(
        network,
        weights,
        description,
        method.network,
        num_samples,
        stage=stage,
        seed=seed,
        classes=[f"{origin}:{name}" for origin, name in classes],
        training=method.model_dump(mode="json", include={"labels", "loss", "triplet", "training"}),
    )
    checkpoint.remove()


def made_from(table: pd.DataFrame, packs: Sequence[tuple[Path, Path]], code: str) -> dict[str, Any]:
    """Return what identifies the inputs and the code of a training, JSON-able.

    Samples are known by size and time: reading gigabytes would take longer than an epoch.
    """
    rows = hashlib.sha256(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes()).hexdigest()
    files = [(file_digest(index), samples.stat().st_size, samples.stat().st_mtime_ns) for index, samples in packs]
    return {"labels": rows, "packs": files, "code": code}


def training_clips(clips: Path, index: Path) -> pd.DataFrame:
    """Return the manifest's training clips that were packed; those of unknown domain count as source."""
    table = read_table("clips", clips)
    table = packed_clips(table[table.split == "train"], index)
    return table.assign(domain=table.domain.fillna("source"))


def packed_clips(table: pd.DataFrame, index: Path) -> pd.DataFrame:
    """Return the rows whose clips were packed; bad ones may have been left out."""
    packed = read_table("waveforms", index, ["clip_id"]).clip_id
    return table[table.clip_id.isin(packed)].reset_index(drop=True)


def noise_groups(table: pd.DataFrame) -> NDArray[np.int32]:
    """Return the group of every clip (clips,): the background noise of a positive comes from another group (eq. 8).

    Groups are machine types. Where there is one machine type only, external clips stand in for the others.
    """
    group = table.machine if table.machine.nunique() > 1 else table.origin
    return group.astype("category").cat.codes.to_numpy(dtype=np.int32)


def assemble_labels(
    clips: pd.DataFrame, pseudo_labels: pd.DataFrame | None, selected: pd.DataFrame | None, method: Method
) -> pd.DataFrame:
    """Return the table of labels of a stage.

    Args:
        clips: manifest of the training clips; pseudo_labels, selected: tables of the previous stage, or None.

    Raises:
        UserError: a training clip has no attributes or no pseudo-label, but its class needs them.
    """
    if method.labels == "attribute" and clips.attributes.isna().any():
        machines = ", ".join(sorted(set(clips.machine[clips.attributes.isna()])))
        message = (
            f"labels: attribute needs attributes for every training clip; {machines} lacks some; use labels: machine"
        )
        raise UserError(message)
    cluster: dict[str, int] = {}
    if pseudo_labels is not None:
        cluster = dict(zip(pseudo_labels.clip_id, pseudo_labels.cluster, strict=True))
        if missing := sorted(set(clips.clip_id) - set(cluster)):
            message = f"the pseudo-labels of the stage before lack {len(missing)} training clips, e.g. {missing[0]}"
            raise UserError(f"{message}; delete them and run again")
    several_sections = clips.groupby("machine").section.nunique() > 1
    names = [
        original_class(
            clip.machine,
            clip.section if several_sections[clip.machine] else None,
            clip.attributes,
            clip.domain,
            cluster.get(clip.clip_id),
            method.labels,
        )
        for clip in clips.itertuples()
    ]
    table = clips[["clip_id", "machine", "domain"]].assign(origin="original", class_name=names)
    if selected is not None and len(selected):
        external = selected[["clip_id", "machine"]].assign(
            domain="source",
            origin="external",
            class_name=[external_class(*each) for each in zip(selected.machine, selected.mid, strict=True)],
        )
        table = pd.concat([table, external], ignore_index=True)
    return table.assign(class_index=class_indices(table.origin, table.class_name)[0])
