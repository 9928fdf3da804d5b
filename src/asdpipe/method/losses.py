"""Losses: sub-cluster AdaCos, subspace loss (paper §3.2, eq. 1) with FeatEx, triplet loss (§4.2.1, eq. 10-11)."""

import math
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from asdpipe.method.augment import exchange_branches

FEAT_EX_PROBABILITY = 0.5


class SubclusterAdaCos(nn.Module):
    """Sub-cluster AdaCos loss (SCAC) for soft labels (paper §3.2, reference [62]).

    Every class has ``subclusters`` centres. p_c is the softmax summed over the centres of class c, and the loss is
    -sum_c y_c log p_c, averaged over the batch. The centres are the columns of ``weight`` (dim, classes * subclusters),
    initialised Xavier-uniform; those of class c start at column c * subclusters.

    Args:
        dim: embedding size D.
        num_classes: C.
        subclusters: S.
        trainable: learn the centres; otherwise they keep their initial values.
        adaptive: update the scale in every training step, as in AdaCos; otherwise it is sqrt(2) * ln(C * S - 1).
    """

    scale: Tensor
    weight: Tensor

    def __init__(self, dim: int, num_classes: int, subclusters: int, *, trainable: bool, adaptive: bool) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.adaptive = adaptive
        centres = num_classes * subclusters
        weight = nn.init.xavier_uniform_(torch.empty(dim, centres))
        if trainable:
            self.weight = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)
        self.register_buffer("scale", torch.tensor(math.sqrt(2) * math.log(max(centres - 1, 2))))

    def forward(self, embedding: Tensor, label: Tensor) -> Tensor:
        """Return the loss, a float32 scalar, of embeddings (batch, dim) and soft labels (batch, classes)."""
        # float32 and log-sum-exp avoid -inf and NaN if the caller uses half precision.
        cosine = F.normalize(embedding.float(), dim=1) @ F.normalize(self.weight.float(), dim=0)
        if self.adaptive and self.training:
            self._update_scale(cosine.detach(), label)
        logits = self.scale * cosine
        by_class = logits.unflatten(1, (self.num_classes, -1)).logsumexp(dim=2)
        log_p = by_class - logits.logsumexp(dim=1, keepdim=True)
        return -(label * log_p).sum(dim=1).mean()

    def _update_scale(self, cosine: Tensor, label: Tensor) -> None:
        """Set s = ln(mean over clips of sum over all centres of exp(s cos)) / cos(min(pi/4, median angle)).

        The angle of a clip is the angle to the nearest centre of its class, weighted by its soft label.
        """
        nearest = cosine.unflatten(1, (self.num_classes, -1)).amax(dim=2).clamp(-1, 1).acos()
        median = (label * nearest).sum(dim=1).median()
        energy = (self.scale * cosine).logsumexp(dim=1)
        log_mean = energy.logsumexp(dim=0) - math.log(len(energy))
        self.scale.copy_(log_mean / median.clamp(max=math.pi / 4).cos())


class SubspaceLoss(nn.Module):
    """SCAC with fixed centres on z_cat plus, by default, SCAC with learned centres on every branch (eq. 1).

    FeatEx (Wilkinghoff, Self-Supervised Learning for Anomalous Sound Detection, ICASSP 2024, and its released code)
    adds a third term of weight 1: SCAC with learned centres of (branches + 1) * C classes on z_cat, after
    ``exchange_branches`` with probability 0.5. Wilkinghoff uses it with the fixed centres only: ``per_branch=False``.

    Args:
        branches, width: of the embeddings (batch, branches, width).
        num_classes, subclusters, adaptive: see SubclusterAdaCos.
        per_branch: add the losses on the branches (the sum in eq. 1).
        feat_ex: add the FeatEx term; needs at least two branches.
    """

    def __init__(
        self,
        branches: int,
        width: int,
        num_classes: int,
        subclusters: int,
        *,
        adaptive: bool,
        per_branch: bool = True,
        feat_ex: bool = False,
    ) -> None:
        super().__init__()
        self.concatenated = SubclusterAdaCos(
            branches * width, num_classes, subclusters, trainable=False, adaptive=adaptive
        )
        self.subspaces = nn.ModuleList(
            SubclusterAdaCos(width, num_classes, subclusters, trainable=True, adaptive=adaptive)
            for _ in range(branches if per_branch else 0)
        )
        # Initialised last, so that FeatEx does not change the other centres.
        self.exchanged = (
            SubclusterAdaCos(
                branches * width, (branches + 1) * num_classes, subclusters, trainable=True, adaptive=adaptive
            )
            if feat_ex
            else None
        )

    def forward(self, embedding: Tensor, label: Tensor, generator: Generator | None = None) -> Tensor:
        """Return the loss of embeddings (batch, branches, width) and soft labels (batch, classes).

        The CPU ``generator`` is used by FeatEx only.
        """
        loss: Tensor = self.concatenated(embedding.flatten(1), label)
        for branch, scac in enumerate(self.subspaces):
            loss = loss + scac(embedding[:, branch], label)
        if self.exchanged is not None:
            swapped, extended = exchange_branches(
                embedding, label, probability=FEAT_EX_PROBABILITY, generator=generator
            )
            loss = loss + self.exchanged(swapped.flatten(1), extended)
        return loss


def triplet_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    tau: float,
    gamma: float,
    margin: Literal["gamma_plus_one", "gamma"] = "gamma_plus_one",
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Return max(0, gamma + 1 - s(a, p) + s(a, n)) with s = cosine / tau (eq. 10-11), over embeddings (batch, dim).

    ``margin="gamma"`` omits the 1, as the released code does in effect. The loss of an empty batch is 0.
    """
    offset = gamma + 1 if margin == "gamma_plus_one" else gamma
    similar = F.cosine_similarity(anchor.float(), positive.float(), dim=1)
    different = F.cosine_similarity(anchor.float(), negative.float(), dim=1)
    hinge = F.relu(offset - (similar - different) / tau)
    return hinge.sum() if reduction == "sum" else hinge.sum() / max(len(hinge), 1)
