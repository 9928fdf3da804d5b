"""The training loop: it knows no model and no loss by name."""

from collections.abc import Iterable, Iterator

import torch
from torch import Generator, Tensor

from asdpipe.method.objectives import Batch, Embed, Objective


def fit(
    embed: Embed, objective: Objective, optimizer: torch.optim.Optimizer, batches: Iterable[Batch], rng: Generator
) -> Iterator[Tensor]:
    """Take one optimiser step for each batch and yield its losses, (terms,), on the device.

    The gradients of the losses add up, which minimises their sum; one loss at a time needs less memory.

    Args:
        embed: the extractor in training; objective: what is minimised, and the order of its losses.
        rng: of the objective's draws.
    """
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        losses = []
        for loss in objective.terms(embed, batch, rng):
            # A loss without any clip is a constant.
            if loss.requires_grad:
                loss.backward()
            losses.append(loss.detach())
        optimizer.step()
        yield torch.stack(losses)
