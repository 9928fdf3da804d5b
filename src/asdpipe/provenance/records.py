"""Records of how files were made: ``provenance/NAME.json`` beside every file that a step writes.

Records are reproducible like the files: they hold no times, and paths as they were given to the step.
"""

import functools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from asdpipe.artifacts.files import file_digest, written
from asdpipe.errors import UserError
from asdpipe.provenance.code import code_digest

# The digest of a file larger than this (bytes) is taken from its record, without reading the file again.
LARGE = 64_000_000
# Of a chain of symlinks; the limit of Linux.
MOST_LINKS = 40
# Options that do not affect results.
NOT_RECORDED = {"device", "mirrors", "torch_compile"}
# Options that distinguish runs of a step with the same configuration.
RUN = {"seed", "stage", "shard"}

# Gives the targets of code_digest that the settings of a record select; it ignores keys that it does not know.
Targets = Callable[[dict[str, Any]], Sequence[str]]


class File(BaseModel):
    """A file or folder that a step reads or writes."""

    model_config = ConfigDict(frozen=True)

    path: str = Field(pattern=r"^[^\x00]*$")
    size: int | None = None
    """In bytes; none for folders, which have no digest."""
    sha256: str | None = None


class Record(BaseModel):
    """How a file was made."""

    model_config = ConfigDict(frozen=True)

    file: File
    step: str
    code: str
    """Digest of the code of the step and of its targets."""
    settings: dict[str, Any]
    """The step's ``--settings`` and its other options, such as seed and stage."""
    inputs: dict[str, list[File]]
    config: dict[str, list[dict[str, Any]]]
    """Settings of this step and of all steps before it, by step; several where runs of a step differ."""
    seeds: list[int]
    """Of this step and of all steps before it."""


def no_targets(settings: dict[str, Any]) -> Sequence[str]:
    """Return no targets: the settings select no code."""
    return ()


def recorded(step: Callable[..., None], targets: Targets = no_targets) -> Callable[..., None]:
    """Return a step that also writes the records of its outputs, after all of them are complete.

    Args:
        targets: as for the digest in the params of the step's rule, so that both are equal.
    """

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
        code = code_digest(step.__name__, targets(settings))
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
    """Return the path of a file's record."""
    return path.parent / "provenance" / f"{path.name}.json"


def read_record(path: Path) -> Record | None:
    """Return the record of a file, or None; for a symlink the record beside its target counts before the one beside it.

    Raises:
        UserError: the record is damaged.
    """
    chain = [path]
    while chain[-1].is_symlink() and len(chain) < MOST_LINKS:
        chain.append(chain[-1].parent / chain[-1].readlink())
    for place in map(record_path, reversed(chain)):
        try:
            return Record.model_validate_json(place.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise UserError(f"{place}: is not a record of a result ({reason}); delete it") from None
    return None


def base_folder(path: Path, record: Record) -> Path | None:
    """Return the folder that the paths in a file's record are relative to, also where symlinks lead to the file.

    None: no folder above the file fits, because the file was moved or its folders were renamed.
    """
    if Path(record.file.path).is_absolute():
        return Path.cwd()
    for folder in (*path.absolute().parents, *Path(os.path.realpath(path)).parents):
        recorded = folder / record.file.path
        if recorded.exists() and recorded.samefile(path):
            return folder
    return None


def _lineage(
    step: str, settings: dict[str, Any], inputs: list[File]
) -> tuple[dict[str, list[dict[str, Any]]], list[int]]:
    """Return the configuration and the seeds of a step and of all steps before it."""
    own = {key: value for key, value in settings.items() if key not in RUN}
    found = [(step, own)] if own else []
    seeds = {settings["seed"]} if "seed" in settings else set()
    for record in filter(None, (read_record(Path(file.path)) for file in inputs)):
        found += [(name, each) for name, runs in record.config.items() for each in runs]
        seeds |= set(record.seeds)
    config: dict[str, list[dict[str, Any]]] = {}
    for name, each in sorted(found, key=json.dumps):
        runs = config.setdefault(name, [])
        if each not in runs:
            runs.append(each)
    return config, sorted(seeds)


def describe(path: Path) -> File:
    """Return size and digest of a file; the digest of a large file comes from its record if the size is the same."""
    if path.is_file() and path.stat().st_size > LARGE:
        record = read_record(path)
        if record is not None and record.file.size == path.stat().st_size:
            return record.file.model_copy(update={"path": str(path)})
    return _described(path)


def _described(path: Path) -> File:
    if not path.is_file():
        return File(path=str(path))
    return File(path=str(path), size=path.stat().st_size, sha256=file_digest(path))
