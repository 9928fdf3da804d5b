"""BEATs, a Transformer on patches of the log-mel spectrogram.

Chen et al., BEATs: audio pre-training with acoustic tokenizers, ICML 2023. Modules have the names of the official
checkpoints, without dropout, which their settings set to zero.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from asdpipe.models.base import FeatureExtractor, PositiveInt
from asdpipe.models.fbank import Fbank
from asdpipe.models.lora import Lora, adapters, add_lora, base_names
from asdpipe.models.patches import PATCH, Pooling, embedding_shape, num_patches, pooled

# Of the filter bank of AudioSet, for waveforms in 16-bit units.
FBANK_MEAN, FBANK_STD = 15.41663, 6.55582
CONVOLUTION, GROUPS = 128, 16
BUCKETS, MAX_DISTANCE = 320, 800
# Bounds, because untrusted settings could describe a huge network.
Count = Annotated[int, Field(ge=1, le=64)]
Size = Annotated[int, Field(ge=1, le=16384)]
SHARED = "self_attn.relative_attention_bias.weight"


class PositionalConvolution(nn.Module):
    """Grouped convolution over 128 tokens; at each of the 128 taps the norm of the weight is a parameter.

    Input and output: float (batch, width, tokens).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        weight = torch.randn(width, width // GROUPS, CONVOLUTION) * math.sqrt(4 / (CONVOLUTION * width))
        self.weight_v = nn.Parameter(weight)
        self.weight_g = nn.Parameter(torch.linalg.vector_norm(weight, dim=(0, 1), keepdim=True))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(self.weight_v, dim=(0, 1), keepdim=True)
        weight = self.weight_v * (self.weight_g / norm)
        return F.conv1d(x, weight, self.bias, padding=CONVOLUTION // 2, groups=GROUPS)[..., :-1]


class Attention(nn.Module):
    """Self-attention with a relative position bias that each query scales by a gate (Chi et al., XLM-E, ACL 2022).

    Input and output: float (batch, tokens, width). The bias is float (heads, tokens, tokens).

    Args:
        has_bias: whether this layer holds the table of biases, float (320, heads), which all layers share.
    """

    def __init__(self, width: int, heads: int, has_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))
        self.grep_linear = nn.Linear(width // heads, 8)
        self.grep_a = nn.Parameter(torch.ones(1, heads, 1, 1))
        if has_bias:
            self.relative_attention_bias = nn.Embedding(BUCKETS, heads)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        projections = (self.q_proj, self.k_proj, self.v_proj)
        query, key, value = (of(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for of in projections)
        update, reset = self.grep_linear(query).unflatten(3, (2, 4)).sum(dim=4).sigmoid().split(1, dim=3)
        gate = update * (reset * self.grep_a - 1) + 2
        # The official code subtracts the maximum before it adds the bias, against overflow in float16: a shift of the
        # softmax, so that both are equal.
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=gate * bias)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and two linear layers, each normalised after its weighted residual connection (DeepNorm).

    Input and output: float (batch, tokens, width).

    Args:
        depth: number of blocks of the whole network, which determines weights and initial values (Wang et al., DeepNet:
            scaling Transformers to 1,000 layers, 2022).
    """

    def __init__(self, width: int, ffn: int, heads: int, depth: int, has_bias: bool) -> None:
        super().__init__()
        self.residual = (2 * depth) ** 0.25
        self.self_attn = Attention(width, heads, has_bias)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, ffn), nn.Linear(ffn, width)
        self.final_layer_norm = nn.LayerNorm(width)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        attention = self.self_attn
        for linear in (attention.q_proj, attention.k_proj):
            nn.init.xavier_normal_(linear.weight)
        for linear in (attention.v_proj, attention.out_proj, self.fc1, self.fc2):
            nn.init.xavier_normal_(linear.weight, gain=(8 * depth) ** -0.25)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.self_attn_layer_norm(self.residual * x + self.self_attn(x, bias))
        return self.final_layer_norm(self.residual * x + self.fc2(F.gelu(self.fc1(x))))


def buckets(offsets: Tensor) -> Tensor:
    """Return the bucket of each offset from query to key in tokens, int64.

    Half of the buckets are for keys after the query. One each is for distances below 80, the others grow
    logarithmically up to a distance of 800.
    """
    half, exact = BUCKETS // 2, BUCKETS // 4
    distances = offsets.abs()
    share = torch.log(distances.clamp(min=1).float() / exact) / math.log(MAX_DISTANCE / exact)
    far = (exact + (share * (half - exact)).long()).clamp(max=half - 1)
    return (offsets > 0) * half + torch.where(distances < exact, distances, far)


class Encoder(nn.Module):
    """Positional convolution and Transformer blocks.

    Input and output: float (batch, tokens, width).

    Args:
        tokens: number of tokens of a clip.
    """

    buckets: Tensor

    def __init__(self, tokens: int, width: int, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.pos_conv = nn.Sequential(PositionalConvolution(width), nn.GELU())
        self.layer_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(blocks)
        self.register_buffer("buckets", buckets(torch.arange(1 - tokens, tokens)), persistent=False)

    def forward(self, x: Tensor, kept: Sequence[bool], layer_decay: float, checkpointing: bool) -> Tensor:
        """Return the tokens after the kept blocks; for the other arguments see ``Beats``."""
        x = self.layer_norm(x + self.pos_conv(x.transpose(1, 2)).transpose(1, 2))
        by_offset = self.get_parameter(f"layers.0.{SHARED}")[self.buckets].T
        bias = by_offset.unfold(1, x.shape[1], 1).flip(1)
        for block, keep in zip(self.layers, kept, strict=True):
            if layer_decay != 1 and x.requires_grad:
                x.register_hook(lambda gradient: gradient * layer_decay)
            if keep and checkpointing:
                x = checkpoint(block, x, bias, use_reentrant=False, preserve_rng_state=False)
            elif keep:
                x = block(x, bias)
        return x


class Beats(FeatureExtractor):
    """BEATs as an extractor: the mean of the tokens after a block.

    Input: float (batch, num_samples) in [-1, 1) at 16 kHz. Frames after the last whole patch are ignored.
    Output: float (batch, 1, width), or (batch, 8, width), one embedding per frequency band of patches.

    Args:
        layers: number of blocks of the published network.
        ffn: width of the hidden layer within a block.
        patch_width: size of the embedding of a patch.
        layer: number of blocks before the output, None: all. Later blocks do not exist.
        pooling: mean over all tokens, or over time per frequency band.
        lora: adapters of queries and values, trained instead of the network; None: the network is trained.
        layer_drop: probability to skip a block in training, drawn from ``rng``.
        layer_decay: factor of the gradient from each block to the one below: block i of n has layer_decay^(n - i).
        checkpointing: whether activations within blocks are computed again for the gradient, to save memory.

    Raises:
        ValueError: clips are shorter than one patch, or sizes do not fit each other.
    """

    def __init__(
        self,
        num_samples: PositiveInt,
        layers: Count = 12,
        width: Annotated[int, Field(ge=GROUPS, le=4096, multiple_of=GROUPS)] = 768,
        ffn: Size = 3072,
        heads: Count = 12,
        patch_width: Size = 512,
        layer: Count | None = None,
        pooling: Pooling = "mean",
        lora: Lora | None = None,
        *,
        layer_drop: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        depth = layers if layer is None else layer
        if depth > layers:
            message = f"layer {depth} does not exist: the network has {layers}"
            raise ValueError(message)
        if width % heads:
            message = f"width {width} is not a multiple of {heads} heads"
            raise ValueError(message)
        self.num_samples, self.layers = num_samples, layers
        self.num_patches = num_patches(num_samples)
        self.embedding_shape = embedding_shape(pooling, width)
        self.pooling, self.layer_drop, self.layer_decay = pooling, layer_drop, layer_decay
        self.checkpointing = checkpointing
        self.fbank = Fbank()
        self.patch_embedding = nn.Conv2d(1, patch_width, PATCH, PATCH, bias=False)
        self.layer_norm = nn.LayerNorm(patch_width)
        self.post_extract_proj = nn.Linear(patch_width, width)
        blocks = [Block(width, ffn, heads, layers, has_bias=index == 0) for index in range(depth)]
        self.encoder = Encoder(self.num_patches, width, blocks)
        self.lora = lora
        if lora is not None:
            add_lora(self, ("q_proj", "v_proj"), lora)

    def features(self, x: Tensor) -> Tensor:
        """Return the normalised filter bank of clips, float (batch, frames, 128)."""
        return (self.fbank(x * 2**15) - FBANK_MEAN) / (2 * FBANK_STD)

    def tokens(self, x: Tensor, augment: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return the tokens of clips after the last block, float (batch, patches, width)."""
        features = self.features(x) if augment is None else augment(self.features(x))
        patches = self.patch_embedding(features.unsqueeze(1)).flatten(2).transpose(1, 2)
        tokens = self.post_extract_proj(self.layer_norm(patches))
        return self.encoder(tokens, self.kept_blocks(), self.layer_decay, self.checkpointing)

    def forward(self, x: Tensor, augment: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return the embeddings of waveforms; ``augment`` maps their features to those that are embedded."""
        return pooled(self.tokens(x, augment), self.pooling)

    def kept_blocks(self) -> list[bool]:
        """Return which blocks are computed: all, but for layer drop in training."""
        blocks = len(self.encoder.layers)
        if not self.training or self.layer_drop == 0:
            return [True] * blocks
        # On the CPU, so that results do not depend on the device.
        return (torch.rand(blocks, generator=self.rng, device="cpu") >= self.layer_drop).tolist()

    def saved_state(self) -> dict[str, Tensor]:
        """Return the tensors that training changes."""
        return super().saved_state() if self.lora is None else adapters(self)

    def adopt(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of an official or own checkpoint by their names here.

        The classifier, blocks after ``layer`` and the official copies of the shared position bias are left out. Other
        unknown tensors stay, to be refused later: a copy that differs, blocks of a checkpoint with more ``layers``.
        """
        first = f"encoder.layers.0.{SHARED}"
        renamed = base_names(self)
        adopted = {}
        for name, tensor in tensors.items():
            block = re.match(r"encoder\.layers\.(\d{1,4})\.", name)
            is_later = block is not None and int(block[1]) in range(len(self.encoder.layers), self.layers)
            is_copy = name.endswith(SHARED) and name != first and _are_equal(tensor, tensors.get(first))
            if name.startswith("predictor.") or is_later or is_copy:
                continue
            adopted[renamed.get(name, name)] = tensor
        return adopted


def _are_equal(tensor: Tensor, other: Tensor | None) -> bool:
    return other is not None and tensor.dtype == other.dtype and tensor.equal(other)
