"""Files of tensors that are not trusted: read without running anything, and checked before they are used."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from asdpipe.artifacts.files import written
from asdpipe.errors import UserError, short

NETWORK = "network"


def write_tensors(tensors: Mapping[str, Tensor], network: Mapping[str, Any], path: Path) -> None:
    """Write tensors in safetensors; the same ones give the same bytes.

    Args:
        network: kind and arguments of their extractor, JSON-able, stored with them.
    """
    # One entry: the order of several is random.
    save_tensors(tensors, {NETWORK: json.dumps(network, sort_keys=True)}, path)


def save_tensors(tensors: Mapping[str, Tensor], header: Mapping[str, str], path: Path) -> None:
    """Write tensors that share no memory, and texts, in safetensors, without a copy of contiguous ones on the CPU.

    Raises:
        UserError: the disk is full.
    """
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with written(path) as temporary:
        try:
            safetensors.torch.save_file(contiguous, temporary, dict(header))
        except SafetensorError as error:
            # It names the cause in its text alone.
            if number := re.search(r"\(os error (\d+)\)", str(error)):
                raise OSError(int(number[1]), str(error)) from error
            raise


def read_tensors(file: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a file in safetensors, and the settings of their network; {} if it does not tell.

    Args:
        remedy: what to do about a damaged file, for the message.

    Raises:
        UserError: it is no such file.
    """
    try:
        # safetensors holds numbers only; loading runs no code from the file.
        with safetensors.safe_open(file, "pt") as opened:
            header = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError) as error:
        reason = short(str(error), 300)
        raise UserError(f"{file}: is not a file of weights in safetensors ({reason}); {remedy}") from None
    try:
        network = json.loads(header.get(NETWORK, "{}"))
    except (ValueError, RecursionError):
        network = {}
    return tensors, network if isinstance(network, dict) else {}


def check_tensors(
    file: Path,
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    remedy: str,
    may_be_nan: Callable[[str], bool] = lambda _: False,
) -> None:
    """Check that tensors have the names, shapes and dtypes of others, and are finite.

    Args:
        file: of the tensors, for messages.
        expected: tensors on any device, including meta.
        remedy: what to do about a difference.

    Raises:
        UserError: they do not.
    """
    if names := sorted(tensors.keys() ^ expected.keys()):
        problem = "lacks" if names[0] in expected else "has an unknown tensor,"
        raise UserError(f"{file}: {problem} {names[0][:100]!r}, among {len(names)} that differ; {remedy}")
    for name, tensor in tensors.items():
        found, wanted = ((value.dtype, tuple(value.shape)) for value in (tensor, expected[name]))
        if found != wanted:
            raise UserError(f"{file}: {name} is {_shown(*found)}, not {_shown(*wanted)}; {remedy}")
        if tensor.is_floating_point() and not may_be_nan(name) and not tensor.isfinite().all():
            raise UserError(f"{file}: {name} is not finite; {remedy}")


def _shown(dtype: object, shape: tuple[int, ...]) -> str:
    return f"{str(dtype).removeprefix('torch.')} {list(shape)}"
