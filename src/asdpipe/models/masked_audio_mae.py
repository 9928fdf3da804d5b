"""AudioMAE's masked autoencoder (Huang et al., Masked autoencoders that listen, 2022), to pre-train the encoder."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from asdpipe.models.audio_mae import AudioMae, Frames
from asdpipe.models.base import FeatureExtractor, PositiveInt
from asdpipe.models.patches import PATCH, ROWS, Pooling
from asdpipe.models.vit import EPS, Blocks, Heads, Layers, Width, initialize, picked, sin_cos_positions


class MaskedAudioMae(FeatureExtractor):
    """The encoder and a Transformer decoder that predicts hidden patches from visible ones.

    The embedding is that of the encoder, ``AudioMae``, with its initial ``fc_norm``, which the pre-training does not
    use. Blocks of the decoder attend to all tokens (the paper's plain decoder, without local windows).

    Input: float (batch, samples) at 16 kHz. Output: float (batch, branches, width); with ``hidden``, see ``forward``.

    Args:
        num_samples, frames, layers, width, heads, pooling, checkpointing: of the encoder, see ``AudioMae``.
        decoder_layers, decoder_width, decoder_heads: published: 16, 512, 16.

    Raises:
        ValueError: clips are too long or too short, or the sizes do not fit together.
    """

    decoder_pos_embed: Tensor

    def __init__(
        self,
        num_samples: PositiveInt,
        frames: Frames,
        layers: Layers,
        width: Width,
        heads: Heads,
        pooling: Pooling,
        decoder_layers: Layers,
        decoder_width: Width,
        decoder_heads: Heads,
        *,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = AudioMae(
            num_samples, frames, layers, width, heads, layer=None, pooling=pooling, checkpointing=checkpointing
        )
        self.encoder.fc_norm.requires_grad_(False)
        self.num_samples, self.embedding_shape = num_samples, self.encoder.embedding_shape
        self.num_patches = self.encoder.num_patches
        self.norm = nn.LayerNorm(width, EPS)
        self.decoder_embed = nn.Linear(width, decoder_width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, decoder_width))
        positions = sin_cos_positions(frames // PATCH, ROWS, decoder_width)
        self.register_buffer("decoder_pos_embed", positions, persistent=False)
        self.decoder_blocks = Blocks(decoder_layers, decoder_width, decoder_heads, checkpointing=checkpointing)
        self.decoder_norm = nn.LayerNorm(decoder_width, EPS)
        self.decoder_pred = nn.Linear(decoder_width, PATCH * PATCH)
        for module in (self.decoder_embed, self.decoder_blocks, self.decoder_pred):
            initialize(module)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return embeddings, or prediction and target of hidden patches.

        Args:
            x: waveforms.
            hidden: bool (batch, num_patches), the same number of True in every row; on the CPU it needs no device sync.
                Patches are in the order of time, those of a time from low to high frequencies.

        Returns:
            Without ``hidden``, the encoder's embedding. With it, float32 (batch, 2, hidden patches, 256): the
            prediction and the target, in the order of the patches. The target is the normalised filter bank in the
            patch, (16 frames x 16 bands) flattened, with mean 0 and (unbiased) variance 1 within the patch.
        """
        if hidden is None:
            return self.encoder(x)
        spectrogram = self.encoder.spectrogram(x)
        number = int(hidden[0].sum())
        # Visible patches first, both kinds in ascending order.
        order = hidden.byte().argsort(dim=1, stable=True).to(x.device, non_blocking=True)
        visible, masked = order[:, :-number], order[:, -number:]
        encoded = self.norm(self.encoder.encode(rows(self.encoder.tokens(spectrogram), visible)))
        prediction = self.decode(encoded, order, masked)
        target = rows(normalized_patches(spectrogram), masked)
        return torch.stack([prediction.float(), target], dim=1)

    def decode(self, encoded: Tensor, order: Tensor, masked: Tensor) -> Tensor:
        """Return the predictions for hidden patches, float (batch, hidden, 256).

        Args:
            encoded: class token and visible patches, float (batch, 1 + visible, width).
            order: patches, the visible ones before the hidden ones, int64 (batch, patches).
            masked: the hidden ones, int64 (batch, hidden).
        """
        x = self.decoder_embed(encoded)
        masks = self.mask_token.expand(*masked.shape, -1)
        patches = rows(torch.cat([x[:, 1:], masks], dim=1), order.argsort(dim=1))
        x = self.decoder_blocks(torch.cat([x[:, :1], patches], dim=1) + self.decoder_pos_embed)
        return self.decoder_pred(self.decoder_norm(rows(x[:, 1:], masked)))

    def adopt(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Pick the tensors of a checkpoint; see ``AudioMae.adopt``.

        Of an official checkpoint, only the encoder is adopted, because its decoder is another one.

        Raises:
            UserError: the checkpoint lacks a tensor.
        """
        encoder = {f"encoder.{name}": value for name, value in self.encoder.adopt(tensors).items()}
        rest = tensors if "encoder.cls_token" in tensors else self.state_dict()
        return picked({name: rest[name] for name in rest if not name.startswith("encoder.")} | encoder, self, range(0))


def rows(tokens: Tensor, index: Tensor) -> Tensor:
    """Return tokens of every clip, (batch, chosen, width), of (batch, tokens, width) by their int64 (batch, chosen)."""
    return tokens.gather(1, index.unsqueeze(2).expand(-1, -1, tokens.shape[2]))


def normalized_patches(spectrogram: Tensor) -> Tensor:
    """Return the patches, float (batch, patches, 256), of (batch, frames, 128), each with mean 0 and variance 1."""
    grid = spectrogram.unflatten(2, (ROWS, PATCH)).unflatten(1, (-1, PATCH)).transpose(2, 3)
    patches = grid.flatten(3).flatten(1, 2)
    variance, mean = torch.var_mean(patches, dim=2, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()
