"""Base class of all configuration sections, and the JSON that passes settings to a step."""

import json
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, overload

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import ErrorDetails

from asdpipe.errors import UserError
from asdpipe.imports import built

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="A name that is part of paths.")]
PositiveInt = Annotated[int, Field(ge=1)]


def _or_auto(lowest: int) -> WrapValidator:
    """Return a validator of whole numbers and ``auto``, with one message instead of one for either."""

    def validated(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError:
            message = f"Input should be auto, or a whole number greater than or equal to {lowest}"
            raise ValueError(message) from None

    return WrapValidator(validated)


# "auto": a rule of method/data_size.py decides when the training clips are known, in the step that reads them.
PositiveOrAuto = Annotated[PositiveInt | Literal["auto"], _or_auto(1)]
CountOrAuto = Annotated[Annotated[int, Field(ge=0)] | Literal["auto"], _or_auto(0)]
Settings = TypeVar("Settings")
Kind = TypeVar("Kind", bound="Section")


class Section(BaseModel):
    """A part of the configuration: immutable, unknown keys are errors."""

    target: ClassVar[str] = ""
    """Dotted name of the class that the settings are arguments of."""
    further_targets: ClassVar[tuple[str, ...]] = ()
    """Dotted names of classes without settings that are built with it."""
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _none_is_null(cls, values: Any) -> Any:
        """Read "none" as null for keys that may be null, as the documentation writes it."""
        if not isinstance(values, Mapping):
            return values
        nullable = {name for name, field in cls.model_fields.items() if NoneType in get_args(field.annotation)}
        return {key: None if key in nullable and value in ("none", "None") else value for key, value in values.items()}

    def build(self, **context: Any) -> Any:
        """Return an instance of ``target``.

        Args:
            context: further arguments; those that the class does not take are ignored.
        """
        settings = {name: getattr(self, name) for name in type(self).model_fields if name != "kind"}
        return built(self.target, settings, context)


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys, for Snakemake's params."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def as_json(settings: Section) -> str:
    """Return all settings of a step as JSON, defaults included, for ``read_settings``."""
    return canonical_json(settings.model_dump(mode="json"))


@overload
def read_settings(kind: type[Settings], text: str) -> Settings: ...


@overload
def read_settings(kind: Any, text: str) -> Any: ...


def read_settings(kind: Any, text: str) -> Any:
    """Return the settings of a step from JSON that has every key; there are no defaults.

    Args:
        kind: a Section, or a union of Sections.

    Raises:
        UserError: the text is not JSON, or a key is missing, unknown or invalid.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        settings = adapter.validate_json(text, context=NO_DEFAULTS)
    except ValidationError as error:
        raise UserError(f"--settings: {_first_problem(error)}") from None
    whole = adapter.dump_python(settings, mode="json")
    stated = adapter.dump_python(settings, mode="json", exclude_unset=True)
    if missing := sorted(_missing(whole, stated)):
        raise UserError(f"--settings: {', '.join(missing)}: {MISSING}")
    return settings


def _first_problem(error: ValidationError) -> str:
    """Return key and reason of the first error, in a union without discriminator that of the member that fits best."""
    by_member: dict[Any, list[ErrorDetails]] = {}
    for found in error.errors():
        by_member.setdefault(found["loc"][:1], []).append(found)
    absent = ("missing", "union_tag_not_found")
    first = min(by_member.values(), key=lambda errors: (len(errors), errors[0]["type"] not in absent))[0]
    keys = [str(part) for part in first["loc"]]
    if first["type"] == "union_tag_not_found":
        keys.append(first["ctx"]["discriminator"].strip("'"))
    return f"{'.'.join(keys)}: {MISSING if first['type'] in absent else first['msg']}"


def _missing(whole: Mapping[str, Any], stated: Mapping[str, Any], above: str = "") -> list[str]:
    """Return the dotted keys of ``whole`` that ``stated`` lacks."""
    found = []
    for key, value in whole.items():
        if key not in stated:
            found.append(above + key)
        elif isinstance(value, Mapping) and isinstance(stated[key], Mapping):
            found += _missing(value, stated[key], f"{above}{key}.")
    return found


# Validation context in which a section without its kind is an error.
NO_DEFAULTS = {"defaults": False}
MISSING = "missing; a step needs every setting, there are no defaults"
# Default kind of every section that is a union.
DEFAULT_KINDS = {
    "labels": "machine",
    "network": "multi_resolution",
    "loss": "subspace",
    "training": "clips",
    "backend": "kmeans",
}


def with_kind(section: str) -> BeforeValidator:
    """Return a validator that accepts a section without its kind, or the kind alone; not in the settings of a step."""

    def completed(value: Any, info: ValidationInfo) -> Any:
        if info.context == NO_DEFAULTS:
            return value
        if isinstance(value, str):
            return {"kind": value}
        return {"kind": DEFAULT_KINDS[section], **value} if isinstance(value, Mapping) else value

    return BeforeValidator(completed)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge ``over`` into ``base`` recursively; a section of another kind replaces the one below."""
    merged = dict(base)
    for key, value in over.items():
        below = _section(key, merged.get(key))
        above = _section(key, value)
        if isinstance(above, Mapping) and isinstance(below, Mapping) and _same_kind(key, below, above):
            merged[key] = merge(below, above)
        else:
            merged[key] = above
    return merged


def _section(key: str, value: Any) -> Any:
    return {"kind": value} if key in DEFAULT_KINDS and isinstance(value, str) else value


def _same_kind(key: str, below: Mapping[str, Any], above: Mapping[str, Any]) -> bool:
    default = DEFAULT_KINDS.get(key)
    kind = below.get("kind", default)
    return bool(above.get("kind", kind) == kind)


def settings_of(section: Section, kind: type[Kind]) -> Kind:
    """Return the settings of a section that are also in ``kind``."""
    return kind.model_validate(section.model_dump(include=set(kind.model_fields)))


def with_values(settings: Kind, values: Mapping[str, Any]) -> Kind:
    """Return settings with other values, which dotted keys name."""
    content = settings.model_dump()
    for key, value in values.items():
        *above, name = key.split(".")
        section = content
        for part in above:
            section = section[part]
        section[name] = value
    return type(settings).model_validate(content)


def own_keys(**formats: type[Section]) -> Callable[[Any], Any]:
    """Return a validator that refuses keys of other formats and names their format."""

    def validator(values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("format") not in formats:
            return values
        own, kept = formats[values["format"]].model_fields, dict(values)
        for key, value in values.items():
            having = [name for name, kind in formats.items() if key in kind.model_fields]
            if key in own or not having:
                continue
            if value is not None:
                raise ValueError(f"{key} is for format: {' and '.join(having)}, not {values['format']}")
            # null unsets a key of the data set that this one changes, such as the year of dcase2023.
            del kept[key]
        return kept

    return validator
