"""Augmentation of waveforms and embeddings in training.

Waveforms: tiling (paper §5.1), mixup (§3.2), background noise for positives (eq. 8). Embeddings: exchange of branches
(FeatEx, the paper's reference [60]).
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor


def tile(clip: NDArray[np.int16], num_samples: int, offset: int = 0) -> NDArray[np.int16]:
    """Repeat the clip as often as needed and return ``num_samples`` of it from ``offset`` on.

    Raises:
        ValueError: the clip is empty.
    """
    if len(clip) == 0:
        message = "an empty clip cannot be tiled"
        raise ValueError(message)
    if offset + num_samples <= len(clip):
        return clip[offset : offset + num_samples]
    repeats = -(-(offset + num_samples) // len(clip))
    return np.tile(clip, repeats)[offset : offset + num_samples]


def random_offset(length: int, num_samples: int, generator: np.random.Generator) -> int:
    """Draw the first sample of a training crop: anywhere in a clip that is repeated, else anywhere the crop fits."""
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
        partner: the batch in reversed order, or a random permutation.
        generator: CPU generator, so that draws do not depend on the device of ``x``.
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
    """Replace, with the given probability, all but the first branch of a clip by branches of other clips (FeatEx).

    The second branch comes from the batch in reversed order, as in Wilkinghoff's released code, which has two
    branches. Each further branch comes from its own random permutation. Labels are extended by one block of classes per
    branch. An unchanged clip has the label (y, 0, ..., 0). An exchanged clip has (0, y_1 / K, ..., y_K / K), where y_k
    is the label of the clip that branch k comes from.

    Args:
        embedding: (batch, K, width), K >= 2 branches.
        label: (batch, classes), possibly mixed.
        generator: CPU generator, so that draws do not depend on the device of ``embedding``.

    Returns:
        Embeddings (batch, K, width) and labels (batch, (K + 1) * classes).
    """
    size, branches = embedding.shape[:2]
    chosen = torch.rand(size, generator=generator) < probability
    exchanged = chosen.to(embedding.device, non_blocking=True)[:, None]
    own = torch.arange(size)
    others = [torch.randperm(size, generator=generator) for _ in range(branches - 2)]
    givers = torch.stack([own, own.flip(0), *others]).to(embedding.device, non_blocking=True)
    given = torch.stack([embedding[giver, branch] for branch, giver in enumerate(givers)], dim=1)
    none = torch.zeros_like(label)
    kept_label = torch.cat([label, *[none] * branches], dim=1)
    given_label = torch.cat([none, *(label[giver] / branches for giver in givers)], dim=1)
    return torch.where(exchanged[..., None], given, embedding), torch.where(exchanged, given_label, kept_label)


def noise_partners(
    machine: Tensor, noise_from: Literal["other_machine", "same_machine"], generator: Generator | None = None
) -> Tensor:
    """Draw another clip of the batch as background noise for every clip, uniformly among the allowed clips.

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
    some = weights.any(dim=1)
    if some.any():
        partner[some] = torch.multinomial(weights[some], 1, generator=generator).squeeze(1)
    return partner


def add_noise(x: Tensor, noise: Tensor, snr_db: Tensor) -> Tensor:
    """Add noise at a signal-to-noise ratio: x + 10^(-snr/20) |x|/|noise| noise (eq. 8). Silent noise adds nothing.

    Args:
        x, noise: waveforms (batch, samples).
        snr_db: signal-to-noise ratio of each clip in dB, (batch,).
    """
    ratio = x.norm(dim=1) / noise.norm(dim=1).clamp(min=1e-12)
    return x + (10 ** (-snr_db / 20) * ratio)[:, None] * noise
