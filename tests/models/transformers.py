"""PyTorch's own Transformer layers with the weights of a ViT, as an independent computation."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def block_tensors(width: int, rng: torch.Generator) -> dict[str, Tensor]:
    """Return random weights of a pre-norm block under timm's names."""

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng) * (0.5 if len(shape) == 1 else shape[1] ** -0.5)

    tensors = {f"norm{i}.weight": 1 + 0.2 * random(width) for i in (1, 2)}
    tensors |= {f"norm{i}.bias": random(width) for i in (1, 2)}
    for name, shape in {
        "attn.qkv": (3 * width, width),
        "attn.proj": (width, width),
        "mlp.fc1": (4 * width, width),
        "mlp.fc2": (width, 4 * width),
    }.items():
        tensors |= {f"{name}.weight": random(*shape), f"{name}.bias": random(shape[0])}
    return tensors


def torch_layer(tensors: Mapping[str, Tensor], heads: int) -> nn.Module:
    """Return PyTorch's layer with the weights of a block."""
    width = len(tensors["norm1.weight"])
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    layer.load_state_dict(
        {
            "self_attn.in_proj_weight": tensors["attn.qkv.weight"],
            "self_attn.in_proj_bias": tensors["attn.qkv.bias"],
            **{f"self_attn.out_proj.{part}": tensors[f"attn.proj.{part}"] for part in ("weight", "bias")},
            **{f"linear{i}.{part}": tensors[f"mlp.fc{i}.{part}"] for i in (1, 2) for part in ("weight", "bias")},
            **{f"norm{i}.{part}": tensors[f"norm{i}.{part}"] for i in (1, 2) for part in ("weight", "bias")},
        }
    )
    return layer


def transform(x: Tensor, tensors: Mapping[str, Tensor], layers: int, heads: int, prefix: str = "blocks.") -> Tensor:
    """Return tokens (batch, tokens, width) after the first layers of ``PREFIX0.…``, ``PREFIX1.…``."""
    for number in range(layers):
        start = f"{prefix}{number}."
        block = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
        x = torch_layer(block, heads)(x)
    return x
