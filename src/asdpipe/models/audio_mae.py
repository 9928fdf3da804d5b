"""The encoder of AudioMAE (Huang et al., Masked autoencoders that listen, 2022): a ViT-B/16 on log-mel spectrograms."""

from collections.abc import Callable, Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.models.base import FeatureExtractor, PositiveInt
from asdpipe.models.fbank import HOP, LENGTH, Fbank, num_frames
from asdpipe.models.patches import PATCH, ROWS, Pooling, embedding_shape, num_patches, pooled
from asdpipe.models.vit import (
    EPS,
    Blocks,
    Heads,
    LayerDecay,
    LayerDrop,
    Layers,
    PatchEmbed,
    Width,
    depth,
    fresh_norm,
    initialize,
    picked,
    sin_cos_positions,
)

# Of the filter bank of AudioSet.
MEAN, STD = -4.2677393, 4.5689974

Frames = Annotated[int, Field(ge=PATCH, le=4096, multiple_of=PATCH)]


class AudioMae(FeatureExtractor):
    """Embed clips as AudioMAE does when it is fine-tuned: mean of the patches' tokens, then a LayerNorm, ``fc_norm``.

    Clips lose their mean. Kaldi's filter bank with a Hann window is padded with zeros at the end, and normalised with
    mean and twice the standard deviation of AudioSet. Patches of 16 frames x 16 bands are tokens, in the order of time,
    with fixed positions; a class token is prepended, and left out of the mean. With pooling per band, ``fc_norm``
    normalises the mean token of every band.

    Input: float (batch, samples) at 16 kHz. Output: float (batch, branches, width), branches = 1 or 8 bands.

    Args:
        num_samples: length of the clips.
        frames: length in frames of 10 ms that the filter bank is padded to (published: 1024).
        layers, width, heads: number of blocks, size of tokens, attention heads (published: 12, 768, 12).
        layer: output after this many blocks; later ones are not built. None: after the last.
        pooling: see ``pooled``.
        layer_drop, layer_decay, checkpointing: see ``Blocks``.

    Raises:
        ValueError: clips are longer than ``frames`` or shorter than a patch, or the sizes do not fit together.
    """

    pos_embed: Tensor
    num_patches: int

    def __init__(
        self,
        num_samples: PositiveInt,
        frames: Frames,
        layers: Layers,
        width: Width,
        heads: Heads,
        layer: Layers | None,
        pooling: Pooling,
        *,
        layer_drop: LayerDrop = 0.0,
        layer_decay: LayerDecay = 1.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        _check_length(num_samples, frames)
        self.num_samples, self.frames, self.pooling = num_samples, frames, pooling
        self.embedding_shape = embedding_shape(pooling, width)
        self.num_patches = frames // PATCH * ROWS
        self.layers, self.layer = layers, depth(layers, layer)
        self.fbank = Fbank("hann")
        self.patch_embed = PatchEmbed(width)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        # Saved, because published checkpoints hold other positions than those of the paper, see adopt().
        self.register_buffer("pos_embed", sin_cos_positions(frames // PATCH, ROWS, width))
        self.blocks = Blocks(
            self.layer,
            width,
            heads,
            layer_drop=layer_drop,
            layer_decay=layer_decay,
            checkpointing=checkpointing,
        )
        self.fc_norm = nn.LayerNorm(width, EPS)
        initialize(self)

    def forward(self, x: Tensor, augment: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return the embeddings of waveforms.

        Args:
            x: waveforms.
            augment: maps the normalised filter bank, float (batch, frames, 128), to an augmented one.
        """
        spectrogram = self.spectrogram(x)
        if augment is not None:
            spectrogram = augment(spectrogram)
        tokens = self.encode(self.tokens(spectrogram))[:, 1:]
        return self.fc_norm(pooled(tokens, self.pooling))

    def spectrogram(self, x: Tensor) -> Tensor:
        """Return the normalised filter bank of waveforms, float32 (batch, frames, 128)."""
        fbank = self.fbank(x - x.mean(dim=1, keepdim=True))
        return (F.pad(fbank, (0, 0, 0, self.frames - fbank.shape[1])) - MEAN) / (2 * STD)

    def tokens(self, spectrogram: Tensor) -> Tensor:
        """Return the tokens of all patches, with their positions, float (batch, patches, width)."""
        return self.patch_embed(spectrogram).flatten(1, 2) + self.pos_embed[:, 1:]

    def encode(self, tokens: Tensor) -> Tensor:
        """Return class token and tokens, any of the patches', after the blocks: float (batch, 1 + tokens, width)."""
        cls_token = self.cls_token + self.pos_embed[:, :1]
        return self.blocks(torch.cat([cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1), self.rng)

    def adopt(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Pick the tensors of the encoder from a checkpoint, under the names of this module.

        The checkpoint is an official one, pre-trained or fine-tuned, or one of ``MaskedAudioMae``. Decoder and
        classifier are dropped. So is the ``norm`` of a pre-trained encoder, which only its decoder uses: ``fc_norm``
        starts afresh, with ones and zeros, unless the checkpoint is fine-tuned and all its layers are used.

        Positions are those of the checkpoint, the first ones if ``frames`` is shorter. The official pre-training
        numbers its grid by 8 rows of 64 columns, although tokens come in 64 rows of 8: positions from the definition
        would be wrong for these weights.

        Raises:
            UserError: the checkpoint lacks a tensor.
        """
        if "encoder.cls_token" in tensors:
            kept = {name.removeprefix("encoder."): tensors[name] for name in tensors if name.startswith("encoder.")}
        else:
            dropped = ("decoder_", "mask_token", "norm.", "head.")
            kept = {name: tensors[name] for name in tensors if not name.startswith(dropped)}
        if self.layer != self.layers or "fc_norm.weight" not in kept:
            kept |= fresh_norm("fc_norm", self.embedding_shape[1])
        if "pos_embed" in kept and kept["pos_embed"].dim() == 3:
            kept["pos_embed"] = kept["pos_embed"][:, : 1 + self.num_patches]
        return picked(kept, self, range(self.layer, self.layers))


def _check_length(num_samples: int, frames: int) -> None:
    num_patches(num_samples)
    if num_frames(num_samples) > frames:
        longest = (LENGTH + (frames - 1) * HOP) / SAMPLE_RATE
        message = (
            f"clips of {num_samples / SAMPLE_RATE:g} s are longer than the {frames} frames of AudioMAE, {longest:g} s: "
            "lower clip_seconds or raise network.frames"
        )
        raise ValueError(message)
