"""The layouts of official checkpoints: what they call their tensors, and which network they describe.

BEATs: ``{"cfg": sizes, "model": tensors}``; AudioMAE: ``{"model": tensors}``; CED: tensors alone. Each of them may be a
file by ``torch.save`` or in safetensors.
"""

import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from asdpipe.errors import UserError, short
from asdpipe.models.base import FeatureExtractor
from asdpipe.models.build import described_extractor
from asdpipe.models.patches import PATCH, ROWS
from asdpipe.models.tensors import check_tensors, read_tensors
from asdpipe.models.torch_files import check_claims, read_torch_file

# A clip length that every network takes; no tensor depends on it.
NUM_SAMPLES = 3200


class Official(NamedTuple):
    """The content of an official checkpoint."""

    network: dict[str, Any]
    """Kind and arguments of the extractor."""
    extractor: FeatureExtractor
    """On the meta device."""
    tensors: dict[str, Tensor]
    """The tensors of the extractor, float32, by its names; without a classifier."""
    classifier: str | None
    """Name of a tensor of the classifier, if the checkpoint is fine-tuned; else None."""


class Layout(NamedTuple):
    """What distinguishes the checkpoints of a network."""

    network: Callable[[Mapping[str, Tensor], Mapping[str, Any]], dict[str, Any]]
    """Kind and arguments of the extractor, of tensors and ``cfg``."""
    classifier: tuple[str, ...]
    """Prefixes of tensors that only fine-tuned checkpoints have."""


def read_official(file: Path, layout: str) -> Official:
    """Return the content of an official checkpoint, checked.

    Nothing in the file is run or trusted: names, shapes and dtypes of the tensors must be those of the network that
    the file describes, and the numbers finite. Half precision becomes float32.

    Args:
        layout: key of LAYOUTS.

    Raises:
        UserError: the file is damaged, or a checkpoint of another network.
    """
    tensors, cfg = _content(file)
    check_claims(file, tensors)
    remedy = f"it is no checkpoint in the layout of {layout}, or damaged: give another file or layout"
    try:
        network = LAYOUTS[layout].network(tensors, cfg)
        extractor = described_extractor(network, num_samples=NUM_SAMPLES)
        adopted = extractor.adopt(tensors)
    except UserError as error:
        raise UserError(f"{file}: {short(str(error), 300)}; {remedy}") from None
    numbers = {
        name: tensor.detach().float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.detach()
        for name, tensor in adopted.items()
    }
    check_tensors(file, numbers, extractor.state_dict(), remedy)
    classifier = sorted(name for name in tensors if name.startswith(LAYOUTS[layout].classifier))
    return Official(network, extractor, numbers, next(iter(classifier), None))


def _content(file: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Return the tensors of a file, and its settings; {} if there are none."""
    if not zipfile.is_zipfile(file):
        return read_tensors(file, "nor one by torch.save: give the file as published, whole")[0], {}
    content = read_torch_file(file)
    cfg = content.get("cfg") if isinstance(content, Mapping) else None
    tensors = content.get("model", content) if isinstance(content, Mapping) else None
    if not isinstance(tensors, Mapping) or not tensors:
        raise UserError(f"{file}: has no tensors under 'model'; give the file as published")
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise UserError(f"{file}: {short(str(name))!r} is no tensor; give the file as published")
    return dict(tensors), cfg if isinstance(cfg, Mapping) else {}


def _size(tensors: Mapping[str, Tensor], name: str, dim: int, published: int) -> int:
    """Return a size of a tensor; the published one if there is no such tensor."""
    shape = tensors[name].shape if name in tensors else ()
    return shape[dim] if dim < len(shape) else published


def _blocks(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Return the number of blocks, whose tensors have names with this prefix; if there are none, the published 12."""
    found = (re.match(rf"{prefix}(\d{{1,4}})\.", name) for name in tensors)
    return len({match[1] for match in found if match}) or 12


# Sizes of BEATs in "cfg", and their published values.
BEATS_SIZES = {
    "layers": ("encoder_layers", 12),
    "width": ("encoder_embed_dim", 768),
    "ffn": ("encoder_ffn_embed_dim", 3072),
    "heads": ("encoder_attention_heads", 12),
    "patch_width": ("embed_dim", 512),
}
# What else "cfg" says of the network is the same in all published checkpoints.
BEATS_FIXED = {
    "input_patch_size": PATCH,
    "conv_bias": False,
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "deep_norm": True,
    "conv_pos": 128,
    "conv_pos_groups": 16,
    "relative_position_embedding": True,
    "num_buckets": 320,
    "max_distance": 800,
    "gru_rel_pos": True,
}


def _beats(tensors: Mapping[str, Tensor], cfg: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in BEATS_FIXED.items():
        if key in cfg and cfg[key] != value:
            found = short(str(cfg[key]))
            raise UserError(f"cfg.{key} is {found}, but {value} in all published checkpoints")
    sizes = {name: cfg.get(key, published) for name, (key, published) in BEATS_SIZES.items()}
    return {"kind": "beats", **sizes, "layer": None, "pooling": "mean", "lora": None}


def _audio_mae(tensors: Mapping[str, Tensor], cfg: Mapping[str, Any]) -> dict[str, Any]:
    tokens = _size(tensors, "pos_embed", 1, 513)
    frames = max(1, (tokens - 1) // ROWS) * PATCH
    sizes = _vit_sizes(tensors, _size(tensors, "cls_token", 2, 768))
    return {"kind": "audio_mae", "frames": frames, **sizes, "layer": None, "pooling": "mean"}


def _ced(tensors: Mapping[str, Tensor], cfg: Mapping[str, Any]) -> dict[str, Any]:
    inner = {name.removeprefix("encoder."): tensor for name, tensor in tensors.items()}
    sizes = _vit_sizes(inner, _size(inner, "time_pos_embed", 1, 192))
    return {"kind": "ced", **sizes, "layer": None, "pooling": "mean"}


def _vit_sizes(tensors: Mapping[str, Tensor], width: int) -> dict[str, int]:
    # No tensor shows the number of heads; published ones have 64 dimensions each.
    return {"layers": _blocks(tensors, "blocks."), "width": width, "heads": max(1, width // 64)}


LAYOUTS = {
    "beats": Layout(_beats, ("predictor.",)),
    "audio_mae": Layout(_audio_mae, ("head.", "fc_norm.")),
    "ced": Layout(_ced, ("outputlayer.",)),
}
