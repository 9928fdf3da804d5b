"""The training loop, independent of model and loss."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from asdpipe.method.objectives import Batch, Embed, Objective


class Step(NamedTuple):
    """The input of one optimiser step."""

    micro_batches: Iterable[Batch]
    """Parts of the batch whose activations are in memory one after the other."""
    num_clips: int
    """Clips of all micro-batches together."""
    learning_rate: float


def fit(
    embed: Embed, objective: Objective, optimizer: torch.optim.Optimizer, steps: Iterable[Step], rng: Generator
) -> Iterator[Tensor]:
    """Take optimiser steps and yield the losses of each, (terms,), on the device.

    The sum of the losses is minimised (eq. 12). Gradients are accumulated loss by loss, which needs less memory than
    one backward pass, and micro-batch by micro-batch. Losses of a micro-batch are weighted by its share of the clips:
    for means over clips, without batch statistics, the step is that of the whole batch.

    Args:
        embed: the extractor in training mode.
        objective: yields the losses, in the order of its ``names``.
        steps: inputs on the device of the extractor; the next step is taken from there after the one before is done.
        rng: CPU generator, passed to the objective.
    """
    for micro_batches, num_clips, learning_rate in steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.zero_grad(set_to_none=True)
        losses = []
        for batch in micro_batches:
            share = len(batch.x) / num_clips
            weighted = []
            for loss in objective.terms(embed, batch, rng):
                part = share * loss
                # A loss over no clips is a constant.
                if part.requires_grad:
                    part.backward()
                weighted.append(part.detach())
            losses.append(torch.stack(weighted))
        optimizer.step()
        yield torch.stack(losses).sum(dim=0)
