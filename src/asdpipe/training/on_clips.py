"""Training on clips and their classes: one network for all machine types (paper §5.2, eq. 12)."""

import torch

from asdpipe.errors import UserError
from asdpipe.training.batches import Epoch, TrainingSet, epoch_batches, num_batches
from asdpipe.training.device import Precision
from asdpipe.training.epochs import train_epochs
from asdpipe.training.job import Job, Trained


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
        per_batch = self.source_per_batch, self.target_per_batch
        return train_epochs(
            job,
            build_extractor=job.build_extractor,
            epochs=self.epochs,
            steps_per_epoch=self.steps_of_epoch(job.clips),
            draw=lambda num_samples, order: (
                [batch] for batch in epoch_batches(job.clips, num_samples, *per_batch, order, self.epoch)
            ),
            optimizer=lambda parameters: torch.optim.AdamW(
                parameters, lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
            ),
            learning_rate=lambda _: self.learning_rate,
            precision=self.precision,
        )

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
