"""Reading the configuration: YAML files and command line to ``Config``, with error messages for people."""

import difflib
import itertools
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from asdpipe.config.base import merge
from asdpipe.config.data import Dataset, Pool
from asdpipe.config.method import Method
from asdpipe.config.schema import Config
from asdpipe.errors import UserError

# Far more than configs have: with aliases, a few lines of YAML can stand for any number of values.
MOST_VALUES = 100_000
MOST_LISTED = 20
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = 100


def load_config(values: Mapping[str, Any], files: Iterable[str | Path] = ()) -> Config:
    """Validate merged configuration values.

    Args:
        values: the merged values, as Snakemake's ``config`` holds them.
        files: the YAML files they came from; only used to say where a wrong key stands.

    Raises:
        UserError: one line per wrong key, with the file, the reason and the nearest known key.
    """
    try:
        config = Config.model_validate(_plain(values))
    except ValidationError as error:
        lines = list(_explain(error, {str(file): _read(file) for file in files if Path(file).is_file()}))
        more = [f"and {len(lines) - MOST_LISTED} more"] if len(lines) > MOST_LISTED else []
        raise UserError("\n".join(lines[:MOST_LISTED] + more)) from None
    config.check()
    return config


def read_config(files: Sequence[str | Path], overrides: Mapping[str, Any] | None = None) -> Config:
    """Read and validate YAML files, later ones over earlier ones, then overrides.

    Raises:
        UserError: a file is missing, is not YAML, or has wrong keys.
    """
    values: dict[str, Any] = {}
    for file in files:
        values = merge(values, _plain(_read(file)))
    return load_config(merge(values, overrides or {}), files)


def _read(file: str | Path) -> dict[str, Any]:
    """Return the values of a YAML file."""
    try:
        loaded = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    # ValueError: text that is not UTF-8, and dates that there are not.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: is not valid YAML: {error}") from None
    if not isinstance(loaded, dict | None):
        raise UserError(f"{file}: must be a mapping of keys to values")
    return loaded or {}


def _plain(value: Any) -> Any:
    """Turn Snakemake's ordered mappings and sequences into plain dicts and lists.

    Raises:
        UserError: there are too many values, or they hold themselves.
    """
    try:
        return _copied(value, itertools.count())
    except RecursionError:
        raise UserError("the configuration is nested too deeply, or holds itself") from None


def _copied(value: Any, count: Iterator[int]) -> Any:
    if next(count) > MOST_VALUES:
        raise UserError(f"the configuration has more than {MOST_VALUES} values: remove what repeats itself")
    if isinstance(value, Mapping):
        return {key: _copied(item, count) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item, count) for item in value]
    return value


def _explain(error: ValidationError, sources: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line per validation error: key, reason, nearest known key, file."""
    seen = set()
    for each in error.errors():
        location = [str(part) for part in each["loc"]]
        key = ".".join(location)
        where = ", ".join(sources) or "config" if each["type"] == "missing" else _origin(location, sources)
        if each["type"] == "extra_forbidden":
            nearest = difflib.get_close_matches(location[-1], _siblings(location[:-1]), n=1, cutoff=0)
            reason = f"unknown key {key!r}; did you mean {'.'.join([*location[:-1], *nearest])!r}?"
        elif each["type"] == "missing":
            reason = f"key {key!r} is missing"
            if key == "dataset":
                reason += (
                    " (a file given with --configfile stands alone; to change a few keys of the demo use "
                    "--config KEY=VALUE or --configfile config/config.yaml YOUR_FILE)"
                )
        else:
            reason = f"{key} = {SHORT.repr(each['input'])}: {each['msg'].removeprefix('Value error, ')}"
        line = f"{where}: {reason}"
        if line not in seen:
            seen.add(line)
            yield line


def _siblings(location: Sequence[str]) -> list[str]:
    """Return the known keys of the section at ``location``."""
    model: Any = Config
    named = {"datasets": Dataset, "pools": Pool, "methods": Method}
    for part in location:
        # A part that is no field is the free name of a data set, pool or method.
        if part in model.model_fields:
            inner = named.get(part, model.model_fields[part].annotation)
            model = inner if hasattr(inner, "model_fields") else model
    return list(model.model_fields)


def _origin(location: Sequence[str], sources: Mapping[str, Any]) -> str:
    """Return the last file in which the key stands, or the command line."""
    for file, values in reversed(list(sources.items())):
        found: Any = values
        for part in location:
            if not isinstance(found, Mapping) or part not in found:
                break
            found = found[part]
        else:
            return file
    return "command line (--config)"
