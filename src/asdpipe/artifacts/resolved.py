"""What settings of ``auto`` came to: in the facts of tables, in model.json, and in words."""

import logging
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

Resolved = Mapping[str, int | Mapping[str, int]]
"""Number by dotted key, or numbers by machine type."""
_RESOLVED: TypeAdapter[Resolved] = TypeAdapter(Resolved)

logger = logging.getLogger(__name__)


def noted(resolved: Resolved) -> dict[str, Any]:
    """Log what settings came to, and return it as facts for the result; none where nothing is ``auto``."""
    if not resolved:
        return {}
    logger.info("auto: %s", in_words(resolved))
    return {"resolved": resolved}


def from_facts(facts: Mapping[str, Any]) -> Resolved:
    """Return what the facts of a result say; nothing if they say nothing or are damaged."""
    try:
        return _RESOLVED.validate_python(facts.get("resolved", {}))
    except ValidationError:
        return {}


def in_words(resolved: Resolved) -> str:
    """Return one line, such as "training.epochs 125, inference.k_source 2 (fan, pump) or 3 (valve)"."""
    return ", ".join(f"{key} {number_in_words(value)}" for key, value in resolved.items())


def number_in_words(value: int | Mapping[str, int]) -> str:
    """Return a number, or those of the machine types, each with its machine types."""
    if isinstance(value, int):
        return f"{value:,}"
    by_number: dict[int, list[str]] = {}
    for machine, number in sorted(value.items()):
        by_number.setdefault(number, []).append(machine)
    if len(by_number) == 1:
        return f"{next(iter(by_number)):,}"
    return " or ".join(f"{number:,} ({', '.join(machines)})" for number, machines in sorted(by_number.items()))
