"""The training of the DCASE baseline's autoencoder: one for every machine type, and its two covariances."""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from asdpipe.config.method import Autoencoder as Settings
from asdpipe.data.audio import to_float
from asdpipe.errors import UserError
from asdpipe.models.autoencoder import BANDS, FRAMES, Autoencoder, LogMel, inverse_covariances, stack_frames
from asdpipe.progress import Progress
from asdpipe.training.state import Checkpoint, Running

logger = logging.getLogger(__name__)


class FrameVectors(NamedTuple):
    """The autoencoder's inputs for many clips, held as the spectrograms that they overlap in."""

    runs: Tensor
    """(frames - 4, 640): every run of five frames, also those across two clips; a view."""
    row: Tensor
    """int64 (vectors,): the runs within one clip."""
    clip: Tensor
    """int64 (vectors,): the clip that each of them is of."""


def train_autoencoder(
    clips: Iterable[NDArray[np.int16]],
    is_source: NDArray[np.bool_],
    settings: Settings,
    seed: Sequence[int],
    device: torch.device,
    checkpoint: Checkpoint | None = None,
) -> tuple[Autoencoder, Tensor, pd.DataFrame]:
    """Train an autoencoder on the training clips of one machine type, or go on with a training that was interrupted.

    Args:
        clips: 16 kHz samples, of any lengths; taken one at a time, only their spectrograms are kept.
        is_source: (clips,).
        settings: a share of validation is drawn at random from the vectors of all clips.
        seed: entropy of every random draw, e.g. (seed, machine type).
        checkpoint: where the state is kept after every epoch.

    Returns:
        The autoencoder on the CPU in evaluation mode, the inverse covariances (2, 128, 128) of its errors on source
        and target, and per epoch: epoch, loss, validation_loss (NaN without validation), learning_rate.

    Raises:
        UserError: there are fewer than two vectors to train on, or the loss is no longer finite.
        Interrupted: the process was asked to end.
    """
    weight_seed, draw_seed = (int(each) for each in np.random.SeedSequence(seed).generate_state(2))
    draws = torch.Generator().manual_seed(draw_seed)
    torch.manual_seed(weight_seed)
    model = Autoencoder().to(device)
    vectors = frame_vectors(clips, model.log_mel, device)
    order = torch.randperm(len(vectors.row), generator=draws)
    validation, training = order.tensor_split([math.ceil(settings.validation * len(order))])
    if len(training) < 2:
        message = (
            f"{len(is_source)} training clips leave {len(training)} runs of {FRAMES} frames to train the autoencoder "
            "on, at least 2 are needed: add clips, or longer ones"
        )
        raise UserError(message)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    running = Running({"model": model}, optimizer, draws)
    if checkpoint:
        checkpoint.restore(running)
    progress = Progress("training", settings.epochs - len(running.history), "epoch")
    for epoch in range(len(running.history) + 1, settings.epochs + 1):
        model.train()
        total, seen = torch.zeros((), device=device), 0
        for chosen in shuffled(training, settings.batch_size, draws):
            x = vectors.runs[vectors.row[chosen].to(device)]
            loss = F.mse_loss(model(x), x)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(chosen)
            seen += len(chosen)
        mean, watched = float(total) / seen, mean_loss(model, vectors, validation, settings.batch_size)
        finite = math.isfinite(mean) and (not len(validation) or math.isfinite(watched))
        if not (finite and running.is_finite()):
            message = (
                f"training of the autoencoder diverged in epoch {epoch}: loss {mean}, validation loss {watched}; "
                f"try a smaller autoencoder.learning_rate than {settings.learning_rate:g}"
            )
            raise UserError(message)
        running.end_epoch(
            {"epoch": epoch, "loss": mean, "validation_loss": watched, "learning_rate": settings.learning_rate}
        )
        logger.info("epoch %d/%d: loss %.3f, validation %.3f", epoch, settings.epochs, mean, watched)
        progress.advance(1)
        if checkpoint:
            checkpoint.save(running)
    progress.close()
    source = torch.from_numpy(is_source[vectors.clip.numpy()])
    batches = shuffled(training, settings.batch_size, draws)
    inverse = inverse_covariances((errors(model, vectors, chosen), source[chosen].to(device)) for chosen in batches)
    if checkpoint:
        # A signal that came since the last epoch must not be lost: another machine type's training may follow.
        checkpoint.end_if_asked(running)
    return model.cpu().eval(), inverse, pd.DataFrame(running.history)


@torch.no_grad()
def frame_vectors(clips: Iterable[NDArray[np.int16]], log_mel: LogMel, device: torch.device) -> FrameVectors:
    """Return the vectors of clips in their order, the runs on the device; a clip under five frames has none."""
    none = torch.empty(0, dtype=torch.int64)
    spectrograms, row, clip, start = [torch.empty(0, BANDS, device=device)], [none], [none], 0
    for number, samples in enumerate(clips):
        spectrogram = log_mel(torch.from_numpy(to_float(samples)).to(device)[None])[0]
        count = max(0, len(spectrogram) - FRAMES + 1)
        spectrograms.append(spectrogram)
        row.append(torch.arange(start, start + count))
        clip.append(torch.full((count,), number))
        start += len(spectrogram)
    return FrameVectors(stack_frames(torch.cat(spectrograms)[None])[0], torch.cat(row), torch.cat(clip))


def shuffled(members: Tensor, batch_size: int, draws: torch.Generator) -> Iterator[Tensor]:
    """Yield all members once, in random order, in batches; a last one that would be alone is left out."""
    for batch in members[torch.randperm(len(members), generator=draws)].split(batch_size):
        if len(batch) > 1:  # Batch normalisation cannot use a single vector.
            yield batch


@torch.no_grad()
def errors(model: Autoencoder, vectors: FrameVectors, chosen: Tensor) -> Tensor:
    """Return reconstruction less input of the chosen vectors, (vectors, 640), in evaluation mode."""
    x = vectors.runs[vectors.row[chosen].to(vectors.runs.device)]
    return model.eval()(x) - x


def mean_loss(model: Autoencoder, vectors: FrameVectors, chosen: Tensor, batch_size: int) -> float:
    """Return the mean squared error of the chosen vectors; NaN where there are none."""
    squares = [errors(model, vectors, part).square().mean(dim=1) for part in chosen.split(batch_size)]
    return float(torch.cat(squares).mean())
