"""ArcFace: cross-entropy with an angular margin (Deng et al., CVPR 2019)."""

import math
from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from asdpipe.method.objectives import Batch, Embed, Objective


def arc_face_loss(cosine: Tensor, label: Tensor, *, margin: float, scale: float) -> Tensor:
    """Return the cross-entropy of scale * cos(angle + margin) for the own class and scale * cos(angle) for the others.

    If angle + margin exceeds pi, cos(angle) - margin * sin(margin) replaces cos(angle + margin), so that the loss still
    grows with the angle (the released code of the paper).

    Args:
        cosine: of embeddings and classes, float32 (batch, classes).
        label: own class, int64 (batch,).
        margin: in radians.
    """
    own = cosine.gather(1, label[:, None])
    # The gradient of the sine is infinite at 0 and pi.
    sine = (1 - own.square()).clamp(min=1e-12).sqrt()
    with_margin = own * math.cos(margin) - sine * math.sin(margin)
    beyond = own - margin * math.sin(margin)
    own = torch.where(own > math.cos(math.pi - margin), with_margin, beyond)
    return F.cross_entropy(scale * cosine.scatter(1, label[:, None], own), label)


class ArcFaceObjective(Objective):
    """ArcFace with one learned centre per class, initialised Xavier-uniform.

    Args:
        embedding_shape: number of branches, and embedding size of each.
        num_classes: C.
        margin, scale: see ``arc_face_loss``.
    """

    names = ("arc_face_loss",)

    def __init__(self, embedding_shape: tuple[int, int], num_classes: int, *, margin: float, scale: float) -> None:
        super().__init__()
        self.margin, self.scale = margin, scale
        self.centres = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_classes, math.prod(embedding_shape))))

    def terms(self, embed: Embed, batch: Batch, rng: Generator) -> Iterator[Tensor]:
        """Yield the loss."""
        label = batch.class_index.to(batch.x.device, non_blocking=True)
        cosine = F.normalize(embed(batch.x).flatten(1)) @ F.normalize(self.centres).T
        yield arc_face_loss(cosine, label, margin=self.margin, scale=self.scale)
