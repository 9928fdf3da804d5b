"""Where results came from: a record beside every file that a step writes, ``provenance/NAME.json``.

Records are the same whenever the files are: they hold no times, and paths as the step was given them.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from asdpipe.artifacts.files import file_digest, written
from asdpipe.errors import UserError
from asdpipe.provenance.code import step_digest

# Larger files are not read again for their digest where a record of them has it.
LARGE = 64_000_000
# Where a step runs or fetches from is no setting of its result.
NOT_RECORDED = {"device", "mirrors", "torch_compile"}
# What tells apart the runs of a step that have the same configuration.
RUN = {"seed", "stage", "shard"}


class File(BaseModel):
    """A file or folder that a step read or wrote."""

    model_config = ConfigDict(frozen=True)

    path: str = Field(pattern=r"^[^\x00]*$")
    size: int | None = None
    """In bytes; none: a folder, whose content has no digest."""
    sha256: str | None = None


class Record(BaseModel):
    """How a file was made."""

    model_config = ConfigDict(frozen=True)

    file: File
    step: str
    code: str
    """Digest of the step's code."""
    settings: dict[str, Any]
    inputs: dict[str, list[File]]
    config: dict[str, list[dict[str, Any]]]
    """Settings, defaults included, of this step and of all before it, by step; more than one where runs differ."""
    seeds: list[int]
    """Of this step and of all before it."""


def recorded(step: Callable[..., None]) -> Callable[..., None]:
    """Return a step that writes a record of every file it wrote, once all are there."""

    @functools.wraps(step)
    def run(**arguments: Any) -> None:
        step(**arguments)
        settings: dict[str, Any] = {}
        inputs: dict[str, list[File]] = {}
        outputs: list[Path] = []
        kinds = get_type_hints(step, include_extras=True)
        for name, value in arguments.items():
            if name in NOT_RECORDED:
                continue
            paths = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, Path)]
            option = kinds[name].__metadata__[0]
            if paths and (option.exists or (option.file_okay and option.dir_okay)):
                inputs[name] = [describe(path) for path in paths]
            elif paths:
                outputs += paths
            elif name == "settings":
                settings |= json.loads(value)
            elif value not in (None, [], ""):
                settings[name] = value
        code = step_digest(step.__module__.rpartition(".")[2], step.__name__)
        config, seeds = _lineage(step.__name__, settings, [file for files in inputs.values() for file in files])
        for path in outputs:
            record = Record(
                file=_described(path),
                step=step.__name__,
                code=code,
                settings=settings,
                inputs=inputs,
                config=config,
                seeds=seeds,
            )
            with written(record_path(path)) as temporary:
                temporary.write_text(record.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")

    return run


def record_path(path: Path) -> Path:
    """Return where the record of a file lies."""
    return path.parent / "provenance" / f"{path.name}.json"


def read_record(path: Path) -> Record | None:
    """Return the record of a file; none: it was not written by a step, or before there were records.

    Raises:
        UserError: the record is damaged.
    """
    try:
        return Record.model_validate_json(record_path(path).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise UserError(f"{record_path(path)}: is not a record of a result ({reason}); delete it") from None


def _lineage(
    step: str, settings: dict[str, Any], inputs: list[File]
) -> tuple[dict[str, list[dict[str, Any]]], list[int]]:
    """Return configuration and seeds of a step and of all that its inputs came from."""
    own = {key: value for key, value in settings.items() if key not in RUN}
    found = [(step, own)] if own else []
    seeds = {settings["seed"]} if "seed" in settings else set()
    for record in filter(None, (read_record(Path(file.path).resolve()) for file in inputs)):
        found += [(name, each) for name, runs in record.config.items() for each in runs]
        seeds |= set(record.seeds)
    config: dict[str, list[dict[str, Any]]] = {}
    for name, each in sorted(found, key=json.dumps):
        runs = config.setdefault(name, [])
        if each not in runs:
            runs.append(each)
    return config, sorted(seeds)


def describe(path: Path) -> File:
    """Return size and digest of a file, the digest of a large one from its record."""
    if path.is_file() and path.stat().st_size > LARGE:
        record = read_record(path.resolve())
        if record is not None and record.file.size == path.stat().st_size:
            return record.file.model_copy(update={"path": str(path)})
    return _described(path)


def _described(path: Path) -> File:
    if not path.is_file():
        return File(path=str(path))
    return File(path=str(path), size=path.stat().st_size, sha256=file_digest(path))
