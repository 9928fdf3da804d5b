"""Save and load trained extractors: weights in safetensors, settings in JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import safetensors.torch
from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from asdpipe.artifacts.files import file_digest, written
from asdpipe.errors import UserError
from asdpipe.models.base import FeatureExtractor
from asdpipe.models.build import build_extractor, described_extractor

_REMEDY = "it is of another network or damaged: delete it and run again"


class Description(BaseModel):
    """The JSON beside the weights; further keys are facts about the training."""

    network: dict[str, Any]
    """Kind and arguments of the extractor."""
    num_samples: Annotated[int, Field(ge=1)]
    weights_sha256: str


def save_model(
    extractor: FeatureExtractor,
    network: Mapping[str, Any],
    num_samples: int,
    weights: Path,
    description: Path,
    **facts: Any,
) -> None:
    """Write weights and description.

    Args:
        network, num_samples: settings to rebuild the extractor from.
        facts: JSON-able facts about the training, stored in the description.
    """
    with written(weights) as temporary:
        # Not save_file, whose errors do not distinguish a full disk.
        tensors = {name: value.contiguous() for name, value in extractor.state_dict().items()}
        temporary.write_bytes(safetensors.torch.save(tensors))
    content = {"network": network, "num_samples": num_samples, "weights_sha256": file_digest(weights), **facts}
    with written(description) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def load_model(weights: Path, description: Path) -> FeatureExtractor:
    """Rebuild an extractor from weights and description, in evaluation mode.

    The files are not trusted: names, shapes and dtypes of the tensors are checked before the extractor is built.

    Raises:
        UserError: a file is damaged, or the weights belong to another extractor.
    """
    content = _read_description(weights, description)
    context = {"num_samples": content.num_samples}
    tensors = _read_weights(weights)
    try:
        # Items of a list, such as machine types, have weights each. A longer list is refused before it costs time.
        for key, value in content.network.items():
            if isinstance(value, list) and len(value) > len(tensors):
                raise UserError(f"network.{key[:100]} is longer than there are weights")
        expected = described_extractor(content.network, **context)
    except UserError as error:
        raise UserError(f"{description}: describes no possible network ({error}); delete it and run again") from None
    _check_weights(weights, tensors, expected)
    extractor = build_extractor(content.network, **context)
    extractor.load_state_dict(tensors)
    return extractor.eval()


def _read_description(weights: Path, description: Path) -> Description:
    try:
        content = Description.model_validate_json(description.read_bytes())
        digest = file_digest(weights)
    except ValidationError as error:
        first = error.errors()[0]
        reason = ": ".join([*filter(None, [".".join(map(str, first["loc"]))]), first["msg"]])
        message = f"{description}: does not describe a model ({reason})"
        raise UserError(f"{message}; delete it and run again") from None
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); run again") from None
    if digest != content.weights_sha256:
        message = f"{weights}: is damaged, or is not the file that {description} describes (SHA-256 {digest}, not"
        raise UserError(f"{message} {content.weights_sha256[:64]}); delete both and run again")
    return content


def _read_weights(weights: Path) -> dict[str, Tensor]:
    try:
        # safetensors holds numbers only; loading runs no code from the file.
        return safetensors.torch.load_file(weights)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{weights}: is not a file of weights in safetensors ({error}); {_REMEDY}") from None


def _check_weights(weights: Path, tensors: Mapping[str, Tensor], extractor: FeatureExtractor) -> None:
    """Check that tensors have the names, shapes and dtypes of an extractor and are finite.

    Args:
        weights: file of the tensors, for messages.
        extractor: on any device, including meta.

    Raises:
        UserError: they do not.
    """
    expected = extractor.state_dict()
    if names := sorted(tensors.keys() ^ expected.keys()):
        problem = "lacks" if names[0] in expected else "has an unknown tensor,"
        raise UserError(f"{weights}: {problem} {names[0][:100]!r}, among {len(names)} that differ; {_REMEDY}")
    for name, tensor in tensors.items():
        found, wanted = ((value.dtype, tuple(value.shape)) for value in (tensor, expected[name]))
        if found != wanted:
            raise UserError(f"{weights}: {name} is {_shown(*found)}, not {_shown(*wanted)}; {_REMEDY}")
        if tensor.is_floating_point() and not extractor.may_be_nan(name) and not tensor.isfinite().all():
            raise UserError(f"{weights}: {name} is not finite; {_REMEDY}")


def _shown(dtype: object, shape: tuple[int, ...]) -> str:
    return f"{str(dtype).removeprefix('torch.')} {list(shape)}"
