"""The parts of a vision transformer that AudioMAE and CED share, with the tensor names of timm and their checkpoints.

Dosovitskiy et al., An image is worth 16x16 words (2021). Blocks normalise before attention and MLP (pre-norm).
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from asdpipe.errors import UserError
from asdpipe.models.patches import PATCH

EPS = 1e-6

# Bounds, because untrusted settings could describe a huge network.
Layers = Annotated[int, Field(ge=1, le=64)]
Heads = Annotated[int, Field(ge=1, le=64)]
Width = Annotated[int, Field(ge=4, le=4096, multiple_of=4)]
LayerDrop = Annotated[float, Field(ge=0, lt=1)]
LayerDecay = Annotated[float, Field(gt=0, le=1)]


class Attention(nn.Module):
    """Multi-head self-attention; queries, keys and values come from one linear layer.

    Input and output: float (batch, tokens, width).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers, four times as wide between them, with GELU.

    Input and output: float (batch, tokens, width).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Add attention over the normalised tokens, then the MLP of the normalised sum.

    Input and output: float (batch, tokens, width).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, EPS)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Blocks(nn.ModuleList):
    """Blocks one after the other.

    Input and output: float (batch, tokens, width).

    Args:
        layers, width, heads: number of blocks, size of the tokens, attention heads.
        layer_drop: probability that a training step skips a block.
        layer_decay: factor of the gradient from each block to the one below.
        checkpointing: in training, compute the activations of a block again in the backward pass, to save memory.

    Raises:
        ValueError: the heads do not divide the width.
    """

    def __init__(
        self,
        layers: int,
        width: int,
        heads: int,
        *,
        layer_drop: float = 0.0,
        layer_decay: float = 1.0,
        checkpointing: bool = False,
    ) -> None:
        if width % heads:
            raise ValueError(f"a width of {width} cannot be divided among {heads} heads")
        super().__init__(Block(width, heads) for _ in range(layers))
        self.layer_drop, self.layer_decay, self.checkpointing = layer_drop, layer_decay, checkpointing

    def forward(self, x: Tensor, rng: Generator | None = None) -> Tensor:
        """Return the tokens after the last block.

        Args:
            x: tokens.
            rng: CPU generator for the skipped blocks; None: PyTorch's own.
        """
        for block in self:
            if self.layer_decay != 1 and x.requires_grad:
                x.register_hook(lambda gradient: gradient * self.layer_decay)
            if self.training and self.layer_drop and torch.rand((), generator=rng, device="cpu") < self.layer_drop:
                continue
            if self.training and self.checkpointing:
                x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(x)
        return x


class PatchEmbed(nn.Module):
    """Linear map of every 16x16 patch to a token.

    Input: float (batch, rows, columns), whose incomplete last patches are left out. Output: float
    (batch, rows // 16, columns // 16, width).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, PATCH, PATCH)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x.unsqueeze(1)).permute(0, 2, 3, 1)


def depth(layers: int, layer: int | None) -> int:
    """Return how many blocks to build for the output after ``layer`` of them; None: all.

    Raises:
        ValueError: there are fewer.
    """
    if layer is not None and layer > layers:
        raise ValueError(f"there is no output after layer {layer} of a network of {layers} layers")
    return layers if layer is None else layer


def sin_cos_positions(rows: int, columns: int, width: int) -> Tensor:
    """Return the fixed position of the class token, zeros, and those of a grid of tokens in the order of rows.

    As in MAE (He et al., Masked autoencoders are scalable vision learners, 2022): the first half encodes the column,
    the second the row; each half holds the sines, then the cosines, at geometric frequencies from 1 down to 1/10000.
    The rows of a shorter grid are the first ones of a longer grid.

    Args:
        rows, columns: size of the grid.
        width: size of a position, a multiple of 4.

    Returns:
        float32 (1, 1 + rows * columns, width).
    """
    frequency = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    halves = [torch.arange(size)[:, None] * frequency for size in (columns, rows)]
    of_column, of_row = (torch.cat([phase.sin(), phase.cos()], dim=1) for phase in halves)
    grid = torch.cat([of_column.repeat(rows, 1), of_row.repeat_interleave(columns, dim=0)], dim=1)
    return F.pad(grid, (0, 0, 1, 0)).float().unsqueeze(0)


def initialize(module: nn.Module) -> None:
    """Initialise linear maps as MAE does: Xavier-uniform weights, also for patches, and no bias."""
    for each in module.modules():
        if isinstance(each, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(each.weight.flatten(1))
            assert each.bias is not None
            nn.init.zeros_(each.bias)


def fresh_norm(name: str, width: int) -> dict[str, Tensor]:
    """Return the tensors of a LayerNorm that does not scale or shift."""
    return {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}


def picked(tensors: Mapping[str, Tensor], extractor: nn.Module, blocks: range) -> dict[str, Tensor]:
    """Return tensors of a checkpoint without those of some blocks, which are not built.

    Args:
        tensors: by the names of the extractor. Unknown ones stay, so that they are refused where tensors are checked.
        extractor: what is to adopt them.
        blocks: numbers of the blocks.

    Raises:
        UserError: a tensor of the extractor is missing.
    """
    if missing := [name for name in extractor.state_dict() if name not in tensors]:
        network = type(extractor).__name__
        message = (
            f"lacks {missing[0]!r}, among {len(missing)} tensors of {network}: choose a checkpoint of this network"
        )
        raise UserError(message)
    unused = tuple(f"blocks.{number}." for number in blocks)
    return {name: value for name, value in tensors.items() if not name.startswith(unused)}
