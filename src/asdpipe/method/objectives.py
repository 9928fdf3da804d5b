"""Objectives: the losses of a training, yielded one by one so that the graph of each is freed before the next.

The paper minimises L_mlt = L_ss + L_trp (eq. 12): ``SubspaceObjective`` and ``TripletObjective``.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from asdpipe.method.augment import add_noise, mixup, noise_partners
from asdpipe.method.losses import SubspaceLoss, triplet_loss
from asdpipe.method.pitch import pitch_shift

Embed = Callable[..., Tensor]
"""The extractor in training mode: inputs (batch, ...) to embeddings (batch, branches, dim), float32.

Extractors with a spectrogram take ``augment``, a function of the normalised spectrogram (batch, frames, mels).
"""


class Batch(NamedTuple):
    """Inputs and labels of a batch."""

    x: Tensor
    """Inputs of the extractor, float32 (batch, ...), on its device."""
    class_index: Tensor
    """int64 (batch,), on the CPU."""
    machine_index: Tensor
    """Machine types, as groups for background noise, int64 (batch,), on the CPU."""


class Objective(nn.Module):
    """A sum of losses; class centres and other learned parameters are parameters of this module."""

    names: tuple[str, ...]
    """Names of the losses."""

    def terms(self, embed: Embed, batch: Batch, rng: Generator) -> Iterator[Tensor]:
        """Yield the losses, scalars, in the order of ``names``; the caller runs ``backward`` on each before the next.

        Args:
            embed: the extractor, one call per view.
            batch: inputs and labels.
            rng: CPU generator for all random numbers, so that they do not depend on the device.
        """
        raise TypeError(type(self).__name__)


class Sum(Objective):
    """The sum of several objectives."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        super().__init__()
        self.objectives = nn.ModuleList(objectives)
        self.names = tuple(name for objective in objectives for name in objective.names)

    def terms(self, embed: Embed, batch: Batch, rng: Generator) -> Iterator[Tensor]:
        """Yield the losses of one objective after the other."""
        for objective in self.objectives:
            assert isinstance(objective, Objective)
            yield from objective.terms(embed, batch, rng)


class SubspaceObjective(Objective):
    """Subspace loss L_ss with mixup (paper §3.2, eq. 1).

    Args:
        embedding_shape: number of branches, and embedding size of each.
        num_classes: C.
        branches: add a loss with learned sub-clusters on every branch.
        feat_ex: add FeatEx.
        subclusters, scale: see SubclusterAdaCos; "adaptive" updates the scale.
        mixup_probability, mixup_partner: see ``mixup``.
    """

    names = ("subspace_loss",)

    def __init__(
        self,
        embedding_shape: tuple[int, int],
        num_classes: int,
        *,
        branches: bool,
        feat_ex: bool,
        subclusters: int,
        scale: Literal["fixed", "adaptive"],
        mixup_probability: float,
        mixup_partner: Literal["reversed", "random"],
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.mixup_probability, self.mixup_partner = mixup_probability, mixup_partner
        self.loss = SubspaceLoss(
            *embedding_shape,
            num_classes,
            subclusters,
            adaptive=scale == "adaptive",
            per_branch=branches,
            feat_ex=feat_ex,
        )

    def terms(self, embed: Embed, batch: Batch, rng: Generator) -> Iterator[Tensor]:
        """Yield L_ss."""
        label = F.one_hot(batch.class_index, self.num_classes).float().to(batch.x.device, non_blocking=True)
        x, label = mixup(batch.x, label, probability=self.mixup_probability, partner=self.mixup_partner, generator=rng)
        yield self.loss(embed(x), label, rng)


class TripletObjective(Objective):
    """Triplet loss L_trp on plain, noisy and pitch-shifted clips (paper §4.2.1, eq. 8-11).

    Each of the three views has its own forward pass and batch statistics. Clips without an allowed noise partner are
    left out; the loss of fewer than two clips is 0.

    Args:
        enabled: otherwise the loss is 0, and ``rng`` is used for the noise partners only.
        tau, gamma, margin, reduction: see ``triplet_loss``.
        snr_db: range of the signal-to-noise ratio of positives (eq. 8).
        semitones: range of the pitch shift of negatives, both signs (eq. 9).
        shift_per: draw the pitch shift per clip or per batch.
        noise_from: see ``noise_partners``.
    """

    names = ("triplet_loss",)

    def __init__(
        self,
        *,
        enabled: bool,
        tau: float,
        gamma: float,
        margin: Literal["gamma_plus_one", "gamma"],
        reduction: Literal["mean", "sum"],
        snr_db: tuple[float, float],
        semitones: tuple[int, int],
        shift_per: Literal["clip", "batch"],
        noise_from: Literal["other_machine", "same_machine"],
    ) -> None:
        super().__init__()
        self.enabled = enabled
        self.tau, self.gamma, self.margin, self.reduction = tau, gamma, margin, reduction
        self.snr_db, self.semitones, self.shift_per, self.noise_from = snr_db, semitones, shift_per, noise_from

    def terms(self, embed: Embed, batch: Batch, rng: Generator) -> Iterator[Tensor]:
        """Yield L_trp."""
        x = batch.x
        partner = noise_partners(batch.machine_index, self.noise_from, rng)
        kept = (partner >= 0).nonzero().squeeze(1)
        if not self.enabled or len(kept) < 2:
            yield x.new_zeros(())
            return
        low, high = self.snr_db
        snr_db = low + (high - low) * torch.rand(len(kept), generator=rng)
        shifts = self.draw_semitones(len(kept), rng)
        kept_rows, noise_rows, snr_db = (
            tensor.to(x.device, non_blocking=True) for tensor in (kept, partner[kept], snr_db)
        )
        anchor = x[kept_rows]
        positive = add_noise(anchor, x[noise_rows], snr_db)
        negative = pitch_shift(anchor, shifts)
        embeddings = [embed(view).flatten(1) for view in (anchor, positive, negative)]
        yield triplet_loss(*embeddings, tau=self.tau, gamma=self.gamma, margin=self.margin, reduction=self.reduction)

    def draw_semitones(self, count: int, rng: Generator) -> Tensor:
        """Draw the pitch shift beta of every clip, int64 (count,), uniform over both signs and the range of |beta|."""
        low, high = self.semitones
        size = count if self.shift_per == "clip" else 1
        magnitude = torch.randint(low, high + 1, (size,), generator=rng)
        sign = 2 * torch.randint(0, 2, (size,), generator=rng) - 1
        return (sign * magnitude).expand(count)


class ReconstructionObjective(Objective):
    """Mean squared error between output and input of the extractor (autoencoder of the DCASE baseline)."""

    names = ("loss",)

    def terms(self, embed: Embed, batch: Batch, rng: Generator) -> Iterator[Tensor]:
        """Yield the mean squared error."""
        yield F.mse_loss(embed(batch.x), batch.x)
