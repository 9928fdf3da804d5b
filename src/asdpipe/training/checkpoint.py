"""A trained network on disk: weights in safetensors, everything else to rebuild it in JSON."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from asdpipe.artifacts import file_digest, written
from asdpipe.config_method import Network
from asdpipe.errors import UserError
from asdpipe.method.network import MultiResolutionNetwork
from asdpipe.training.loop import build_network


def save_model(
    network: MultiResolutionNetwork, weights: Path, description: Path, settings: Network, num_samples: int, **facts: Any
) -> None:
    """Write weights and description.

    Args:
        settings, num_samples: what the network was built from.
        facts: JSON-able facts about the training, stored in the description.
    """
    with written(weights) as temporary:
        # Not save_file, whose errors do not tell that the disk is full.
        tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
        temporary.write_bytes(safetensors.torch.save(tensors))
    content = {
        "network": settings.model_dump(mode="json"),
        "num_samples": num_samples,
        "weights_sha256": file_digest(weights),
        **facts,
    }
    with written(description) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def load_model(weights: Path, description: Path) -> tuple[MultiResolutionNetwork, int]:
    """Rebuild a network from weights and description; return it in evaluation mode with its input length in samples.

    Raises:
        UserError: a file is damaged, or the weights belong to another network.
    """
    try:
        content = json.loads(description.read_text())
        settings, num_samples = Network.model_validate(content["network"]), int(content["num_samples"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{description}: does not describe a model ({error})") from None
    network = build_network(settings, num_samples)
    try:
        network.load_state_dict(safetensors.torch.load_file(weights))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise UserError(f"{weights}: does not hold the weights that {description} describes ({error})") from None
    return network.eval(), num_samples
