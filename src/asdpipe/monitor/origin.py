"""What the scores of a stage were made from, found by the records beside the results."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from asdpipe.errors import UserError
from asdpipe.provenance.records import Record, base_folder, describe, read_record

SCORES, AUC = "scores.parquet", "auc.csv"
SEED, STAGE = re.compile(r"seed(\d+)"), re.compile(r"stage(\d+)")
MOST_LISTED = 6
Settings = TypeVar("Settings", bound=BaseModel)


class Origin(NamedTuple):
    """A result, and how it was made."""

    file: Path
    record: Record
    base: Path
    """Folder that the paths in the record are relative to."""

    def inputs(self, name: str) -> list[Path]:
        """Return the files of one of the step's options; none if it did not have the option.

        Raises:
            UserError: a file is missing, or has changed since the result was made from it.
        """
        found = []
        for file in self.record.inputs.get(name, []):
            path = self.base / file.path
            if not path.is_file():
                message = f"{path}: is missing, but {self.file} was made from it"
                raise UserError(f"{message}; run the workflow again, or copy it back: results/ must be whole")
            if describe(path).sha256 != file.sha256:
                raise UserError(f"{path}: has changed since {self.file} was made from it; run the workflow again")
            found.append(path)
        return found

    def input(self, name: str) -> Path:
        """Return the only file of an option; errors as for ``inputs``."""
        found = self.inputs(name)
        if len(found) != 1:
            raise UserError(f"{self.file}: its record names no {name}; delete it and run the workflow again")
        return found[0]

    def settings(self, kind: type[Settings]) -> Settings:
        """Return the settings of the step.

        Raises:
            UserError: they are of another version of asdpipe.
        """
        values: Mapping[str, Any] = self.record.settings
        try:
            return kind.model_validate({name: values[name] for name in kind.model_fields if name in values})
        except ValidationError as error:
            reason = f"{'.'.join(map(str, error.errors()[0]['loc']))}: {error.errors()[0]['msg']}"
            message = f"{self.file}: was made with settings that this version of asdpipe does not have ({reason})"
            raise UserError(f"{message}; run the workflow again") from None

    def number(self, name: str) -> int:
        """Return a numeric option of the step.

        Raises:
            UserError: the record does not have it.
        """
        value = self.record.settings.get(name)
        if not isinstance(value, int):
            raise UserError(f"{self.file}: its record has no {name}; delete it and run the workflow again")
        return value


def origin(file: Path) -> Origin:
    """Return how a result was made.

    Raises:
        UserError: it has no record, or was moved out of its folders, or has changed since it was made.
    """
    record = read_record(file)
    if record is None:
        raise UserError(
            f"{file}: has no record of how it was made ({file.parent / 'provenance'}); run the workflow again"
        )
    base = base_folder(file, record)
    if base is None:
        message = f"{file}: was made as {record.file.path}, but no folder above it has it by that name"
        raise UserError(f"{message}; move or copy the whole folder results/, and keep its name")
    if describe(file).sha256 != record.file.sha256:
        raise UserError(f"{file}: has changed since it was made; run the workflow again")
    return Origin(file, record, base)


def run_scores(folder: Path, stage: int | None = None) -> list[Origin]:
    """Return the scores of a stage's folder, or those of one stage by all seeds in a run's folder, by seed.

    Args:
        folder: of a stage, or of a run: ``results/DATASET/METHOD``, or that of one of its seeds.
        stage: of a run; None: the last one that all seeds have finished.

    Raises:
        UserError: there is no such stage, or the seeds were not made alike.
    """
    seeds = _numbered(folder, SEED) or ({0: folder} if _numbered(folder, STAGE) else {})
    if not seeds:
        if stage is not None:
            raise UserError(f"{folder}: has no folders of seeds or stages, so no stage can be chosen")
        return [stage_scores(folder)]
    finished = {
        path: {number: place for number, place in _numbered(path, STAGE).items() if _is_finished(place)}
        for path in seeds.values()
    }
    common = set.intersection(*map(set, finished.values()))
    if not common or (stage is not None and stage not in common):
        wanted = "the same stage" if stage is None else f"stage {stage}"
        has = "; ".join(f"{path.name}: {', '.join(map(str, stages)) or 'none'}" for path, stages in finished.items())
        message = f"{folder}: not all seeds have finished {wanted}; finished stages by folder: {has}"
        raise UserError(f"{message}; let the workflow finish, or give the folder of a stage")
    chosen = max(common) if stage is None else stage
    made = [stage_scores(stages[chosen]) for stages in finished.values()]
    for other in made[1:]:
        if other.record.config != made[0].record.config:
            message = f"{other.file}: was made with other settings than {made[0].file}"
            raise UserError(f"{message}; run the workflow again, or give the folder of a stage")
    return made


def _numbered(folder: Path, name: re.Pattern[str]) -> dict[int, Path]:
    """Return the folders in a folder that have such a name, by their numbers, in order."""
    if not folder.is_dir():
        return {}
    found = {int(match[1]): path for path in folder.iterdir() if (match := name.fullmatch(path.name)) and path.is_dir()}
    return dict(sorted(found.items()))


def _is_finished(stage: Path) -> bool:
    return (stage / SCORES).exists() or (stage / AUC).exists()


def stage_scores(folder: Path) -> Origin:
    """Return the scores of a stage; where another method owns them, the file lies in that method's folder.

    Raises:
        UserError: the folder is not that of a finished stage.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        example = "results/demo/ba_trp_ps_ex/seed0/stage5"
        raise UserError(f"{folder}: {what}; give the folder of a stage, such as {example}")
    if (folder / SCORES).exists():
        return origin(folder / SCORES)
    if (folder / AUC).exists() and "scores" in (made := origin(folder / AUC)).record.inputs:
        return origin(made.input("scores"))
    found = sorted(
        {file.parent for depth in ("*", "*/*", "*/*/*", "*/*/*/*") for file in folder.glob(f"{depth}/{SCORES}")}
    )
    if found:
        more = f" and {len(found) - MOST_LISTED} more" if len(found) > MOST_LISTED else ""
        listed = ", ".join(map(str, found[:MOST_LISTED]))
        raise UserError(f"{folder}: is not the folder of a stage; give one of {listed}{more}")
    if any((folder / name).exists() for name in ("model.json", "embeddings", "logs", "benchmarks")):
        message = f"{folder}: is the folder of a stage without scores ({SCORES})"
        raise UserError(f"{message}: let the workflow finish, e.g. snakemake ... {folder / AUC}")
    raise UserError(f"{folder}: is not the folder of a stage: it has no {SCORES}")
