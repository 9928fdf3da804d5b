"""Import classes and functions by the name that settings give, only when they are used."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any


def imported(name: str) -> Any:
    """Return the object of a dotted name, e.g. ``asdpipe.method.scorers.NearestNeighbours``."""
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


def built(name: str, settings: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
    """Return an instance of the class with this name.

    Args:
        settings: arguments of the class; context: further arguments, ignored if the class does not take them.
    """
    kind = imported(name)
    taken = inspect.signature(kind).parameters
    return kind(**settings, **{key: value for key, value in context.items() if key in taken})


def called(name: str, *arguments: Any, **options: Any) -> Any:
    """Call the function with this name; options that it does not take are ignored."""
    function = imported(name)
    taken = list(inspect.signature(function).parameters)[len(arguments) :]
    return function(*arguments, **{key: value for key, value in options.items() if key in taken})
