"""Start an extractor from pre-trained weights: an imported checkpoint, or the model of a pre-training method."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asdpipe.errors import UserError, short
from asdpipe.models.base import FeatureExtractor
from asdpipe.models.kinds import FREE
from asdpipe.models.tensors import check_tensors, read_tensors


def load_pretrained(extractor: FeatureExtractor, file: Path, network: Mapping[str, Any]) -> None:
    """Replace the weights of an extractor by those of a file, in place; adapters keep their initial values.

    The file is not trusted: names, shapes and dtypes of its tensors are checked, and that they are finite.

    Args:
        network: kind and arguments of the extractor.

    Raises:
        UserError: the file is damaged, or of another network.
    """
    tensors, origin = read_tensors(file, "delete it and run again, or name other weights (network.weights)")
    for name in sorted((network.keys() & origin.keys()) - FREE):
        if network[name] != origin[name]:
            theirs = short(str(origin[name]))
            message = f"{file}: is of a network with {name} = {theirs}, but network.{name} = {network[name]}"
            raise UserError(f"{message}: set it to {theirs}, or name other weights (network.weights)")
    try:
        adopted = extractor.adopt(tensors)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    expected = extractor.state_dict()
    saved = extractor.saved_state()
    if len(saved) < len(expected):
        expected = {name: value for name, value in expected.items() if name not in saved}
    kind = short(str(origin.get("kind", "another network")))
    remedy = (
        f"its weights ({kind}) do not fit network.kind: {network['kind']} of this size: name other weights "
        "(network.weights), or change kind or size of the network"
    )
    check_tensors(file, adopted, expected, remedy, extractor.may_be_nan)
    extractor.load_state_dict(adopted, strict=False)
