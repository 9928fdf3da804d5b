"""AdaProj: every class is a subspace instead of a centre (Wilkinghoff, 2024, arXiv 2403.14179)."""

import math
from collections.abc import Iterator

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from asdpipe.method.objectives import Batch, Embed, Objective


class AdaProjObjective(Objective):
    """Cross-entropy of scaled cosines between an embedding and its projection onto the subspace of each class.

    The subspace of a class is the span of its centres, and the scale adapts as in AdaCos. As in public code (ASDKit),
    there are 32 random centres per class, which are not learned; the similarity is the cosine of embedding and
    projection; in the update of the scale the own class counts as exp(0). Public code adds up projections onto the
    normalised centres; here the basis is orthonormal, so that the projection is exact.

    Args:
        embedding_shape: number of branches, and embedding size of each.
        num_classes: C.
        subspace_dim: centres per class; at least half of the embedding's dimensions stay outside the subspace.
    """

    names = ("ada_proj_loss",)
    basis: Tensor
    """Orthonormal basis of each subspace, (classes, dim, subspace_dim)."""
    scale: Tensor

    def __init__(self, embedding_shape: tuple[int, int], num_classes: int, *, subspace_dim: int) -> None:
        super().__init__()
        dim = math.prod(embedding_shape)
        centres = torch.randn(num_classes, dim, max(1, min(subspace_dim, dim // 2)))
        self.register_buffer("basis", torch.linalg.qr(centres).Q)
        self.register_buffer("scale", torch.tensor(math.sqrt(2) * math.log(max(num_classes - 1, 2))))

    def terms(self, embed: Embed, batch: Batch, rng: Generator) -> Iterator[Tensor]:
        """Yield the loss; in training, update the scale before."""
        label = batch.class_index.to(batch.x.device, non_blocking=True)
        unit = F.normalize(embed(batch.x).flatten(1))
        # The cosine of a unit vector and its projection is the length of the projection.
        cosine = torch.einsum("bd,cds->bcs", unit, self.basis).norm(dim=2)
        if self.training:
            self._update_scale(cosine.detach(), label)
        yield F.cross_entropy(self.scale * cosine, label)

    def _update_scale(self, cosine: Tensor, label: Tensor) -> None:
        """Set s = ln(mean over clips of (1 + sum over other classes of exp(s cos))) / cos(min(pi/4, median angle))."""
        own = label[:, None]
        median = cosine.gather(1, own).clamp(max=1).acos().median()
        energy = (self.scale * cosine).scatter(1, own, 0.0).logsumexp(dim=1)
        log_mean = energy.logsumexp(dim=0) - math.log(len(energy))
        self.scale.copy_(log_mean / median.clamp(max=math.pi / 4).cos())
