"""Save and load extractors: weights in safetensors, settings in JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Field, ValidationError

from asdpipe.artifacts.files import file_digest, written
from asdpipe.errors import UserError
from asdpipe.models.base import FeatureExtractor
from asdpipe.models.build import build_extractor, described_extractor
from asdpipe.models.pretrained import load_pretrained
from asdpipe.models.tensors import check_tensors, read_tensors, write_tensors

_REMEDY = "it is of another network or damaged: delete it and run again"


class Description(BaseModel):
    """The JSON beside the weights; further keys are facts about the training."""

    network: dict[str, Any]
    """Kind and arguments of the extractor."""
    num_samples: Annotated[int, Field(ge=1)]
    weights_sha256: str
    pretrained_sha256: str | None = None
    """Of the pre-trained weights that the training started from; None: it started from random ones."""


def save_model(
    extractor: FeatureExtractor,
    network: Mapping[str, Any],
    num_samples: int,
    weights: Path,
    description: Path,
    **facts: Any,
) -> None:
    """Write weights and description; of an extractor with adapters on pre-trained weights, the adapters alone.

    Args:
        network, num_samples: settings to rebuild the extractor from.
        facts: JSON-able facts about the training, stored in the description; ``pretrained_sha256`` is the digest of
            the pre-trained weights, if there are any.
    """
    is_pretrained = facts.get("pretrained_sha256") is not None
    write_tensors(extractor.saved_state() if is_pretrained else extractor.state_dict(), network, weights)
    content = {"network": network, "num_samples": num_samples, "weights_sha256": file_digest(weights), **facts}
    with written(description) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def load_model(weights: Path, description: Path, pretrained: Path | None = None) -> FeatureExtractor:
    """Rebuild an extractor from weights and description, in evaluation mode.

    The files are not trusted: names, shapes and dtypes of the tensors are checked before the extractor is built.

    Args:
        pretrained: the weights that the training started from, needed if only adapters were saved.

    Raises:
        UserError: a file is damaged, or the weights belong to another extractor; pre-trained weights are missing, or
            are not those of the training.
    """
    content = _read_description(weights, description)
    context = {"num_samples": content.num_samples}
    tensors, _ = read_tensors(weights, _REMEDY)
    try:
        # Items of a list, such as machine types, have weights each. A longer list is refused before it costs time.
        for key, value in content.network.items():
            if isinstance(value, list) and len(value) > len(tensors):
                raise UserError(f"network.{key[:100]} is longer than there are weights")
        expected = described_extractor(content.network, **context)
    except UserError as error:
        raise UserError(f"{description}: describes no possible network ({error}); delete it and run again") from None
    whole = expected.state_dict()
    saved = whole if content.pretrained_sha256 is None else expected.saved_state()
    check_tensors(weights, tensors, saved, _REMEDY, expected.may_be_nan)
    extractor = build_extractor(content.network, **context)
    if len(saved) < len(whole):
        load_pretrained(extractor, _same_pretrained(weights, content, pretrained), content.network)
    extractor.load_state_dict(tensors, strict=False)
    return extractor.eval()


def untrained_model(network: Mapping[str, Any], num_samples: int, pretrained: Path | None = None) -> FeatureExtractor:
    """Build an extractor that is not trained: with the weights of a file, or random ones, the same in every run.

    Args:
        network, num_samples: settings to build the extractor from.

    Raises:
        UserError: an impossible network, or weights of another one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        extractor = build_extractor(network, num_samples=num_samples)
    if pretrained is not None:
        load_pretrained(extractor, pretrained, network)
    return extractor


def _same_pretrained(weights: Path, content: Description, pretrained: Path | None) -> Path:
    """Return the file of the pre-trained weights, if it is that of the training."""
    if pretrained is None:
        message = f"{weights}: holds adapters alone; give the pre-trained weights they were trained on (--pretrained)"
        raise UserError(message)
    digest, wanted = file_digest(pretrained), str(content.pretrained_sha256)[:64]
    if digest != wanted:
        message = f"{pretrained}: is not the file that {weights} was trained on (SHA-256 {digest}, not {wanted})"
        raise UserError(f"{message}; give that file, or delete {weights.name} and run again to train anew")
    return pretrained


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
