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


def called(name: str, *arguments: Any, **options: Any) -> Any:
    """Call the function of this name with those of the options that are among its further parameters."""
    function = imported(name)
    taken = list(inspect.signature(function).parameters)[len(arguments) :]
    return function(*arguments, **{key: value for key, value in options.items() if key in taken})
