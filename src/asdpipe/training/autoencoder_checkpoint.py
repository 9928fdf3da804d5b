"""Trained autoencoders on disk: those of all machine types in one safetensors file, what they are in JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from asdpipe.artifacts import file_digest, written
from asdpipe.errors import UserError
from asdpipe.method.autoencoder import Autoencoder

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


def load_autoencoders(weights: Path, description: Path) -> dict[str, Trained]:
    """Rebuild the autoencoders, in evaluation mode, by machine type.

    Raises:
        UserError: a file is damaged, or the weights are not those of autoencoders of this version.
    """
    try:
        content = json.loads(description.read_text())
        found = {key: content[key] for key in FORMAT}
        if found != FORMAT:
            raise ValueError(f"it says {found}, not {FORMAT}")
        machines = [str(machine) for machine in content["machines"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{description}: does not describe autoencoders ({error}); delete it and run again") from None
    trained = {}
    try:
        tensors = safetensors.torch.load_file(weights)
        for machine in machines:
            prefix = f"{machine}/"
            own = {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
            model, inverse = Autoencoder(), own.pop(INVERSE_COVARIANCES)
            model.load_state_dict(own)
            trained[machine] = Trained(model.eval(), inverse)
    except (SafetensorError, RuntimeError, OSError, KeyError) as error:
        raise UserError(f"{weights}: does not hold the weights that {description} describes ({error})") from None
    return trained
