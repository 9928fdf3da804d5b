"""Augmentation of waveforms and embeddings in training.

Waveforms: mixup (paper §3.2), background noise for positives (eq. 8). Embeddings: exchange of branches (FeatEx,
reference [60] of the paper).
"""

from typing import Literal

import numpy as np
import torch
from torch import Generator, Tensor


def random_offset(length: int, num_samples: int, generator: np.random.Generator) -> int:
    """Draw the first sample of a training crop: anywhere the crop fits, or anywhere in a clip that is repeated."""
    return int(generator.integers(length - num_samples + 1 if length > num_samples else length))


def mixup(
    x: Tensor,
    label: Tensor,
    *,
    probability: float,
    partner: Literal["reversed", "random"],
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Mix each clip, with the given probability, with a partner: lambda x + (1 - lambda) x', lambda ~ U(0, 1).

    Args:
        x: waveforms (batch, samples).
        label: (batch, classes), mixed with the same weights.
        partner: from the batch in reversed order, or from a random permutation.
        generator: CPU generator, so that random numbers do not depend on the device of ``x``.
    """
    size = len(x)
    weight = torch.rand(size, generator=generator)
    weight[torch.rand(size, generator=generator) >= probability] = 1.0
    order = torch.arange(size - 1, -1, -1) if partner == "reversed" else torch.randperm(size, generator=generator)
    weight, order = weight.to(x.device, non_blocking=True)[:, None], order.to(x.device, non_blocking=True)
    return weight * x + (1 - weight) * x[order], weight * label + (1 - weight) * label[order]


def exchange_branches(
    embedding: Tensor, label: Tensor, *, probability: float, generator: Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Replace, with the given probability, all but the first branch of a clip with branches of other clips (FeatEx).

    The second branch comes from the batch in reversed order, as in the released code of Wilkinghoff, which has two
    branches. Every further branch comes from a random permutation of its own. Labels are extended by one block of
    classes per branch. An unchanged clip has the label (y, 0, ..., 0). An exchanged clip has (0, y_1 / K, ..., y_K /
    K), where y_k is the label of the clip that branch k comes from.

    Args:
        embedding: (batch, K, width), K >= 2 branches.
        label: (batch, classes), possibly mixed.
        generator: CPU generator, so that random numbers do not depend on the device of ``embedding``.

    Returns:
        Embeddings (batch, K, width) and labels (batch, (K + 1) * classes).
    """
    size, branches = embedding.shape[:2]
    chosen = torch.rand(size, generator=generator) < probability
    exchanged = chosen.to(embedding.device, non_blocking=True)[:, None]
    own = torch.arange(size)
    others = [torch.randperm(size, generator=generator) for _ in range(branches - 2)]
    sources = torch.stack([own, own.flip(0), *others]).to(embedding.device, non_blocking=True)
    mixed = torch.stack([embedding[source, branch] for branch, source in enumerate(sources)], dim=1)
    zeros = torch.zeros_like(label)
    own_label = torch.cat([label, *[zeros] * branches], dim=1)
    mixed_label = torch.cat([zeros, *(label[source] / branches for source in sources)], dim=1)
    return torch.where(exchanged[..., None], mixed, embedding), torch.where(exchanged, mixed_label, own_label)


def noise_partners(
    machine: Tensor, noise_from: Literal["other_machine", "same_machine"], generator: Generator | None = None
) -> Tensor:
    """Draw a clip of the batch as background noise for every clip, uniformly among the allowed ones.

    Args:
        machine: machine type of every clip, int (batch,) on the CPU.
        noise_from: clips of another machine type (paper), or other clips of the same machine type.

    Returns:
        Index of the partner, int64 (batch,); -1 if the batch has no allowed clip.
    """
    same = machine[:, None] == machine[None, :]
    allowed = ~same if noise_from == "other_machine" else same & ~torch.eye(len(machine), dtype=torch.bool)
    weights = allowed.float()
    partner = torch.full((len(machine),), -1)
    has_partner = weights.any(dim=1)
    if has_partner.any():
        partner[has_partner] = torch.multinomial(weights[has_partner], 1, generator=generator).squeeze(1)
    return partner


def add_noise(x: Tensor, noise: Tensor, snr_db: Tensor) -> Tensor:
    """Add noise at a signal-to-noise ratio: x + 10^(-snr/20) |x|/|noise| noise (eq. 8). Silent noise adds nothing.

    Args:
        x, noise: waveforms (batch, samples).
        snr_db: signal-to-noise ratio of each clip in dB, (batch,).
    """
    ratio = x.norm(dim=1) / noise.norm(dim=1).clamp(min=1e-12)
    return x + (10 ** (-snr_db / 20) * ratio)[:, None] * noise
