"""Build extractors from untrusted settings."""

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Any, get_type_hints

import torch
from pydantic import ConfigDict, ValidationError, create_model

from asdpipe.errors import UserError
from asdpipe.imports import imported
from asdpipe.models.base import FeatureExtractor
from asdpipe.models.kinds import EXTRACTORS


def build_extractor(settings: Mapping[str, Any], **context: Any) -> FeatureExtractor:
    """Return an untrained extractor.

    Args:
        settings: ``kind`` and the arguments of its class, checked against the annotations of ``__init__``.
        context: further arguments, such as num_samples; those that the class does not take are ignored. Keyword-only
            arguments of a class are switches of the training: they come from here alone and may be left out.

    Raises:
        UserError: unknown kind, invalid arguments, or an impossible network, such as one for longer clips.
    """
    kind = settings.get("kind")
    if not isinstance(kind, str) or kind not in EXTRACTORS:
        raise UserError(f"network.kind = {str(kind)[:100]!r}: unknown kind; choose {', '.join(EXTRACTORS)}")
    extractor: type[FeatureExtractor] = imported(EXTRACTORS[kind])
    hints = get_type_hints(extractor.__init__, include_extras=True)
    absent = {
        name
        for name, parameter in signature(extractor).parameters.items()
        if parameter.kind is Parameter.KEYWORD_ONLY and name not in context
    }
    fields: dict[str, Any] = {name: (hint, ...) for name, hint in hints.items() if name not in {"return", *absent}}
    arguments = {name: value for name, value in settings.items() if name != "kind"}
    arguments |= {name: value for name, value in context.items() if name in fields}
    strict = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    try:
        checked = create_model("Arguments", __config__=strict, **fields)(**arguments)
        return extractor(**{name: getattr(checked, name) for name in arguments})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"{'' if key in context else 'network.'}{key[:100]}: {first['msg']}") from None
    except (ValueError, RuntimeError, ArithmeticError, TypeError) as error:
        raise UserError(str(error).partition("\n")[0]) from None


def described_extractor(settings: Mapping[str, Any], **context: Any) -> FeatureExtractor:
    """Return an extractor on the meta device, without memory for its weights; see ``build_extractor``."""
    with torch.device("meta"):
        return build_extractor(settings, **context)
