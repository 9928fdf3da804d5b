"""The training of one stage with L_mlt = L_trp + L_ss (paper eq. 12), from scratch."""

import logging
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from asdpipe.config.method import Method, Network, Training, Triplet
from asdpipe.errors import UserError
from asdpipe.method.augment import add_noise, mixup, noise_partners
from asdpipe.method.losses import SubspaceLoss, triplet_loss
from asdpipe.method.pitch import pitch_shift
from asdpipe.models.multi_resolution import MultiResolutionNetwork
from asdpipe.progress import Progress
from asdpipe.training.batches import Batch, TrainingSet, epoch_batches, num_batches
from asdpipe.training.crop import cutter
from asdpipe.training.device import training_dtype
from asdpipe.training.prefetch import ahead
from asdpipe.training.state import Checkpoint, Running

logger = logging.getLogger(__name__)


def build_network(settings: Network, num_samples: int) -> MultiResolutionNetwork:
    """Return an untrained network for signals of ``num_samples``.

    Raises:
        UserError: the signals are too short for the network.
    """
    try:
        return MultiResolutionNetwork(
            num_samples, settings.width, settings.windows, settings.f_min, settings.dft_kernels, settings.dft_strides
        )
    except ValueError as error:
        message = f"{error}; lengthen clip_seconds, or set smaller network.windows, dft_kernels and dft_strides"
        raise UserError(message) from None


def train(
    clips: TrainingSet,
    num_classes: int,
    method: Method,
    num_samples: int,
    seed: Sequence[int],
    device: torch.device,
    checkpoint: Checkpoint | None = None,
    *,
    torch_compile: bool = False,
) -> tuple[MultiResolutionNetwork, pd.DataFrame]:
    """Train a network from scratch, or go on with a training that was interrupted.

    Args:
        num_classes: classes of the training set.
        method: uses its sections network, loss, triplet and training.
        seed: entropy of every random draw, e.g. (seed, stage).
        checkpoint: where the state is kept, after every epoch and when the process is asked to end.
        torch_compile: run a compiled network; it shares its weights with the one returned.

    Returns:
        The network on the CPU, and per epoch: epoch, loss, subspace_loss, triplet_loss, learning_rate.

    Raises:
        UserError: a batch would hold a single clip, or the loss is no longer finite.
        Interrupted: the process was asked to end.
    """
    order_seed, draw_seed, weight_seed = (int(each) for each in np.random.SeedSequence(seed).generate_state(3))
    generator, draws = np.random.default_rng(order_seed), torch.Generator().manual_seed(draw_seed)
    torch.manual_seed(weight_seed)
    network = build_network(method.network, num_samples).to(device)
    subspace = SubspaceLoss(
        len(network.branches),
        method.network.width,
        num_classes,
        method.loss.subclusters,
        adaptive=method.loss.scale == "adaptive",
        per_branch=method.loss.branches,
        feat_ex=method.loss.feat_ex,
    ).to(device)
    settings = method.training
    parameters = [each for each in (*network.parameters(), *subspace.parameters()) if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    num_steps = steps_of_epoch(clips, settings)
    running = Running({"network": network, "loss": subspace}, optimizer, draws, generator)
    if checkpoint:
        checkpoint.restore(running)
    progress = Progress("training", (settings.epochs - len(running.history)) * num_steps - len(running.losses), "batch")
    dtype = training_dtype(settings.precision, device, method.network.width)
    cut = cutter(clips, num_samples, device)
    network.train()
    forward = torch.compile(network) if torch_compile else network

    def embed(x: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            embedding: Tensor = forward(x)
        # The losses and their gradients are float32.
        return embedding.float()

    for epoch in range(len(running.history) + 1, settings.epochs + 1):
        drawn = epoch_batches(clips, num_samples, settings.source_per_batch, settings.target_per_batch, generator)
        batches, done = list(drawn), len(running.losses)
        # Losses are looked at when the epoch ends: a GPU need not wait for the program in every step.
        losses = torch.zeros(num_steps, 2, device=device)
        losses[:done] = running.losses
        for step, (batch, samples) in enumerate(ahead((batch, cut(batch)) for batch in batches[done:]), done):
            x = samples.to(device, non_blocking=True)
            label = F.one_hot(batch.class_index, num_classes).float().to(device, non_blocking=True)
            mixed = mixup(
                x,
                label,
                probability=method.loss.mixup_probability,
                partner=method.loss.mixup_partner,
                generator=draws,
            )
            optimizer.zero_grad(set_to_none=True)
            # L_mlt = L_trp + L_ss (eq. 12): gradients add up, and one loss at a time needs less memory.
            subspace_term = subspace(embed(mixed[0]), mixed[1], draws)
            subspace_term.backward()
            triplet_term = triplet_step(embed, x, batch.machine_index, method.triplet, draws)
            if triplet_term.requires_grad:
                triplet_term.backward()
            optimizer.step()
            losses[step] = torch.stack([subspace_term.detach(), triplet_term.detach()])
            progress.advance(1)
            if checkpoint and checkpoint.stop_asked.is_set():
                break
        running.losses = losses[: step + 1].cpu()
        refuse_divergence(running, clips, batches, settings.learning_rate)
        if len(running.losses) == num_steps:
            subspace_mean, triplet_mean = running.losses.mean(dim=0).tolist()
            row = {
                "epoch": epoch,
                "loss": subspace_mean + triplet_mean,
                "subspace_loss": subspace_mean,
                "triplet_loss": triplet_mean,
                "learning_rate": settings.learning_rate,
            }
            running.end_epoch(row)
            logger.info("epoch %d/%d: L_ss %.3f, L_trp %.3f", epoch, settings.epochs, subspace_mean, triplet_mean)
        if checkpoint:
            checkpoint.save(running)
    progress.close()
    return network.cpu().eval(), pd.DataFrame(running.history)


def steps_of_epoch(clips: TrainingSet, settings: Training) -> int:
    """Return the number of optimiser steps of an epoch.

    Raises:
        UserError: a batch would hold a single clip.
    """
    num_source = int((~clips.is_target).sum())
    num_steps = num_batches(num_source, settings.source_per_batch)
    if num_source // num_steps + (settings.target_per_batch if clips.is_target.any() else 0) < 2:
        message = (
            f"{len(clips.row)} training clips make batches of a single clip, which batch normalisation cannot use: "
            "add clips or raise training.source_per_batch"
        )
        raise UserError(message)
    return num_steps


def refuse_divergence(running: Running, clips: TrainingSet, batches: Sequence[Batch], learning_rate: float) -> None:
    """Stop a training whose numbers are no longer finite, before they replace its last good checkpoint.

    Args:
        running: with the losses of the steps of its epoch; batches: of this epoch.

    Raises:
        UserError: a loss or a weight is not finite.
    """
    bad = (~running.losses.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if not bad and running.is_finite():
        return
    # Finite losses and other weights: the last step made them so.
    step = bad[0] if bad else len(running.losses) - 1
    subspace_loss, triplet_loss = running.losses[step].tolist()
    names = dict.fromkeys(str(clips.waveforms.clip_ids[row]) for row in clips.row[batches[step].clip])
    message = (
        f"training diverged in epoch {len(running.history) + 1}, step {step + 1}: subspace loss {subspace_loss:g}, "
        f"triplet loss {triplet_loss:g}{'' if bad else ', and weights that are not finite after it'}; "
        f"learning rate {learning_rate:g}. Try a smaller training.learning_rate. Run again as it is, it goes on after "
        f"epoch {len(running.history)}, the last good one. Clips of the batch: {', '.join(names)}"
    )
    raise UserError(message)


def triplet_step(
    embed: Callable[[Tensor], Tensor], x: Tensor, machine: Tensor, settings: Triplet, draws: torch.Generator
) -> Tensor:
    """Return L_trp of a batch: plain clips, clips with noise, pitch-shifted clips, each in a forward pass of its own.

    Args:
        embed: the network in training. x: waveforms (batch, samples); machine: int64 (batch,) on the CPU.

    Clips without an allowed noise partner are left out; with fewer than two clips left the loss is 0.
    """
    partner = noise_partners(machine, settings.noise_from, draws)
    kept = (partner >= 0).nonzero().squeeze(1)
    if not settings.enabled or len(kept) < 2:
        return x.new_zeros(())
    low, high = settings.snr_db
    snr_db = low + (high - low) * torch.rand(len(kept), generator=draws)
    shifts = draw_semitones(len(kept), settings, draws)
    kept_rows, noise_rows, snr_db = (each.to(x.device, non_blocking=True) for each in (kept, partner[kept], snr_db))
    anchor = x[kept_rows]
    positive = add_noise(anchor, x[noise_rows], snr_db)
    negative = pitch_shift(anchor, shifts)
    embedded = [embed(view).flatten(1) for view in (anchor, positive, negative)]
    return triplet_loss(
        *embedded, tau=settings.tau, gamma=settings.gamma, margin=settings.margin, reduction=settings.reduction
    )


def draw_semitones(count: int, settings: Triplet, draws: torch.Generator) -> Tensor:
    """Draw beta for every clip, int64 (count,): uniform over both signs and the range of |beta|."""
    low, high = settings.semitones
    size = count if settings.shift_per == "clip" else 1
    magnitude = torch.randint(low, high + 1, (size,), generator=draws)
    sign = 2 * torch.randint(0, 2, (size,), generator=draws) - 1
    return (sign * magnitude).expand(count)
