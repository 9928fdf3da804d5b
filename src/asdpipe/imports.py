"""Objects that are named by settings: imported when they are built, so that others cost nothing."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any


def imported(name: str) -> Any:
    """Return what a dotted name stands for, e.g. ``asdpipe.method.scorers.NearestNeighbours``."""
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


def built(name: str, settings: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
    """Return an instance of the class of this name.

    Args:
        settings: arguments that the class must take; context: arguments that it gets if it takes them.
    """
    kind = imported(name)
    taken = inspect.signature(kind).parameters
    return kind(**settings, **{key: value for key, value in context.items() if key in taken})
