"""CED-tiny (Dinkel et al., CED: Consistent ensemble distillation for audio tagging, 2023): a small ViT for CPUs.

Written from the published description and code of the checkpoint mispeech/ced-tiny (Apache-2.0). The checkpoint itself
was not available: names and sizes of its tensors follow that code, and are not verified against the file.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.models.base import FeatureExtractor, PositiveInt
from asdpipe.models.patches import PATCH, Pooling
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
)

MELS = 64
WINDOW = 512
HOP = 160
FRAMES = 1012
ROWS, COLUMNS = MELS // PATCH, FRAMES // PATCH


class Ced(FeatureExtractor):
    """Embed clips as the mean token, after the last LayerNorm.

    The log-mel spectrogram in dB (64 bands, window 512, hop 160, at most 120 dB below the maximum of the clip) is
    normalised per band, with the statistics of the checkpoint also in training. Patches of 16 bands x 16 frames are
    tokens, in the order of frequency, with learned positions of band and time; an incomplete last patch is left out.

    Input: float (batch, samples) at 16 kHz. Output: float (batch, branches, width), branches = 1 or 4 bands.

    Args:
        num_samples: length of the clips.
        layers, width, heads: number of blocks, size of tokens, attention heads (CED-tiny: 12, 192, 3).
        layer: output after this many blocks; later ones are not built. None: after the last.
        pooling: mean over all tokens, or over time per band.
        layer_drop, layer_decay, checkpointing: see ``Blocks``.

    Raises:
        ValueError: clips are longer than the positions or shorter than a patch, or the sizes do not fit together.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        num_samples: PositiveInt,
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
        if not PATCH <= num_samples // HOP + 1 <= FRAMES:
            shortest, longest = ((count - 1) * HOP / SAMPLE_RATE for count in (PATCH, FRAMES))
            seconds = num_samples / SAMPLE_RATE
            message = f"CED takes clips of {shortest:g} to {longest:g} s, not of {seconds:g} s: change clip_seconds"
            raise ValueError(message)
        self.num_samples, self.pooling = num_samples, pooling
        self.embedding_shape = (1 if pooling == "mean" else ROWS, width)
        self.layers, self.layer = layers, depth(layers, layer)
        # On the CPU even under the meta device, because torchaudio checks the values.
        with torch.device("cpu"):
            filters = melscale_fbanks(WINDOW // 2 + 1, 0, SAMPLE_RATE / 2, MELS, SAMPLE_RATE)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("filters", filters, persistent=False)
        self.init_bn = nn.BatchNorm1d(MELS)
        self.patch_embed = PatchEmbed(width)
        self.time_pos_embed = nn.Parameter(0.02 * torch.randn(1, width, 1, COLUMNS))
        self.freq_pos_embed = nn.Parameter(0.02 * torch.randn(1, width, ROWS, 1))
        self.blocks = Blocks(
            self.layer,
            width,
            heads,
            layer_drop=layer_drop,
            layer_decay=layer_decay,
            checkpointing=checkpointing,
        )
        self.norm = nn.LayerNorm(width, EPS)
        initialize(self)
        self.train()

    def forward(self, x: Tensor, augment: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return the embeddings of waveforms.

        Args:
            x: waveforms.
            augment: maps the normalised spectrogram, float (batch, frames, 64), to an augmented one.
        """
        spectrogram = self.spectrogram(x)
        if augment is not None:
            spectrogram = augment(spectrogram)
        patches = self.patch_embed(spectrogram.transpose(1, 2))
        positions = self.freq_pos_embed + self.time_pos_embed[..., : patches.shape[2]]
        tokens = self.norm(self.blocks((patches + positions.permute(0, 2, 3, 1)).flatten(1, 2), self.rng))
        return tokens.unflatten(1, (self.embedding_shape[0], -1)).mean(dim=2)

    def spectrogram(self, x: Tensor) -> Tensor:
        """Return the normalised log-mel spectrogram of waveforms, float32 (batch, frames, 64)."""
        with torch.autocast(x.device.type, enabled=False):
            stft = torch.stft(x.float(), WINDOW, HOP, window=self.window, return_complex=True)
            power = stft.real.square() + stft.imag.square()
            decibel = 10 * (power.transpose(1, 2) @ self.filters).clamp(min=1e-10).log10()
            decibel = decibel.maximum(decibel.amax(dim=(1, 2), keepdim=True) - 120)
            return self.init_bn(decibel.transpose(1, 2)).transpose(1, 2)

    def train(self, mode: bool = True) -> "Ced":
        """Set the training mode of all but the normalisation of bands, which would depend on the batch."""
        super().train(mode)
        self.init_bn.eval()
        return self

    def adopt(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Pick the tensors of the encoder from a checkpoint, under the names of this module.

        The checkpoint has the layout of Hugging Face, below ``encoder.``, or that of the authors, in which ``init_bn``
        is ``init_bn.1``. The classifier is dropped. ``norm`` starts afresh, with ones and zeros, where not all layers
        are used.

        Raises:
            UserError: the checkpoint lacks a tensor.
        """
        kept = {"init_bn.num_batches_tracked": torch.zeros((), dtype=torch.int64)}
        for name, value in tensors.items():
            if not name.startswith(("outputlayer.", "front_end.")):
                kept[name.removeprefix("encoder.").replace("init_bn.1.", "init_bn.")] = value
        if self.layer != self.layers:
            kept |= fresh_norm("norm", self.embedding_shape[1])
        return picked(kept, self, range(self.layer, self.layers))
