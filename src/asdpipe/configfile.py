"""Reading the configuration: YAML files and command line to ``Config``, with error messages for people."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from asdpipe.config import Config
from asdpipe.config_data import Dataset, Pool
from asdpipe.config_method import Method, merge
from asdpipe.errors import UserError


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
        sources = {str(file): yaml.safe_load(Path(file).read_text()) or {} for file in files if Path(file).is_file()}
        raise UserError("\n".join(_explain(error, sources))) from None
    config.check()
    return config


def read_config(files: Sequence[str | Path], overrides: Mapping[str, Any] | None = None) -> Config:
    """Read and validate YAML files, later ones over earlier ones, then overrides.

    Raises:
        UserError: a file is missing, is not YAML, or has wrong keys.
    """
    values: dict[str, Any] = {}
    for file in files:
        try:
            loaded = yaml.safe_load(Path(file).read_text())
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror})") from None
        except yaml.YAMLError as error:
            raise UserError(f"{file}: is not valid YAML: {error}") from None
        if not isinstance(loaded, dict | None):
            raise UserError(f"{file}: must be a mapping of keys to values")
        values = merge(values, loaded or {})
    return load_config(merge(values, overrides or {}), files)


def _plain(value: Any) -> Any:
    """Turn Snakemake's ordered mappings and sequences into plain dicts and lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
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
            reason = f"{key} = {each['input']!r}: {each['msg'].removeprefix('Value error, ')}"
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
            model = named.get(part, model.model_fields[part].annotation)
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
