"""Steps 3 and 4 of the DCASE baseline: an autoencoder for every machine type, and its distances for every clip."""

import logging

import numpy as np
import pandas as pd
import torch

from asdpipe.artifacts.files import file_digest, write_csv
from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.method import Method
from asdpipe.data.audio import SAMPLE_RATE, to_float
from asdpipe.data.waveforms import Waveforms
from asdpipe.errors import UserError
from asdpipe.models.autoencoder import FRAMES, HOP, clip_distances
from asdpipe.models.autoencoder_files import Trained, load_autoencoders, save_autoencoders
from asdpipe.progress import Progress
from asdpipe.provenance.code import code_digest
from asdpipe.steps.options import Device, InFile, Number, OutFile, Settings
from asdpipe.steps.train import CHECKPOINT, assemble_labels, made_from, packed_clips, training_clips
from asdpipe.training import autoencoder as autoencoder_loop
from asdpipe.training.device import pick_device
from asdpipe.training.state import Checkpoint

SHORTEST = (FRAMES - 1) * HOP

logger = logging.getLogger(__name__)


def train_autoencoder(
    settings: Settings,
    seed: Number,
    clips: InFile,
    index: InFile,
    samples: InFile,
    labels: OutFile,
    weights: OutFile,
    description: OutFile,
    history: OutFile,
    device: Device = "auto",
) -> None:
    """Train an autoencoder for every machine type, on its whole training clips.

    Args:
        settings: uses autoencoder.

    Raises:
        UserError: a clip is too short to be scored, or a machine type's training fails.
    """
    method = Method.model_validate_json(settings)
    waveforms = long_enough(Waveforms([(index, samples)]))
    table = assemble_labels(training_clips(clips, index), None, None, method)
    rows = waveforms.rows(table.clip_id.tolist(), [True] * len(table))
    machines = table.assign(row=rows).groupby("machine")
    used = method.model_dump(mode="json", include={"autoencoder"})
    code = code_digest("train_autoencoder")
    made_of = {"settings": used, "seed": seed} | made_from(table, [(index, samples)], code)
    trained, epochs, checkpoints = {}, [], []
    for number, (machine, part) in enumerate(machines, 1):
        is_source = (part.domain == "source").to_numpy()
        counts = is_source.sum(), (~is_source).sum()
        logger.info("%s (%d/%d): %d source and %d target clips", machine, number, len(machines), *counts)
        # Kept until all are trained: those of finished machine types are at their last epoch.
        checkpoint = Checkpoint(weights.with_name(f"{machine}.{CHECKPOINT}"), made_of | {"machine": machine})
        checkpoints.append(checkpoint)
        try:
            with checkpoint.stoppable():
                model, inverse, losses = autoencoder_loop.train_autoencoder(
                    (waveforms[row] for row in part.row),
                    is_source,
                    method.autoencoder,
                    # By name, not number: another machine type must not change this one's draws.
                    (seed, *str(machine).encode()),
                    pick_device(device),
                    checkpoint,
                )
        except UserError as error:
            raise UserError(f"{machine}: {error}") from None
        trained[str(machine)] = Trained(model, inverse)
        losses.insert(0, "machine", machine)
        epochs.append(losses)
    write_table("labels", table, labels)
    write_csv(pd.concat(epochs), history)
    save_autoencoders(trained, weights, description, stage=1, seed=seed, settings=used)
    for checkpoint in checkpoints:
        checkpoint.remove()


def embed_autoencoder(
    index: InFile,
    samples: InFile,
    clips: InFile,
    weights: InFile,
    description: InFile,
    embeddings: OutFile,
    device: Device = "auto",
) -> None:
    """Write for every clip the mean squared error and the squared Mahalanobis distances to source and target.

    Raises:
        UserError: a clip is too short, or its machine type has no autoencoder.
    """
    waveforms = long_enough(Waveforms([(index, samples)]))
    place, trained = pick_device(device), load_autoencoders(weights, description)
    table = packed_clips(read_table("clips", clips, ["clip_id", "machine"]), index)
    unknown = table[~table.machine.isin(trained)]
    if len(unknown):
        message = (
            f"{weights}: has no autoencoder for machine type {', '.join(sorted(set(unknown.machine)))} "
            f"(clip {unknown.clip_id.iloc[0]}), only for {', '.join(trained)}: train again with its training clips"
        )
        raise UserError(message)
    progress = Progress("embedding", len(table), "clip")
    distances = np.empty((len(table), 3), dtype=np.float32)
    table["row"] = waveforms.rows(table.clip_id.tolist(), [True] * len(table))
    for machine, part in table.groupby("machine"):
        model, inverse = trained[str(machine)]
        model.to(place)
        # One by one: clips may differ in length.
        for number, row in part.row.items():
            x = torch.from_numpy(to_float(waveforms[row])).to(place)
            distances[number] = clip_distances(model, inverse, x[None])[0]
            progress.advance(1)
    progress.close()
    facts = {"weights_sha256": file_digest(weights)}
    write_table("embeddings", table.assign(embedding=list(distances)), embeddings, facts)


def long_enough(waveforms: Waveforms) -> Waveforms:
    """Return the clips if each has the frames of one input.

    Raises:
        UserError: there are shorter ones.
    """
    short = waveforms.clip_ids[waveforms.lengths < SHORTEST]
    if len(short):
        seconds = SHORTEST / SAMPLE_RATE
        message = (
            f"clips shorter than the autoencoder's {FRAMES} frames ({seconds:g} s): {len(short)}, e.g. {short[0]}; "
            f"remove them, or set the data set's min_seconds: {seconds:g} and on_bad_clip: skip"
        )
        raise UserError(message)
    return waveforms
