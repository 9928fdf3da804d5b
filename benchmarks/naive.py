"""The plain implementation that every ratio of ``make bench`` refers to: the training as published code does it.

Audio files are read in every epoch, the network runs layer by layer in PyTorch's default memory format and in float32,
once for each of mixed clips, plain clips, positives and negatives, and torchaudio's PitchShift is built anew in every
step. Its resampling kernel is a trainable parameter of that module, so the backward pass goes back through the network
to the negatives and computes a gradient for up to 1.9 GB that nobody uses. ``pitch="ours"`` replaces this pitch shift
by the project's and leaves everything else.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.transforms import PitchShift

from asdpipe.config.losses import Triplet
from asdpipe.config.method import Method
from asdpipe.config.networks import MultiResolution
from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.method.augment import noise_partners
from asdpipe.method.pitch import pitch_shift
from asdpipe.models.build import build_extractor
from asdpipe.models.multi_resolution import DFTBranch

Pitch = Literal["torchaudio", "ours"]


@dataclass(frozen=True)
class Files:
    """The training clips of a stage as audio files at 16 kHz; all arrays (clips,)."""

    paths: Sequence[Path]
    class_index: NDArray[np.int32]
    machine_index: NDArray[np.int32]
    is_target: NDArray[np.bool_]


class Draws(NamedTuple):
    """What is random about a batch after its clips are cut."""

    weight: Tensor
    """Of each clip in mixup, (batch,); 1 leaves the clip as it is."""
    mixup_partner: Tensor
    """int64 (batch,)."""
    noise_partner: Tensor
    """int64 (batch,); -1: none."""
    snr_db: Tensor
    """(clips with noise,)."""
    semitones: Tensor
    """int64 (clips with noise,)."""


class Step(NamedTuple):
    """What a step came to."""

    subspace_loss: float
    triplet_loss: float
    semitones: list[int]


def draw(machine: Tensor, method: Method, generator: torch.Generator) -> Draws:
    """Draw in the order in which the project's training does."""
    size = len(machine)
    weight = torch.rand(size, generator=generator)
    weight[torch.rand(size, generator=generator) >= method.loss.mixup_probability] = 1.0
    if method.loss.mixup_partner == "reversed":
        mixup_partner = torch.arange(size).flip(0)
    else:
        mixup_partner = torch.randperm(size, generator=generator)
    noise_partner = noise_partners(machine, method.triplet.noise_from, generator)
    count = int((noise_partner >= 0).sum())
    low, high = method.triplet.snr_db
    snr_db = low + (high - low) * torch.rand(count, generator=generator)
    semitones = method.triplet.build().draw_semitones(count, generator)
    return Draws(weight, mixup_partner, noise_partner, snr_db, semitones)


def excite(x: Tensor, gate: Any) -> Tensor:
    """Return x (batch, channels, ...) with its channels scaled by a SqueezeExcite."""
    weight = torch.sigmoid(gate.up(torch.relu(gate.down(x.mean(dim=tuple(range(2, x.dim())))))))
    return x * weight.reshape(*weight.shape, *[1] * (x.dim() - 2))


def residual(x: Tensor, block: Any) -> Tensor:
    """Return the output of a ResidualBlock, (batch, channels, time, frequency)."""
    _, first, norm, _, second, gate = block.branch
    x = block.norm(x)
    branch = second(torch.relu(norm(first(torch.relu(x)))))
    return block.skip(x) + excite(branch, gate)


def embed_spectrum(x: Tensor, branch: Any) -> Tensor:
    """Return the DFT branch's embedding, (batch, width), of waveforms (batch, samples)."""
    x = torch.fft.rfft(x).abs().unsqueeze(1)
    for layer in range(0, len(branch.convolutions), 3):
        convolution, _, gate = branch.convolutions[layer : layer + 3]
        x = excite(torch.relu(functional.conv1d(x, convolution.weight, stride=convolution.stride)), gate)
    x = x.flatten(1)
    for layer in range(0, len(branch.linears) - 1, 3):
        linear, norm, _ = branch.linears[layer : layer + 3]
        x = torch.relu(norm(linear(x)))
    return branch.linears[-1](x)


def embed_spectrogram(x: Tensor, branch: Any) -> Tensor:
    """Return an STFT branch's embedding, (batch, width), of waveforms (batch, samples)."""
    stft = torch.stft(x, branch.size, branch.size // 2, window=branch.window, return_complex=True)
    x = branch.frequency_norm(stft.abs()[:, branch.first_bin :]).transpose(1, 2).unsqueeze(1)
    convolution, norm, *_ = branch.stem
    x = functional.conv2d(x, convolution.weight, stride=convolution.stride)
    x = functional.max_pool2d(torch.relu(norm(x)), 3, 2)
    for block in branch.blocks:
        x = residual(x, block)
    return branch.head(x.amax(dim=2).flatten(1))


class PlainNetwork(nn.Module):
    """The project's layers, applied in the paper's order, out of place and in the default memory format."""

    def __init__(self, settings: MultiResolution, num_samples: int) -> None:
        super().__init__()
        self.layers = build_extractor(settings.model_dump(), num_samples=num_samples)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings (batch, branches, width) of waveforms (batch, samples)."""
        return torch.stack(
            [
                embed_spectrum(x, branch) if isinstance(branch, DFTBranch) else embed_spectrogram(x, branch)
                for branch in self.layers.branches
            ],
            dim=1,
        )


def new_centres(settings: MultiResolution, num_classes: int, subclusters: int) -> list[Tensor]:
    """Return the centres of the subspace loss: fixed ones for z_cat, a parameter for every branch."""
    branches = 1 + len(settings.windows)
    fixed, *learned = (
        nn.init.xavier_uniform_(torch.empty(dim, num_classes * subclusters))
        for dim in (branches * settings.width, *[settings.width] * branches)
    )
    return [fixed, *(nn.Parameter(each) for each in learned)]


def subspace_loss(z: Tensor, label: Tensor, centres: Sequence[Tensor]) -> Tensor:
    """Return L_ss (eq. 1) of embeddings (batch, branches, width) and soft labels (batch, classes)."""
    parts = [z.flatten(1), *z.unbind(1)]
    return torch.stack([adacos(part, label, each) for part, each in zip(parts, centres, strict=True)]).sum()


def adacos(z: Tensor, label: Tensor, centres: Tensor) -> Tensor:
    """Return the sub-cluster AdaCos loss with a fixed scale; centres (dim, classes * subclusters)."""
    scale = math.sqrt(2) * math.log(centres.shape[1] - 1)
    cosine = (z / z.norm(dim=1, keepdim=True)) @ (centres / centres.norm(dim=0, keepdim=True))
    p = torch.softmax(scale * cosine, dim=1).reshape(len(z), label.shape[1], -1).sum(dim=2)
    return -(label * torch.log(p)).sum(dim=1).mean()


def triplet_loss(anchor: Tensor, positive: Tensor, negative: Tensor, settings: Triplet) -> Tensor:
    """Return L_trp (eq. 10-11) of embeddings (batch, dim)."""
    similar, different = (
        (anchor * other).sum(dim=1) / (anchor.norm(dim=1) * other.norm(dim=1)) / settings.tau
        for other in (positive, negative)
    )
    margin = settings.gamma + (1 if settings.margin == "gamma_plus_one" else 0)
    hinge = torch.clamp(margin - similar + different, min=0)
    return hinge.mean() if settings.reduction == "mean" else hinge.sum()


def shift(x: Tensor, semitones: Tensor, pitch: Pitch) -> Tensor:
    """Shift the pitch of waveforms (batch, samples) by semitones, int (batch,)."""
    if pitch == "ours":
        return pitch_shift(x, semitones)
    shifted = torch.empty_like(x)
    for value in semitones.unique().tolist():
        rows = semitones == value
        shifted[rows] = PitchShift(SAMPLE_RATE, value)(x[rows])
    return shifted


def losses(
    network: nn.Module,
    centres: Sequence[Tensor],
    x: Tensor,
    class_index: Tensor,
    draws: Draws,
    method: Method,
    pitch: Pitch,
) -> tuple[Tensor, Tensor]:
    """Return L_ss and L_trp of waveforms (batch, samples); a batch without noise partners has no triplet."""
    num_classes = centres[0].shape[1] // method.loss.subclusters
    label = nn.functional.one_hot(class_index, num_classes).float()
    weight = draws.weight[:, None]
    mixed = weight * x + (1 - weight) * x[draws.mixup_partner]
    mixed_label = weight * label + (1 - weight) * label[draws.mixup_partner]
    subspace = subspace_loss(network(mixed), mixed_label, centres)
    kept = draws.noise_partner >= 0
    if not method.triplet.enabled or int(kept.sum()) < 2:
        return subspace, x.new_zeros(())
    anchor, noise = x[kept], x[draws.noise_partner[kept]]
    rms, noise_rms = (each.square().mean(dim=1).sqrt() for each in (anchor, noise))
    positive = anchor + (rms / noise_rms / 10 ** (draws.snr_db / 20))[:, None] * noise
    negative = shift(anchor, draws.semitones, pitch)
    z_anchor = network(anchor).flatten(1)
    z_positive = network(positive).flatten(1)
    z_negative = network(negative).flatten(1)
    return subspace, triplet_loss(z_anchor, z_positive, z_negative, method.triplet)


def read(path: Path, num_samples: int, generator: np.random.Generator) -> Tensor:
    """Read a clip, repeat it, and cut ``num_samples`` of it from a random place on."""
    clip, _ = soundfile.read(path, dtype="float32")
    places = len(clip) - num_samples + 1 if len(clip) > num_samples else len(clip)
    offset = generator.integers(places)
    return torch.from_numpy(np.tile(clip, 2 + num_samples // len(clip))[offset : offset + num_samples])


def train(clips: Files, num_classes: int, method: Method, num_samples: int, seed: int, pitch: Pitch) -> Iterator[Step]:
    """Train on the CPU without end; yield after every step."""
    torch.manual_seed(seed)
    generator, order = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    network = PlainNetwork(method.network, num_samples).train()
    centres = new_centres(method.network, num_classes, method.loss.subclusters)
    optimizer = torch.optim.AdamW(
        [*network.parameters(), *centres[1:]],
        lr=method.training.learning_rate,
        weight_decay=method.training.weight_decay,
    )
    source, target = np.flatnonzero(~clips.is_target), np.flatnonzero(clips.is_target)
    while True:
        shuffled = order.permutation(source)
        size = method.training.source_per_batch
        for start in range(0, len(shuffled), size):
            drawn = order.choice(target, method.training.target_per_batch)
            batch = order.permutation(np.concatenate([shuffled[start : start + size], drawn]))
            x = torch.stack([read(clips.paths[clip], num_samples, order) for clip in batch])
            class_index = torch.from_numpy(clips.class_index[batch]).long()
            draws = draw(torch.from_numpy(clips.machine_index[batch]), method, generator)
            subspace, triplet = losses(network, centres, x, class_index, draws, method, pitch)
            optimizer.zero_grad()
            (subspace + triplet).backward()
            optimizer.step()
            yield Step(subspace.item(), triplet.item(), sorted(set(draws.semitones.tolist())))
