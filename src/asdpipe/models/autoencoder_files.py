"""Trained autoencoders on disk: those of all machine types in one safetensors file, what they are in JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from asdpipe.artifacts.files import file_digest, written
from asdpipe.models.autoencoder import BANDS, Autoencoder
from asdpipe.models.weights import Description, read_description, read_weights

# The version counts changes of the features or the layers: old weights must not be read as new ones.
FORMAT = {"kind": "autoencoder", "version": 1}
INVERSE_COVARIANCES = "inverse_covariances"


class Trained(NamedTuple):
    """What scores the clips of one machine type."""

    model: Autoencoder
    inverse_covariances: Tensor
    """Of source and target, float64 (2, 128, 128)."""


def save_autoencoders(trained: Mapping[str, Trained], weights: Path, description: Path, **facts: Any) -> None:
    """Write weights and description.

    Args:
        trained: by machine type, which is no path: it has no slash.
        facts: JSON-able facts about the training, stored in the description.
    """
    tensors = {
        f"{machine}/{name}": value.contiguous()
        for machine, each in trained.items()
        for name, value in {**each.model.state_dict(), INVERSE_COVARIANCES: each.inverse_covariances}.items()
    }
    with written(weights) as temporary:
        # Not save_file, whose errors do not tell that the disk is full.
        temporary.write_bytes(safetensors.torch.save(tensors))
    content = {**FORMAT, "machines": sorted(trained), "weights_sha256": file_digest(weights), **facts}
    with written(description) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


class _Described(Description):
    kind: Literal["autoencoder"]
    version: Literal[1]
    machines: list[str]


def load_autoencoders(weights: Path, description: Path) -> dict[str, Trained]:
    """Rebuild the autoencoders, in evaluation mode, by machine type.

    Raises:
        UserError: a file is damaged, or the weights are not those of autoencoders of this version.
    """
    machines = read_description(_Described, weights, description).machines
    own = {**Autoencoder().state_dict(), INVERSE_COVARIANCES: torch.empty(2, BANDS, BANDS, dtype=torch.float64)}
    expected = {f"{machine}/{name}": each for machine in machines for name, each in own.items()}
    # A domain without training clips has NaN.
    tensors = read_weights(weights, expected, may_be_nan=lambda name: name.endswith(f"/{INVERSE_COVARIANCES}"))
    trained = {}
    for machine in machines:
        model = Autoencoder()
        model.load_state_dict({name: tensors[f"{machine}/{name}"] for name in model.state_dict()})
        trained[machine] = Trained(model.eval(), tensors[f"{machine}/{INVERSE_COVARIANCES}"])
    return trained
