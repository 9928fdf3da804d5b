"""Training on frames: one autoencoder per machine type and its two covariances (the DCASE baseline)."""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from asdpipe.data.audio import to_float
from asdpipe.errors import UserError
from asdpipe.method.objectives import Batch, Objective
from asdpipe.models.autoencoder import BANDS, FRAMES, Autoencoder, LogMel, inverse_covariances, stack_frames
from asdpipe.progress import Progress
from asdpipe.training.embedding import refuse_short
from asdpipe.training.fit import Step, fit
from asdpipe.training.job import Job, Trained
from asdpipe.training.state import Checkpoint, TrainingState

logger = logging.getLogger(__name__)


class FrameVectors(NamedTuple):
    """The inputs of the autoencoder for many clips, stored as overlapping views of their spectrograms."""

    runs: Tensor
    """(frames - 4, 640): all runs of five frames, including those across two clips; a view."""
    row: Tensor
    """int64 (vectors,): rows of ``runs`` that lie within one clip."""
    clip: Tensor
    """int64 (vectors,): clip of each of these rows."""


class FrameTrainer:
    """Train one autoencoder per machine type with Adam, on runs of five frames of whole clips.

    Args:
        epochs: passes over the vectors.
        batch_size: vectors per batch.
        learning_rate: for Adam.
        validation: fraction of the vectors, drawn at random from all clips, that is used for the validation loss only.
    """

    def __init__(self, epochs: int, batch_size: int, learning_rate: float, validation: float) -> None:
        self.epochs, self.batch_size, self.learning_rate = epochs, batch_size, learning_rate
        self.validation = validation

    def train(self, job: Job) -> Trained:
        """Train the autoencoders of all machine types, one after the other; see ``Trainer``.

        Checkpoints of finished machine types are kept until all are trained.
        """
        machines = sorted(set(job.machine.tolist()))
        network = {**job.network, "machines": machines}
        extractor = job.build_extractor(machines=machines)
        refuse_short(job.clips.waveforms, extractor.min_samples)
        objective = job.build_objective(extractor)
        histories, checkpoints = [], []
        for number, machine in enumerate(machines, 1):
            rows = np.flatnonzero(job.machine == machine).tolist()
            is_source = ~job.clips.is_target[rows]
            counts = is_source.sum(), (~is_source).sum()
            logger.info("%s (%d/%d): %d source and %d target clips", machine, number, len(machines), *counts)
            checkpoints.append(job.checkpoint(machine))
            # Seeded by name, so that adding a machine type does not change the training of the others.
            seed = (job.seed[0], *machine.encode())
            clips = (job.clips[row] for row in rows)
            try:
                with checkpoints[-1].stoppable():
                    model, inverse, history = self.train_machine(
                        clips, is_source, seed, objective, job.device, checkpoints[-1]
                    )
            except UserError as error:
                raise type(error)(f"{machine}: {error}") from None
            trained = extractor.of_machine(machine)
            weights = {f"model.{name}": value for name, value in model.state_dict().items()}
            trained.load_state_dict({**weights, "inverse_covariances": inverse})
            history.insert(0, "machine", machine)
            histories.append(history)
        return Trained(extractor.eval(), network, pd.concat(histories), checkpoints)

    def train_machine(
        self,
        clips: Iterable[NDArray[np.int16]],
        is_source: NDArray[np.bool_],
        seed: Sequence[int],
        objective: Objective,
        device: torch.device,
        checkpoint: Checkpoint,
    ) -> tuple[Autoencoder, Tensor, pd.DataFrame]:
        """Train the autoencoder of one machine type, or continue an interrupted training.

        Args:
            clips: 16 kHz samples of any length; read one at a time, only their spectrograms are kept.
            is_source: (clips,).
            seed: entropy of the random generators, e.g. (seed, *machine type).
            objective: the loss.
            device: device to train on.
            checkpoint: saved after every epoch.

        Returns:
            The autoencoder on the CPU in evaluation mode, the inverse covariances (2, 128, 128) of its errors on source
            and target, and one row per epoch: epoch, loss, validation_loss (NaN without validation), learning_rate.

        Raises:
            UserError: there are fewer than two vectors to train on, or the training diverged.
            Interrupted: the process received SIGTERM or SIGINT.
        """
        weight_seed, rng_seed = np.random.SeedSequence(seed).generate_state(2).tolist()
        rng = torch.Generator().manual_seed(rng_seed)
        torch.manual_seed(weight_seed)
        model = Autoencoder().to(device)
        vectors = frame_vectors(clips, model.log_mel, device)
        order = torch.randperm(len(vectors.row), generator=rng)
        validation, training = order.tensor_split([math.ceil(self.validation * len(order))])
        if len(training) < 2:
            message = (
                f"{len(is_source)} training clips leave {len(training)} runs of {FRAMES} frames to train the "
                "autoencoder on, at least 2 are needed: add clips, or longer ones"
            )
            raise UserError(message)
        optimizer = torch.optim.Adam(model.parameters(), lr=self.learning_rate)
        state = TrainingState({"model": model}, optimizer, rng)
        checkpoint.restore(state)
        progress = Progress("training", self.epochs - len(state.history), "epoch")
        for epoch in range(len(state.history) + 1, self.epochs + 1):
            progress.epoch(epoch, self.epochs, state.last_losses(["loss", "validation_loss"]))
            model.train()
            chosen = list(shuffled(training, self.batch_size, rng))
            batches = (Batch(vectors.runs[vectors.row[rows].to(device)], rows, rows) for rows in chosen)
            steps = (Step([batch], len(batch.x), self.learning_rate) for batch in batches)
            losses = torch.cat(list(fit(model, objective, optimizer, steps, rng))).cpu()
            sizes = torch.tensor([len(rows) for rows in chosen])
            mean = float((losses * sizes).sum() / sizes.sum())
            validation_loss = mean_loss(model, vectors, validation, self.batch_size)
            finite = math.isfinite(mean) and (not len(validation) or math.isfinite(validation_loss))
            if not (finite and state.is_finite()):
                message = (
                    f"training of the autoencoder diverged in epoch {epoch}: loss {mean}, validation loss "
                    f"{validation_loss}; try a smaller training.learning_rate than {self.learning_rate:g}"
                )
                raise UserError(message)
            row = {"loss": mean, "validation_loss": validation_loss, "learning_rate": self.learning_rate}
            state.end_epoch({"epoch": epoch, **row})
            logger.info("epoch %d/%d: loss %.3f, validation %.3f", epoch, self.epochs, mean, validation_loss)
            progress.advance(1)
            checkpoint.save(state)
        progress.close()
        source = torch.from_numpy(is_source[vectors.clip.numpy()])
        chosen = list(shuffled(training, self.batch_size, rng))
        inverse = inverse_covariances((errors(model, vectors, rows), source[rows].to(device)) for rows in chosen)
        # Act on a signal since the last epoch, because the training of another machine type may follow.
        checkpoint.end_if_asked(state)
        return model.cpu().eval(), inverse, pd.DataFrame(state.history)


@torch.no_grad()
def frame_vectors(clips: Iterable[NDArray[np.int16]], log_mel: LogMel, device: torch.device) -> FrameVectors:
    """Return the vectors of clips in order, ``runs`` on the device; a clip of fewer than five frames has none."""
    empty = torch.empty(0, dtype=torch.int64)
    spectrograms, row, clip, start = [torch.empty(0, BANDS, device=device)], [empty], [empty], 0
    for number, samples in enumerate(clips):
        spectrogram = log_mel(torch.from_numpy(to_float(samples)).to(device)[None])[0]
        count = max(0, len(spectrogram) - FRAMES + 1)
        spectrograms.append(spectrogram)
        row.append(torch.arange(start, start + count))
        clip.append(torch.full((count,), number))
        start += len(spectrogram)
    return FrameVectors(stack_frames(torch.cat(spectrograms)[None])[0], torch.cat(row), torch.cat(clip))


def shuffled(members: Tensor, batch_size: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Yield the members in random order, in batches; a last batch of one member is left out."""
    for batch in members[torch.randperm(len(members), generator=rng)].split(batch_size):
        if len(batch) > 1:  # Batch normalisation needs two vectors.
            yield batch


@torch.no_grad()
def errors(model: Autoencoder, vectors: FrameVectors, chosen: Tensor) -> Tensor:
    """Return reconstruction minus input of the chosen vectors, (vectors, 640), in evaluation mode."""
    x = vectors.runs[vectors.row[chosen].to(vectors.runs.device)]
    return model.eval()(x) - x


def mean_loss(model: Autoencoder, vectors: FrameVectors, chosen: Tensor, batch_size: int) -> float:
    """Return the mean squared error of the chosen vectors; NaN if there are none."""
    squares = [errors(model, vectors, part).square().mean(dim=1) for part in chosen.split(batch_size)]
    return float(torch.cat(squares).mean())
