"""Read the configuration: YAML files and command line to ``Config``, with error messages for people."""

import difflib
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from asdpipe.config.base import merge
from asdpipe.config.checks import check
from asdpipe.config.method import Method
from asdpipe.config.schema import Config
from asdpipe.errors import UserError

COMMAND_LINE = "command line (--config)"
MAX_LINES = 10
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = 100
SHORT.maxlevel = 2
# Messages of pydantic that mention Python types, in terms of YAML.
PLAIN = dict.fromkeys(
    ("model_type", "model_attributes_type", "dict_type"), "Input should be a section of keys and values"
)
PLAIN["tuple_type"] = "Input should be a list"


def load_config(
    values: Mapping[str, Any], files: Iterable[str | Path] = (), command_line: Iterable[str] = ()
) -> Config:
    """Validate merged configuration values.

    Args:
        values: the merged values, as Snakemake's ``config`` holds them.
        files: the YAML files they came from, later over earlier; only used to name the file of a wrong key.
        command_line: the arguments of ``--config``, "KEY=VALUE". They replace the values that Snakemake parsed, which
            leaves numbers and null in nested values as text.

    Raises:
        UserError: one line per wrong key, with the file, the reason and the nearest known key.
    """
    texts = _parse(command_line)
    try:
        config = _validate(merge(values, _read_scalars(texts)), texts)
    except ValidationError as error:
        sources = {str(file): _read(file) for file in files if Path(file).is_file()}
        raise UserError("\n".join(_explain(error, sources | ({COMMAND_LINE: texts} if texts else {})))) from None
    except RecursionError:
        raise UserError("the configuration is nested too deeply, or contains itself") from None
    check(config)
    return config


def read_config(files: Sequence[str | Path], overrides: Mapping[str, Any] | None = None) -> Config:
    """Read and validate YAML files, later ones over earlier ones, then overrides.

    Raises:
        UserError: a file is missing, is not YAML, or has wrong keys.
    """
    values: dict[str, Any] = {}
    for file in files:
        values = merge(values, _read(file))
    return load_config(merge(values, overrides or {}), files)


def _read(file: str | Path) -> dict[str, Any]:
    """Return the values of a YAML file."""
    try:
        loaded = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    # ValueError: text that is not UTF-8, and dates that do not exist.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: is not valid YAML: {error}") from None
    if not isinstance(loaded, dict | None):
        raise UserError(f"{file}: must be a mapping of keys to values")
    return loaded or {}


def _parse(command_line: Iterable[str]) -> dict[str, Any]:
    """Return the values of ``--config`` with every scalar as text; Snakemake has checked the form KEY=VALUE."""
    values: dict[str, Any] = {}
    for argument in command_line:
        key, _, text = argument.partition("=")
        text = text.strip("'\"")
        try:
            value = yaml.load(text, yaml.BaseLoader)
        except yaml.YAMLError:
            value = text
        values = merge(values, {key: value})
    return values


def _read_scalars(value: Any) -> Any:
    """Read every text as YAML does in a file: numbers, booleans, null."""
    if isinstance(value, dict):
        return {key: _read_scalars(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_read_scalars(item) for item in value]
    try:
        scalar = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, AttributeError):
        return value
    return value if isinstance(scalar, str | list | dict) else scalar


def _validate(values: dict[str, Any], texts: Mapping[str, Any]) -> Config:
    """Validate values; where text is expected, a number from the command line is used as the text that was typed."""
    while True:
        try:
            return Config.model_validate(values)
        except ValidationError as error:
            wanted = [_locate(found["loc"])[0] for found in error.errors() if found["type"] == "string_type"]
            typed = [keys for keys in wanted if isinstance(_find(texts, keys), str)]
            changed = [keys for keys in typed if _find(values, keys) != _find(texts, keys)]
            if not changed:
                raise
            for keys in changed:
                # _read_scalars has made the list or mapping around it.
                _find(values, keys[:-1])[keys[-1]] = _find(texts, keys)


def _explain(error: ValidationError, sources: Mapping[str, Any]) -> Iterator[str]:
    """Yield at most MAX_LINES lines, one per validation error: source, key, reason, nearest known key."""
    seen: set[str] = set()
    errors = error.errors(include_url=False)
    for number, found in enumerate(errors):
        if len(seen) == MAX_LINES:
            yield f"and {len(errors) - number} more"
            return
        line = _describe(found, sources)
        if line not in seen:
            seen.add(line)
            yield line


def _describe(error: ErrorDetails, sources: Mapping[str, Any]) -> str:
    keys, section, others = _locate(error["loc"])
    value, kind = error["input"], error["type"]
    if kind.startswith("union_tag"):
        tag = _tag_key(others)
        keys, value = [*keys, tag], value.get(tag) if isinstance(value, Mapping) else value
    key = ".".join(_short(str(part)) for part in keys)
    above = "".join(_short(str(part)) + "." for part in keys[:-1])
    if kind == "extra_forbidden":
        nearest = difflib.get_close_matches(str(keys[-1])[:100], section.model_fields if section else (), 1, cutoff=0)
        owners = [other for other in others if other is not section and keys[-1] in other.model_fields]
        if section and owners:
            tag = _tag_key(others)
            reason = f"unknown key {key!r} with {tag}: {_tags(section, tag)[0]}; it belongs to {tag}: " + " or ".join(
                str(_tags(owner, tag)[0]) for owner in owners
            )
        else:
            reason = f"unknown key {key!r}; did you mean {above + ''.join(nearest)!r}?"
    elif kind == "missing":
        meaning = section.model_fields[str(keys[-1])].description if section else None
        reason = f"key {key!r} is missing" + (f" ({meaning})" if meaning else "")
        if key == "dataset":
            reason += (
                " (a file given with --configfile stands alone; to change a few keys of the demo use "
                "--config KEY=VALUE or --configfile config/config.yaml YOUR_FILE)"
            )
    elif kind.startswith("union_tag"):
        known = ", ".join(str(word) for model in others for word in _tags(model, tag))
        missing = f"key {key!r} is missing; choose one of: {known}"
        unknown = f"{key} = {_repr(value)}: unknown {tag}; choose one of: {known}"
        reason = missing if value is None else unknown
    else:
        message = PLAIN.get(kind, error["msg"].removeprefix("Value error, "))
        reason = f"{key} = {_repr(value)}: {message}"
    return f"{_origin(keys, sources)}: {reason}"


def _repr(value: object) -> str:
    try:
        return _short(SHORT.repr(value))
    except ValueError:
        # Python refuses to print integers of more than 4300 digits.
        return "a huge number"


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."


def _origin(keys: Sequence[str | int], sources: Mapping[str, Any]) -> str:
    """Return the last source that has the key, all sources of a section, or for a missing key those of its section."""
    for end in range(len(keys), -1, -1):
        found = {name: _find(values, keys[:end]) for name, values in sources.items()}
        present = [name for name, value in found.items() if value is not ...]
        if present:
            return ", ".join(present) if isinstance(found[present[-1]], Mapping) else present[-1]
    return "config"


def _find(values: Any, keys: Sequence[str | int]) -> Any:
    """Return the value at a path of keys and list indices, or ``...`` where there is none."""
    for key in keys:
        if isinstance(values, Mapping):
            values = values.get(key, ...)
        elif isinstance(values, list | tuple) and isinstance(key, int) and key < len(values):
            values = values[key]
        else:
            return ...
    return values


def _locate(location: Sequence[str | int]) -> tuple[list[str | int], type[BaseModel] | None, list[type[BaseModel]]]:
    """Return the keys of an error and the section that the last key belongs to.

    The location in pydantic's error has an additional part per union: the tag or the name of the member it tried.

    Returns:
        The keys; the section, or None if unknown; the members of the union that the section belongs to or that the
        location ends at.
    """
    keys: list[str | int] = []
    kind: Any = Config
    section: type[BaseModel] | None = None
    members: list[type[BaseModel]] = []
    for part in location:
        choices = _choices(kind)
        if len(choices) > 1:
            members = [choice for choice in choices if _is_section(choice)]
            tag = _tag_key(members)
            kind = next((member for member in members if part in _tags(member, tag)), None)
            continue
        kind = choices[0]
        if part == "[key]":
            continue
        keys.append(part)
        if _is_section(kind):
            members = members if kind in members else []
            section, field = kind, kind.model_fields.get(str(part))
            # Config has methods as plain mappings, which are validated after merging with their parents.
            kind = dict[str, Method] if keys == ["methods"] else field and field.annotation
        else:
            section, members = None, []
            inner = [item for item in get_args(kind) if item is not ...] if get_origin(kind) is not Literal else []
            kind = inner[-1] if inner else None
    ending = _choices(kind)
    return keys, section, [choice for choice in ending if _is_section(choice)] if len(ending) > 1 else members


def _choices(kind: Any) -> list[Any]:
    """Return the members of a union without None, or the type itself."""
    if get_origin(kind) is Annotated:
        return _choices(get_args(kind)[0])
    if get_origin(kind) not in (Union, UnionType):
        return [kind]
    choices = [choice for choice in get_args(kind) if choice is not NoneType]
    return _choices(choices[0]) if len(choices) == 1 else [inner for choice in choices for inner in _choices(choice)]


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _tag_key(members: Sequence[type[BaseModel]]) -> str:
    """Return the key that distinguishes the members of a union: a literal field with different values."""
    for name in members[0].model_fields if members else ():
        words = [_tags(member, name) for member in members]
        if all(words) and len({word for tags in words for word in tags}) == sum(map(len, words)):
            return name
    return "kind"


def _tags(member: type[BaseModel], key: str) -> tuple[Any, ...]:
    """Return the values that a member of a union allows for the key that distinguishes them."""
    field = member.model_fields.get(key)
    return get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()
