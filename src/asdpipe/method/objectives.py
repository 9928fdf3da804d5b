"""Objectives: the losses of a training, yielded one by one so that the graph of each is freed before the next.

The paper minimises L_mlt = L_ss + L_trp (eq. 12): ``SubspaceObjective`` and ``TripletObjective``.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

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


@runtime_checkable
class JointEmbed(Protocol):
    """An ``Embed`` that can embed several views in one forward pass, with the results of one pass each."""

    def joins(self, x: Tensor) -> bool:
        """Return whether that is faster for views of the size of ``x``, and their activations are few enough."""

    def together(self, views: Sequence[Tensor]) -> Tensor:
        """Return the embeddings of views of equal size, (views * batch, branches, dim), float32."""


class Batch(NamedTuple):
    """Inputs and labels of a batch."""

    x: Tensor
    """Inputs of the extractor, float32 (batch, ...), on its device."""
    class_index: Tensor
    """int64 (batch,), on the CPU."""
    machine_index: Tensor
    """Machine types, as groups for background noise, int64 (batch,), on the CPU."""


class Prepared(NamedTuple):
    """A loss before anything is embedded."""

    views: list[Tensor]
    """Inputs of the extractor, one forward pass each."""
    loss: Callable[[Sequence[Tensor]], Tensor]
    """Maps their embeddings to the loss, a scalar."""


class Objective(nn.Module):
    """A sum of losses; class centres and other learned parameters are parameters of this module."""

    names: tuple[str, ...]
    """Names of the losses."""

    @property
    def can_prepare(self) -> bool:
        """Whether ``prepare`` is there, and draws all random numbers."""
        return False

    def prepare(self, batch: Batch, rng: Generator) -> Prepared:
        """Draw the views of an objective with one loss; see ``terms``."""
        raise TypeError(type(self).__name__)

    def terms(self, embed: Embed, batch: Batch, rng: Generator) -> Iterator[Tensor]:
        """Yield the losses, scalars, in the order of ``names``; the caller runs ``backward`` on each before the next.

        Args:
            embed: the extractor, one call per view.
            batch: inputs and labels.
            rng: CPU generator for all random numbers, so that they do not depend on the device.
        """
        views, loss = self.prepare(batch, rng)
        yield loss([embed(view) for view in views])


class Sum(Objective):
    """The sum of several objectives."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        super().__init__()
        self.objectives = nn.ModuleList(objectives)
        self.names = tuple(name for objective in objectives for name in objective.names)

    def terms(self, embed: Embed, batch: Batch, rng: Generator) -> Iterator[Tensor]:
        """Yield the losses of one objective after the other; small views of all are embedded together."""
        objectives = [objective for objective in self.objectives if isinstance(objective, Objective)]
        if isinstance(embed, JointEmbed) and embed.joins(batch.x) and all(each.can_prepare for each in objectives):
            yield from _together(embed, [each.prepare(batch, rng) for each in objectives])
        else:
            for objective in objectives:
                yield from objective.terms(embed, batch, rng)


def _together(embed: JointEmbed, prepared: Sequence[Prepared]) -> Iterator[Tensor]:
    """Yield losses of embeddings from one forward pass; after the last, run its backward pass."""
    sizes = {len(view) for each in prepared for view in each.views}
    for group in [prepared] if len(sizes) == 1 else [[each] for each in prepared]:
        views = [view for each in group for view in each.views]
        if not views:
            yield from (each.loss([]) for each in group)
            continue
        embeddings = embed.together(views)
        # Losses end here, so that each can be taken backward by itself.
        ends = embeddings.detach().requires_grad_()
        parts = iter(ends.chunk(len(views)))
        for each in group:
            yield each.loss([next(parts) for _ in each.views])
        embeddings.backward(ends.grad)


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

    @property
    def can_prepare(self) -> bool:
        """Whether there is no FeatEx, which draws after the embedding."""
        return self.loss.exchanged is None

    def prepare(self, batch: Batch, rng: Generator) -> Prepared:
        """Mix the clips; the loss is L_ss."""
        label = F.one_hot(batch.class_index, self.num_classes).float().to(batch.x.device, non_blocking=True)
        x, label = mixup(batch.x, label, probability=self.mixup_probability, partner=self.mixup_partner, generator=rng)
        return Prepared([x], lambda embeddings: self.loss(*embeddings, label, rng))


class TripletObjective(Objective):
    """Triplet loss L_trp on plain, noisy and pitch-shifted clips (paper §4.2.1, eq. 8-11).

    Each of the three views has batch statistics of its own. Clips without an allowed noise partner are
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

    @property
    def can_prepare(self) -> bool:
        """Always: nothing is drawn after the embedding."""
        return True

    def prepare(self, batch: Batch, rng: Generator) -> Prepared:
        """Return the three views; the loss is L_trp."""
        x = batch.x
        partner = noise_partners(batch.machine_index, self.noise_from, rng)
        kept = (partner >= 0).nonzero().squeeze(1)
        if not self.enabled or len(kept) < 2:
            return Prepared([], lambda _: x.new_zeros(()))
        low, high = self.snr_db
        snr_db = low + (high - low) * torch.rand(len(kept), generator=rng)
        shifts = self.draw_semitones(len(kept), rng)
        kept_rows, noise_rows, snr_db = (
            tensor.to(x.device, non_blocking=True) for tensor in (kept, partner[kept], snr_db)
        )
        anchor = x[kept_rows]
        positive = add_noise(anchor, x[noise_rows], snr_db)
        negative = pitch_shift(anchor, shifts)
        return Prepared([anchor, positive, negative], self._loss)

    def _loss(self, embeddings: Sequence[Tensor]) -> Tensor:
        anchor, positive, negative = (embedding.flatten(1) for embedding in embeddings)
        return triplet_loss(
            anchor,
            positive,
            negative,
            tau=self.tau,
            gamma=self.gamma,
            margin=self.margin,
            reduction=self.reduction,
        )

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
