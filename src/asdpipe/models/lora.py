"""Low-rank adapters (Hu et al., LoRA: low-rank adaptation of large language models, ICLR 2022)."""

import math
from collections.abc import Collection
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F


class Lora(BaseModel):
    """Size of the adapters, and the factor ``alpha / rank`` of what they add."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: Annotated[int, Field(ge=1, le=1024)]
    alpha: Annotated[float, Field(gt=0)]


class LoraLinear(nn.Module):
    """A linear layer plus a trained product of two small matrices, which is zero at first.

    Input: float (..., in_features). Output: float (..., out_features).
    """

    def __init__(self, base: nn.Linear, lora: Lora) -> None:
        super().__init__()
        self.base = base
        self.scale = lora.alpha / lora.rank
        self.lora_a = nn.Parameter(torch.empty(lora.rank, base.in_features))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, lora.rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * F.linear(F.linear(x, self.lora_a), self.lora_b)


def add_lora(network: nn.Module, names: Collection[str], lora: Lora) -> None:
    """Freeze a network, in place, and add trained adapters to all its linear layers of these names."""
    network.requires_grad_(False)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if name in names and isinstance(child, nn.Linear):
                setattr(module, name, LoraLinear(child, lora))


def adapters(network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of the adapters, by their names in the state dict."""
    return {name: value for name, value in network.state_dict().items() if name.endswith((".lora_a", ".lora_b"))}


def base_names(network: nn.Module) -> dict[str, str]:
    """Return the names of the frozen tensors of linear layers with adapters, by their names without adapters."""
    wrapped = [name for name, module in network.named_modules() if isinstance(module, LoraLinear)]
    return {f"{name}.{leaf}": f"{name}.base.{leaf}" for name in wrapped for leaf in ("weight", "bias")}
