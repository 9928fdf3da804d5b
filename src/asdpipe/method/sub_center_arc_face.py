"""Sub-center ArcFace: ArcFace with several centres per class (Deng et al., ECCV 2020)."""

import math
from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from asdpipe.method.arc_face import arc_face_loss
from asdpipe.method.objectives import Batch, Embed, Objective


class SubCenterArcFaceObjective(Objective):
    """ArcFace where the cosine to a class is the largest one to its learned centres, initialised Xavier-uniform.

    Args:
        embedding_shape: number of branches, and embedding size of each.
        num_classes: C.
        subclusters: centres per class (K).
        margin, scale: see ``arc_face_loss``.
    """

    names = ("sub_center_arc_face_loss",)

    def __init__(
        self, embedding_shape: tuple[int, int], num_classes: int, *, subclusters: int, margin: float, scale: float
    ) -> None:
        super().__init__()
        self.margin, self.scale, self.subclusters = margin, scale, subclusters
        centres = torch.empty(num_classes * subclusters, math.prod(embedding_shape))
        # The centres of class c start at row c * subclusters.
        self.centres = nn.Parameter(nn.init.xavier_uniform_(centres))

    def terms(self, embed: Embed, batch: Batch, rng: Generator) -> Iterator[Tensor]:
        """Yield the loss."""
        label = batch.class_index.to(batch.x.device, non_blocking=True)
        cosine = F.normalize(embed(batch.x).flatten(1)) @ F.normalize(self.centres).T
        nearest = cosine.unflatten(1, (-1, self.subclusters)).amax(dim=2)
        yield arc_face_loss(nearest, label, margin=self.margin, scale=self.scale)
