"""Weights on disk, in safetensors with a description in JSON: nothing of them is trusted before it is checked."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import safetensors.torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from asdpipe.artifacts.files import file_digest
from asdpipe.errors import UserError


class Description(BaseModel):
    """What every description says; other keys are ignored."""

    weights_sha256: str


Described = TypeVar("Described", bound=Description)


def read_description(kind: type[Described], weights: Path, description: Path) -> Described:
    """Return what is said of weights.

    Raises:
        UserError: the description cannot be read or says something else, or the weights are others.
    """
    try:
        said = kind.model_validate_json(description.read_bytes())
        digest = file_digest(weights)
    except ValidationError as error:
        first = error.errors()[0]
        reason = ": ".join([*filter(None, [".".join(map(str, first["loc"]))]), first["msg"]])
        message = f"{description}: does not describe a model of this kind ({reason})"
        raise UserError(f"{message}; delete it and run again") from None
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); run again") from None
    if digest != said.weights_sha256:
        message = f"{weights}: is damaged, or is not the file that {description} describes (SHA-256 {digest}, not"
        raise UserError(f"{message} {said.weights_sha256[:64]}); delete both and run again")
    return said


def read_weights(
    weights: Path, expected: Mapping[str, Tensor], may_be_nan: Callable[[str], bool] = lambda _: False
) -> dict[str, Tensor]:
    """Return the tensors of a file.

    Args:
        expected: the names, with tensors of the same shapes and types, on any device.
        may_be_nan: tells by its name whether a tensor may have NaN.

    Raises:
        UserError: the file is not safetensors, or has other tensors, or some that are not finite.
    """
    try:
        # The format holds numbers only: nothing in it is ever run.
        tensors = safetensors.torch.load_file(weights)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{weights}: is not a file of weights in safetensors ({error}); {_WAY_OUT}") from None
    if names := sorted(tensors.keys() ^ expected.keys()):
        problem = "lacks" if names[0] in expected else "has an unknown tensor,"
        raise UserError(f"{weights}: {problem} {names[0][:100]!r}, among {len(names)} that differ; {_WAY_OUT}")
    for name, tensor in tensors.items():
        found, wanted = ((each.dtype, tuple(each.shape)) for each in (tensor, expected[name]))
        if found != wanted:
            raise UserError(f"{weights}: {name} is {_shown(*found)}, not {_shown(*wanted)}; {_WAY_OUT}")
        if tensor.is_floating_point() and not may_be_nan(name) and not tensor.isfinite().all():
            raise UserError(f"{weights}: {name} is not finite; {_WAY_OUT}")
    return tensors


_WAY_OUT = "it is of another network or damaged: delete it and run again"


def _shown(dtype: object, shape: tuple[int, ...]) -> str:
    return f"{str(dtype).removeprefix('torch.')} {list(shape)}"
