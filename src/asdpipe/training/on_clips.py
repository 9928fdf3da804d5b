"""Training on clips and their classes: one network for all machine types (paper §5.2, eq. 12)."""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from asdpipe.errors import UserError
from asdpipe.method.objectives import Batch as Inputs
from asdpipe.progress import Progress
from asdpipe.training.batches import Batch, Epoch, TrainingSet, epoch_batches, num_batches
from asdpipe.training.crop import make_crop
from asdpipe.training.device import Precision, training_dtype
from asdpipe.training.fit import fit
from asdpipe.training.job import Job, Trained
from asdpipe.training.prefetch import prefetch
from asdpipe.training.state import TrainingState

logger = logging.getLogger(__name__)


class ClipTrainer:
    """Train with AdamW on batches of source, external and repeated target clips.

    Args:
        epochs: passes over source and external clips.
        source_per_batch, target_per_batch: number of clips per batch; source includes external clips.
        learning_rate, weight_decay: for AdamW.
        epoch: which source and external clips an epoch uses.
        precision: dtype of convolutions and matrix products.
    """

    def __init__(
        self,
        epochs: int,
        source_per_batch: int,
        target_per_batch: int,
        learning_rate: float,
        weight_decay: float,
        epoch: Epoch,
        precision: Precision,
    ) -> None:
        self.epochs, self.source_per_batch, self.target_per_batch = epochs, source_per_batch, target_per_batch
        self.learning_rate, self.weight_decay, self.epoch = learning_rate, weight_decay, epoch
        self.precision = precision

    def train(self, job: Job) -> Trained:
        """Train a network from scratch, or continue an interrupted training; see ``Trainer``."""
        clips, device, checkpoint = job.clips, job.device, job.checkpoint("")
        order_seed, rng_seed, weight_seed = np.random.SeedSequence(job.seed).generate_state(3).tolist()
        order, rng = np.random.default_rng(order_seed), torch.Generator().manual_seed(rng_seed)
        torch.manual_seed(weight_seed)
        extractor = job.build_extractor().to(device)
        objective = job.build_objective(extractor).to(device)
        parameters = [value for value in (*extractor.parameters(), *objective.parameters()) if value.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay, fused=True)
        steps, num_samples = self.steps_of_epoch(clips), extractor.num_samples
        if num_samples is None:
            raise UserError(
                "training: clips needs a network with a fixed input length; use another training or network"
            )
        no_losses = torch.zeros(0, len(objective.names))
        modules = {"network": extractor, "objective": objective}
        state = TrainingState(modules, optimizer, rng, order, losses=no_losses)
        checkpoint.restore(state)
        progress = Progress("training", (self.epochs - len(state.history)) * steps - len(state.losses), "batch")
        dtype = training_dtype(self.precision, device, extractor.embedding_shape[1])
        crop = make_crop(clips, num_samples, device)
        extractor.train()
        forward = torch.compile(extractor) if job.torch_compile else extractor

        def embed(x: Tensor, **options: object) -> Tensor:
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                embedding: Tensor = forward(x, **options)
            # The losses and their gradients are float32.
            return embedding.float()

        def inputs(batches: Sequence[Batch]) -> Iterator[Inputs]:
            for batch, x in prefetch((batch, crop(batch)) for batch in batches):
                yield Inputs(x.to(device, non_blocking=True), batch.class_index, batch.machine_index)

        with checkpoint.stoppable():
            for epoch in range(len(state.history) + 1, self.epochs + 1):
                per_batch = self.source_per_batch, self.target_per_batch
                batches = list(epoch_batches(clips, num_samples, *per_batch, order, self.epoch))
                done = len(state.losses)
                # Read losses once per epoch, to avoid a device sync in every step.
                losses = torch.zeros(steps, len(objective.names), device=device)
                losses[:done] = state.losses
                for step, step_losses in enumerate(fit(embed, objective, optimizer, inputs(batches[done:]), rng), done):
                    losses[step] = step_losses
                    progress.advance(1)
                    if checkpoint.stop_asked.is_set():
                        break
                state.losses = losses[: step + 1].cpu()
                refuse_divergence(state, objective.names, clips, batches, self.learning_rate)
                if len(state.losses) == steps:
                    means = dict(zip(objective.names, state.losses.mean(dim=0).tolist(), strict=True))
                    total = sum(means.values())
                    state.end_epoch({"epoch": epoch, "loss": total, **means, "learning_rate": self.learning_rate})
                    shown = ", ".join(f"{name} {mean:.3f}" for name, mean in means.items())
                    logger.info("epoch %d/%d: %s", epoch, self.epochs, shown)
                checkpoint.save(state)
        progress.close()
        return Trained(extractor.cpu().eval(), job.network, pd.DataFrame(state.history), [checkpoint])

    def steps_of_epoch(self, clips: TrainingSet) -> int:
        """Return the number of optimiser steps of an epoch.

        Raises:
            UserError: a batch would hold a single clip.
        """
        num_source = int((~clips.is_target).sum())
        num_target = self.target_per_batch if clips.is_target.any() else 0
        if num_source // num_batches(num_source, self.source_per_batch) + num_target < 2:
            message = (
                f"{len(clips)} training clips make batches of a single clip, which batch normalisation cannot use: "
                "add clips or raise training.source_per_batch"
            )
            raise UserError(message)
        return num_batches(num_source, self.source_per_batch, self.epoch)


def refuse_divergence(
    state: TrainingState, names: Sequence[str], clips: TrainingSet, batches: Sequence[Batch], learning_rate: float
) -> None:
    """Stop a training that has diverged, before its state replaces the last good checkpoint.

    Args:
        state: its ``losses`` are those of the current epoch.
        names: names of the losses.
        batches: batches of the current epoch.

    Raises:
        UserError: a loss or a weight is not finite.
    """
    bad = (~state.losses.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if not bad and state.is_finite():
        return
    # If only the weights are not finite, the last step is at fault.
    step = bad[0] if bad else len(state.losses) - 1
    losses = zip(names, state.losses[step].tolist(), strict=True)
    shown = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in losses)
    clip_ids = dict.fromkeys(str(clips.waveforms.clip_ids[row]) for row in clips.row[batches[step].clip])
    message = (
        f"training diverged in epoch {len(state.history) + 1}, step {step + 1}: {shown}"
        f"{'' if bad else ', and weights that are not finite after it'}; "
        f"learning rate {learning_rate:g}. Try a smaller training.learning_rate. Without a change, the next run "
        f"resumes after epoch {len(state.history)}, the last good one. Clips of the batch: {', '.join(clip_ids)}"
    )
    raise UserError(message)
