"""Small checkpoints in the official layouts, with random weights."""

from pathlib import Path

import torch

from asdpipe.models.build import build_extractor
from asdpipe.models.layouts import NUM_SAMPLES

BEATS_CFG = {
    "input_patch_size": 16,
    "embed_dim": 24,
    "conv_bias": False,
    "encoder_layers": 2,
    "encoder_embed_dim": 32,
    "encoder_ffn_embed_dim": 48,
    "encoder_attention_heads": 4,
    "activation_fn": "gelu",
    "layer_wise_gradient_decay_ratio": 0.6,
    "layer_norm_first": False,
    "deep_norm": True,
    "dropout": 0.0,
    "conv_pos": 128,
    "conv_pos_groups": 16,
    "relative_position_embedding": True,
    "num_buckets": 320,
    "max_distance": 800,
    "gru_rel_pos": True,
    "finetuned_model": False,
}
NETWORKS = {
    "beats": {
        "kind": "beats",
        **{"layers": 2, "width": 32, "ffn": 48, "heads": 4, "patch_width": 24},
        **{"layer": None, "pooling": "mean", "lora": None},
    },
    "audio_mae": {
        "kind": "audio_mae",
        **{"frames": 64, "layers": 2, "width": 64, "heads": 1, "layer": None, "pooling": "mean"},
    },
    "ced": {"kind": "ced", "layers": 2, "width": 64, "heads": 1, "layer": None, "pooling": "mean"},
}
CLASSES = 5
POSITION_BIAS = "encoder.layers.{}.self_attn.relative_attention_bias.weight"


def tensors_of(network: dict, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return the tensors of a network with random weights, none of them constant."""
    torch.manual_seed(seed)
    state = build_extractor(network, num_samples=NUM_SAMPLES).state_dict()
    return {
        name: value + 0.1 * torch.rand(value.shape) if value.is_floating_point() else value
        for name, value in state.items()
    }


def official_beats(fine_tuned: bool = False) -> dict:
    tensors = tensors_of(NETWORKS["beats"])
    # As in the published files, every layer has the position bias of the first.
    tensors |= {POSITION_BIAS.format(layer): tensors[POSITION_BIAS.format(0)] for layer in range(2)}
    content = {"cfg": BEATS_CFG | {"finetuned_model": fine_tuned}, "model": tensors}
    if fine_tuned:
        tensors |= {"predictor.weight": torch.randn(CLASSES, 32), "predictor.bias": torch.randn(CLASSES)}
        content["label_dict"] = {number: f"/m/{number}" for number in range(CLASSES)}
    return content


def official_audio_mae(fine_tuned: bool = False) -> dict:
    tensors = tensors_of(NETWORKS["audio_mae"])
    if fine_tuned:
        tensors |= {"head.weight": torch.randn(CLASSES, 64), "head.bias": torch.randn(CLASSES)}
    else:
        tensors = {name: value for name, value in tensors.items() if not name.startswith("fc_norm.")}
        tensors |= {"norm.weight": torch.rand(64), "norm.bias": torch.rand(64), "mask_token": torch.rand(1, 1, 32)}
        tensors |= {"decoder_embed.weight": torch.rand(32, 64), "decoder_pos_embed": torch.rand(1, 33, 32)}
    return {"model": tensors}


def official_ced() -> dict:
    tensors = {f"encoder.{name}": value for name, value in tensors_of(NETWORKS["ced"]).items()}
    return tensors | {"outputlayer.1.weight": torch.randn(CLASSES, 64), "outputlayer.1.bias": torch.randn(CLASSES)}


def saved(content: object, file: Path) -> Path:
    torch.save(content, file)
    return file
