"""Masked reconstruction, the pre-training of AudioMAE (Huang et al., Masked autoencoders that listen, 2022, §3)."""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from asdpipe.method.objectives import Batch, Embed, Objective


class MaskedReconstruction(Objective):
    """Mean squared error of the extractor's prediction of hidden patches, drawn at random for each clip.

    Args:
        num_patches: patches of a clip, at least 2.
        mask_ratio: share that is hidden, rounded to patches (paper: 0.8); at least one is hidden and one visible.
    """

    names = ("reconstruction_loss",)

    def __init__(self, num_patches: int, *, mask_ratio: float = 0.8) -> None:
        super().__init__()
        self.num_patches = num_patches
        self.num_hidden = min(max(1, round(mask_ratio * num_patches)), num_patches - 1)

    def terms(self, embed: Embed, batch: Batch, rng: Generator) -> Iterator[Tensor]:
        """Yield the mean squared error."""
        prediction, target = embed(batch.x, hidden=self.draw_hidden(len(batch.x), rng)).unbind(dim=1)
        yield (prediction - target).square().mean()

    def draw_hidden(self, count: int, rng: Generator) -> Tensor:
        """Draw the hidden patches of every clip, bool (count, num_patches), on the CPU."""
        return torch.rand(count, self.num_patches, generator=rng).argsort(dim=1) < self.num_hidden
