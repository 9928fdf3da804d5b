"""A trained network on disk: weights in safetensors, everything else to rebuild it in JSON."""

import json
from pathlib import Path
from typing import Annotated, Any

import safetensors.torch
import torch
from pydantic import Field

from asdpipe.artifacts.files import file_digest, written
from asdpipe.config.method import Network
from asdpipe.errors import UserError
from asdpipe.models.multi_resolution import MultiResolutionNetwork
from asdpipe.models.weights import Description, read_description, read_weights
from asdpipe.training.fit import build_network


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


class _Described(Description):
    network: Network
    num_samples: Annotated[int, Field(ge=1)]


def load_model(weights: Path, description: Path) -> tuple[MultiResolutionNetwork, int]:
    """Rebuild a network from weights and description; return it in evaluation mode with its input length in samples.

    Raises:
        UserError: a file is damaged, or the weights belong to another network.
    """
    said = read_description(_Described, weights, description)
    try:
        # Without memory: what is described may be of any size.
        with torch.device("meta"):
            expected = build_network(said.network, said.num_samples).state_dict()
    except (UserError, RuntimeError, OverflowError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{description}: describes no possible network ({reason}); delete it and run again") from None
    tensors = read_weights(weights, expected)
    network = build_network(said.network, said.num_samples)
    network.load_state_dict(tensors)
    return network.eval(), said.num_samples
