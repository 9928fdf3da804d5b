"""Training in epochs: state and checkpoints, precision, prefetching, divergence, losses per epoch."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn

from asdpipe.errors import UserError
from asdpipe.method.objectives import Batch as Inputs
from asdpipe.models.base import FeatureExtractor
from asdpipe.progress import Progress
from asdpipe.training.batches import Batch, TrainingSet
from asdpipe.training.crop import make_crop
from asdpipe.training.device import Precision, training_dtype
from asdpipe.training.fit import Step, fit
from asdpipe.training.forward import Forward
from asdpipe.training.job import Job, Trained
from asdpipe.training.prefetch import prefetch
from asdpipe.training.state import TrainingState

# Clips that the message of a diverged training names.
SHOWN_CLIPS = 200

Draw = Callable[[int, np.random.Generator], Iterable[Sequence[Batch]]]
"""Draws the micro-batches of each step of an epoch, for crops of ``num_samples``."""

logger = logging.getLogger(__name__)


def train_epochs(
    job: Job,
    *,
    build_extractor: Callable[[], FeatureExtractor],
    epochs: int,
    steps_per_epoch: int,
    draw: Draw,
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    learning_rate: Callable[[int], float],
    precision: Precision,
) -> Trained:
    """Train a network from scratch, or continue an interrupted training; see ``Trainer``.

    Args:
        build_extractor: called after seeding; parameters without ``requires_grad`` stay as they are.
        draw: called before every epoch; yields ``steps_per_epoch`` steps.
        optimizer: makes the optimiser of the parameters of extractor and objective.
        learning_rate: of a step, counted through all epochs from 0.
        precision: dtype of convolutions and matrix products.
    """
    clips, device, checkpoint = job.clips, job.device, job.checkpoint("")
    order_seed, rng_seed, weight_seed = np.random.SeedSequence(job.seed).generate_state(3).tolist()
    order, rng = np.random.default_rng(order_seed), torch.Generator().manual_seed(rng_seed)
    torch.manual_seed(weight_seed)
    extractor = build_extractor().to(device)
    num_samples = extractor.num_samples
    if num_samples is None:
        raise UserError(
            "training: this kind needs a network with a fixed input length; use another training or network"
        )
    if not any(parameter.requires_grad for parameter in extractor.parameters()):
        raise UserError("training: the network has no weights to train; use training: none or another network")
    extractor.rng = rng
    objective = job.build_objective(extractor).to(device)
    parameters = [value for value in (*extractor.parameters(), *objective.parameters()) if value.requires_grad]
    no_losses = torch.zeros(0, len(objective.names))
    modules = {"network": extractor, "objective": objective}
    state = TrainingState(modules, optimizer(parameters), rng, order, losses=no_losses)
    checkpoint.restore(state)
    progress = Progress("training", (epochs - len(state.history)) * steps_per_epoch - len(state.losses), "batch")
    logger.info("%d epochs of %d optimiser steps, %d in all", epochs, steps_per_epoch, epochs * steps_per_epoch)
    dtype = training_dtype(precision, device, extractor.embedding_shape[1])
    crop = make_crop(clips, num_samples, device)
    extractor.train()
    forward = Forward(extractor, dtype, compiled=job.torch_compile)

    def inputs(steps: Sequence[Sequence[Batch]], first: int) -> Iterator[Step]:
        cropped = prefetch((batch, crop(batch)) for step in steps for batch in step)
        for number, step in enumerate(steps, first):
            micro_batches = (
                Inputs(x.to(device, non_blocking=True), batch.class_index, batch.machine_index)
                for batch, x in (next(cropped) for _ in step)
            )
            yield Step(micro_batches, sum(len(batch.clip) for batch in step), learning_rate(number))

    with checkpoint.stoppable():
        for epoch in range(len(state.history) + 1, epochs + 1):
            progress.epoch(epoch, epochs, state.last_losses(objective.names))
            first = (epoch - 1) * steps_per_epoch
            steps = list(draw(num_samples, order))
            done = len(state.losses)
            # Read losses once per epoch, to avoid a device sync in every step.
            losses = torch.zeros(steps_per_epoch, len(objective.names), device=device)
            losses[:done] = state.losses
            for number, step_losses in enumerate(
                fit(forward, objective, state.optimizer, inputs(steps[done:], first + done), rng), done
            ):
                losses[number] = step_losses
                progress.advance(1)
                if checkpoint.stop_asked.is_set():
                    break
            state.losses = losses[: number + 1].cpu()
            refuse_divergence(state, objective.names, clips, steps, learning_rate)
            if len(state.losses) == steps_per_epoch:
                end_epoch(state, objective.names, epochs, learning_rate(first + steps_per_epoch - 1))
            checkpoint.save(state)
    progress.close()
    return Trained(extractor.cpu().eval(), job.network, pd.DataFrame(state.history), [checkpoint])


def end_epoch(state: TrainingState, names: Sequence[str], epochs: int, learning_rate: float) -> None:
    """Add the mean losses of an epoch, and its last learning rate, to the history and the log."""
    epoch, means = len(state.history) + 1, dict(zip(names, state.losses.mean(dim=0).tolist(), strict=True))
    state.end_epoch({"epoch": epoch, "loss": sum(means.values()), **means, "learning_rate": learning_rate})
    logger.info("epoch %d/%d: %s", epoch, epochs, ", ".join(f"{name} {mean:.3f}" for name, mean in means.items()))


def refuse_divergence(
    state: TrainingState,
    names: Sequence[str],
    clips: TrainingSet,
    steps: Sequence[Sequence[Batch]],
    learning_rate: Callable[[int], float],
) -> None:
    """Stop a training that has diverged, before its state replaces the last good checkpoint.

    Args:
        state: its ``losses`` are those of the current epoch.
        names: names of the losses.
        steps: micro-batches of the steps of the current epoch.
        learning_rate: of a step, counted through all epochs from 0.

    Raises:
        UserError: a loss or a weight is not finite.
    """
    bad = (~state.losses.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if not bad and state.is_finite():
        return
    # If only the weights are not finite, the last step is at fault.
    step = bad[0] if bad else len(state.losses) - 1
    rate = learning_rate(len(state.history) * len(steps) + step)
    losses = zip(names, state.losses[step].tolist(), strict=True)
    shown = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in losses)
    chosen = np.concatenate([batch.clip for batch in steps[step]])
    clip_ids = list(dict.fromkeys(str(clips.waveforms.clip_ids[row]) for row in clips.row[chosen]))
    more = f" and {len(clip_ids) - SHOWN_CLIPS} more" if len(clip_ids) > SHOWN_CLIPS else ""
    message = (
        f"training diverged in epoch {len(state.history) + 1}, step {step + 1}: {shown}"
        f"{'' if bad else ', and weights that are not finite after it'}; "
        f"learning rate {rate:g}. Try a smaller training.learning_rate. Without a change, the next run "
        f"resumes after epoch {len(state.history)}, the last good one. "
        f"Clips of the batch: {', '.join(clip_ids[:SHOWN_CLIPS])}{more}"
    )
    raise UserError(message)
