"""Cross-entropy of a linear classifier, optionally on augmented spectrograms."""

import math
from collections.abc import Iterator
from functools import partial

from torch import Generator, Tensor, nn
from torch.nn import functional as F

from asdpipe.method.objectives import Batch, Embed, Objective
from asdpipe.method.spec_augment import spec_augment


class CrossEntropyObjective(Objective):
    """Cross-entropy of a linear classifier with bias on the whole embedding.

    Args:
        embedding_shape: number of branches, and embedding size of each.
        num_classes: C.
        spec_augment: mask the spectrogram; ``embed`` must take ``augment``.
        time_mask, frequency_mask: see ``spec_augment``.
    """

    names = ("cross_entropy",)

    def __init__(
        self,
        embedding_shape: tuple[int, int],
        num_classes: int,
        *,
        spec_augment: bool,
        time_mask: int,
        frequency_mask: int,
    ) -> None:
        super().__init__()
        self.spec_augment, self.time_mask, self.frequency_mask = spec_augment, time_mask, frequency_mask
        self.classifier = nn.Linear(math.prod(embedding_shape), num_classes)

    def terms(self, embed: Embed, batch: Batch, rng: Generator) -> Iterator[Tensor]:
        """Yield the loss."""
        label = batch.class_index.to(batch.x.device, non_blocking=True)
        masked = partial(spec_augment, time_mask=self.time_mask, frequency_mask=self.frequency_mask, generator=rng)
        embedding = embed(batch.x, augment=masked) if self.spec_augment else embed(batch.x)
        yield F.cross_entropy(self.classifier(embedding.flatten(1)), label)
