"""The training loop, independent of model and loss."""

from collections.abc import Iterable, Iterator

import torch
from torch import Generator, Tensor

from asdpipe.method.objectives import Batch, Embed, Objective


def fit(
    embed: Embed, objective: Objective, optimizer: torch.optim.Optimizer, batches: Iterable[Batch], rng: Generator
) -> Iterator[Tensor]:
    """Take one optimiser step per batch and yield its losses, (terms,), on the device.

    The sum of the losses is minimised (eq. 12). Gradients are accumulated loss by loss, which needs less memory than
    one backward pass.

    Args:
        embed: the extractor in training mode.
        objective: yields the losses, in the order of its ``names``.
        batches: inputs on the device of the extractor.
        rng: CPU generator, passed to the objective.
    """
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        losses = []
        for loss in objective.terms(embed, batch, rng):
            # A loss over no clips is a constant.
            if loss.requires_grad:
                loss.backward()
            losses.append(loss.detach())
        optimizer.step()
        yield torch.stack(losses)
