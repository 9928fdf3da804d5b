"""Fine-tuning and pre-training of Transformers: large batches in parts, warm-up and cosine decay."""

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from asdpipe.errors import UserError
from asdpipe.models.base import FeatureExtractor
from asdpipe.training.batches import shuffled_batches
from asdpipe.training.device import Precision
from asdpipe.training.epochs import train_epochs
from asdpipe.training.job import Job, Trained
from asdpipe.training.schedule import warm_up_and_decay

# Batch size for which the learning rate of MAE and its successors is stated.
BASE_BATCH = 256


class FineTuneTrainer:
    """Train with AdamW on all clips once per epoch, in random order.

    Weights that the extractor freezes, such as those below low-rank adapters, stay as they are. Weight decay acts on
    all others, biases and normalisations included.

    Args:
        epochs: passes over the clips.
        batch_size: clips of an optimiser step; the last step of an epoch takes those that are left.
        micro_batch: clips in memory at a time; gradients are accumulated.
        learning_rate: highest one, after the warm-up.
        scale_by_batch: multiply it by batch_size / 256.
        weight_decay, betas: for AdamW.
        warm_up_epochs: epochs of the linear warm-up; afterwards the rate decays to 0 with a cosine.
        layer_decay, layer_drop, checkpointing: passed to extractors that take them.
        precision: dtype of convolutions and matrix products.
    """

    def __init__(
        self,
        epochs: int,
        batch_size: int,
        micro_batch: int,
        learning_rate: float,
        scale_by_batch: bool,
        weight_decay: float,
        betas: tuple[float, float],
        warm_up_epochs: int,
        layer_decay: float,
        layer_drop: float,
        checkpointing: bool,
        precision: Precision,
    ) -> None:
        self.epochs, self.warm_up_epochs = epochs, warm_up_epochs
        self.batch_size, self.micro_batch = batch_size, micro_batch
        self.learning_rate = learning_rate * batch_size / BASE_BATCH if scale_by_batch else learning_rate
        self.weight_decay, self.betas = weight_decay, betas
        self.switches = {"layer_decay": layer_decay, "layer_drop": layer_drop, "checkpointing": checkpointing}
        self.precision = precision

    def train(self, job: Job) -> Trained:
        """Train a network from its initial or pre-trained weights, or continue an interrupted training.

        See ``Trainer``.
        """
        steps_per_epoch = -(-len(job.clips) // self.batch_size)
        return train_epochs(
            job,
            build_extractor=lambda: without_batch_statistics(job.build_extractor(**self.switches)),
            epochs=self.epochs,
            steps_per_epoch=steps_per_epoch,
            draw=lambda num_samples, order: shuffled_batches(
                job.clips, num_samples, self.batch_size, self.micro_batch, order
            ),
            optimizer=lambda parameters: torch.optim.AdamW(
                parameters, lr=self.learning_rate, betas=self.betas, weight_decay=self.weight_decay, fused=True
            ),
            learning_rate=lambda step: warm_up_and_decay(
                step, steps_per_epoch, self.epochs, self.warm_up_epochs, self.learning_rate
            ),
            precision=self.precision,
        )


def without_batch_statistics(extractor: FeatureExtractor) -> FeatureExtractor:
    """Return the extractor, in training mode, if micro-batches may be accumulated.

    Raises:
        UserError: batch normalisation would see single micro-batches.
    """
    if any(isinstance(module, _BatchNorm) and module.training for module in extractor.train().modules()):
        message = (
            "training: fine_tune splits batches, which batch normalisation does not allow: use training: clips for "
            "this network"
        )
        raise UserError(message)
    return extractor
