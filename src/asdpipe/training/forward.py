"""The extractor as objectives call it in training: precision, and one forward pass over several small views."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from asdpipe.models.base import FeatureExtractor
from asdpipe.models.batch_norm import statistics_per_view

# Largest batch whose views are embedded together, in samples times width. Larger ones gain nothing, and the activations
# of all their views should not be in memory at once. The demo's batches have 15 million (20 clips of 1.5 s, width 32).
MAX_JOINT_SIZE = 2**26


class Forward:
    """Embed views in training mode: convolutions and matrix products in a given dtype, embeddings in float32.

    Args:
        extractor: in training mode.
        dtype: of convolutions and matrix products.
        compiled: use ``torch.compile``.
    """

    def __init__(self, extractor: FeatureExtractor, dtype: torch.dtype, *, compiled: bool) -> None:
        self.dtype, self.width = dtype, extractor.embedding_shape[1]
        self.takes_views = extractor.takes_views and not compiled
        self.extractor: Callable[..., Tensor] = torch.compile(extractor) if compiled else extractor

    def __call__(self, x: Tensor, **options: object) -> Tensor:
        """Return the embeddings of one view."""
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            embedding = self.extractor(x, **options)
        # The losses and their gradients are float32.
        return embedding.float()

    def joins(self, x: Tensor) -> bool:
        """Return whether the views of a batch are embedded together: on a CPU, where operators are short."""
        return self.takes_views and x.device.type == "cpu" and x.numel() * self.width <= MAX_JOINT_SIZE

    def together(self, views: Sequence[Tensor]) -> Tensor:
        """Return the embeddings of views of equal size, one after the other."""
        with statistics_per_view(len(views)):
            return self(torch.cat(list(views)))
