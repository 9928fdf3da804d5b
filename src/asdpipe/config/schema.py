"""The whole configuration: every key with its default, bounds and meaning.

Defaults are the values of the paper; ``config/*.yaml`` state only the differences.
``workflow/schemas/config.schema.yaml`` is generated from these models (``make docs``).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails

from asdpipe.config.base import Name, PositiveInt, Section, merge
from asdpipe.config.checkpoints import KNOWN_CHECKPOINTS, Checkpoint
from asdpipe.config.data import Dataset, DcaseDataset, DemoDataset, Download, UnionDataset
from asdpipe.config.method import KNOWN_METHODS, Method, Sections
from asdpipe.config.monitor import Monitor
from asdpipe.config.pools import DemoPool, Pool
from asdpipe.data.dcase.years import YEARS
from asdpipe.errors import UserError

# Folders below results/ that do not belong to a data set.
RESERVED = re.compile(r"checkpoints|data|external|tables|stage\d+")

KNOWN_DATASETS: dict[str, Any] = {f"dcase{year}": {"format": "dcase", "year": year} for year in YEARS}


class Tables(Section):
    """Which cells of the paper's tables are run (results/tables/); the others stay empty."""

    datasets: tuple[Name, ...] | None = Field(None, description="Data sets; none: the configured one.")
    methods: tuple[Name, ...] | None = Field(None, description="Methods; none: all of the table.")


class Config(Sections):
    """The whole configuration."""

    dataset: Name = Field(description="The data set that results/stage{n}/auc.csv reports.")
    method: Name = Field("ba_trp_ps_ex", description="The method that results/stage{n}/auc.csv reports.")
    yardstick: Name | None = Field("raw_logmel", description="A training-free method to print beside it; none: none.")
    stages: PositiveInt = Field(5, description="Stages that `snakemake` without a target runs.")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0, 1, 2, 3, 4), min_length=1, description="One training per seed; results are means over them."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where networks run; auto: a GPU if there is.")
    torch_compile: bool = Field(
        False,
        description="Compile networks for training: costs minutes at the start of each, and a C++ compiler.",
    )
    track_code: bool = Field(
        True, description="Run a step again when code that it uses has changed; false: only settings and inputs count."
    )
    monitor: Monitor = Monitor()
    tables: Tables = Tables()
    data_root: str | None = Field(
        None, description="Fills {data_root} in the roots of data sets and pools, and in files of checkpoints."
    )
    download: Download = Download()
    datasets: dict[Name, Dataset] = Field(
        {},
        validate_default=True,
        description="More data sets than dcase2020 to dcase2025, or changes of these, by name.",
    )
    pools: dict[Name, Pool] = Field({}, description="External pools by name.")
    checkpoints: dict[Name, Checkpoint] = Field(
        {},
        validate_default=True,
        description="Pre-trained weights by name: files in an official layout; changes of the known names, or more.",
    )
    methods: dict[Name, dict[str, Any]] = Field(
        {},
        validate_default=True,
        description="More methods than those of src/asdpipe/config/methods.yaml, or changes of these; each states only "
        "what differs from its parent, or else from the sections above.",
    )
    _resolved: dict[str, Method] = PrivateAttr({})

    @field_validator("methods", mode="before")
    @classmethod
    def _with_known_methods(cls, methods: object) -> object:
        return merge(KNOWN_METHODS, methods) if isinstance(methods, Mapping) else methods

    @field_validator("datasets", mode="before")
    @classmethod
    def _with_known_datasets(cls, datasets: object) -> object:
        return merge(KNOWN_DATASETS, datasets) if isinstance(datasets, Mapping) else datasets

    @field_validator("checkpoints", mode="before")
    @classmethod
    def _with_known_checkpoints(cls, checkpoints: object) -> object:
        return merge(KNOWN_CHECKPOINTS, checkpoints) if isinstance(checkpoints, Mapping) else checkpoints

    @model_validator(mode="after")
    def _resolve_methods(self) -> Self:
        """Validate methods after merging: the keys of a section depend on its kind, which may come from a parent."""
        problems: list[InitErrorDetails] = []
        above = self.model_dump(mode="json", exclude_unset=True, include=set(Sections.model_fields))
        for name in self.methods:
            line = self.lineage(name)
            settings = above
            for ancestor in reversed(line):
                settings = merge(settings, self.methods[ancestor])
            try:
                self._resolved[name] = Method.model_validate(settings)
            except ValidationError as error:
                problems += [
                    InitErrorDetails(
                        type=found["type"],
                        loc=self._stated(line, found["loc"]),
                        input=found["input"],
                        ctx=found.get("ctx", {}),
                    )
                    for found in error.errors()
                ]
        if problems:
            raise ValidationError.from_exception_data("Config", problems)
        return self

    def _stated(self, line: Sequence[str], location: tuple[int | str, ...]) -> tuple[int | str, ...]:
        """Return where a key of a resolved method was set: in the method, a parent, or a top-level section."""
        for name in line:
            if location and location[0] in self.methods[name]:
                return ("methods", name, *location)
        return location

    def resolve_method(self, name: str) -> Method:
        """Return a method merged with its parents and the top-level sections.

        Raises:
            UserError: no such method.
        """
        if name not in self._resolved:
            raise UserError(unknown("method", name, self.methods))
        return self._resolved[name]

    def lineage(self, name: str) -> list[str]:
        """Return a method and its parents, the nearest first.

        Raises:
            UserError: no such method or parent, or the parents form a circle.
        """
        if name not in self.methods:
            raise UserError(unknown("method", name, self.methods))
        line = [name]
        while (parent := self.methods[line[-1]].get("parent")) is not None:
            if parent not in self.methods:
                raise UserError(f"methods.{line[-1]}.parent: " + unknown("method", parent, self.methods))
            if parent in line:
                circle = " -> ".join([*line[line.index(parent) :], parent])
                raise UserError(f"methods.{parent}.parent: the parents form a circle: {circle}; remove one")
            line.append(parent)
        return line

    def fused(self, name: str, above: tuple[str, ...] = ()) -> list[str]:
        """Return the methods with embeddings that the scores of a method come from; without fusion, itself.

        Args:
            above: fusions that it is part of.

        Raises:
            UserError: no such method, or the fusions form a circle.
        """
        fusion = self.resolve_method(name).fusion
        if fusion is None:
            return [name]
        if name in above:
            circle = " -> ".join([*above[above.index(name) :], name])
            raise UserError(f"methods.{name}.fusion.methods: the fusions form a circle: {circle}; remove one")
        return list(dict.fromkeys(each for member in fusion.methods for each in self.fused(member, (*above, name))))

    def owner_of_first_model(self, name: str) -> str:
        """Return the method that trains stage 1 of a method: start_from, a parent with the same settings, or itself."""
        method = self.resolve_method(name)
        if method.start_from is not None:
            return self.owner_of_first_model(method.start_from)
        line = [(other, self.resolve_method(other)) for other in self._sharing(name)]
        same = [other for other, settings in line if settings.first_model == method.first_model]
        return [other for other in same if self.resolve_method(other).start_from is None][-1]

    def owner_of_models(self, name: str) -> str:
        """Return the method that trains all stages of a method: a parent that differs only in scoring, or itself."""
        method, first = self.resolve_method(name), self.owner_of_first_model(name)
        line = [(other, self.resolve_method(other)) for other in self._sharing(name)]
        same = [other for other, settings in line if settings.every_model == method.every_model]
        return [other for other in same if self.owner_of_first_model(other) == first][-1]

    def owner_of_candidates(self, name: str) -> str:
        """Return the method that ranks the candidates of a method's labels: a parent with the same, or itself."""
        candidates = self.resolve_method(name).candidates
        return [other for other in self.lineage(name) if self.resolve_method(other).candidates == candidates][-1]

    def _sharing(self, name: str) -> list[str]:
        """Return the methods whose models a method may use: itself and, if it is trained, its parents."""
        return self.lineage(name) if self.resolve_method(name).training.trains else [name]

    def resolve_dataset(self, name: str) -> Dataset:
        """Return a data set with ``{data_root}`` filled in, and ``download`` or the score of a union decided.

        Raises:
            UserError: no such data set, or data_root is missing.
        """
        if name not in self.datasets:
            raise UserError(unknown("data set", name, self.datasets))
        dataset = self.datasets[name]
        if isinstance(dataset, DemoDataset):
            return dataset
        if isinstance(dataset, UnionDataset):
            of_tested = {self.datasets[member].official for member in dataset.members("test")}
            scoring = dataset.scoring or (of_tested.pop() if len(of_tested) == 1 else None)
            return dataset.model_copy(update={"scoring": scoring})
        root = f"downloads/{name}" if dataset.fetched and dataset.root is None else dataset.root
        update: dict[str, Any] = {"root": self._root(f"datasets.{name}.root", root)}
        if isinstance(dataset, DcaseDataset):
            truth = dataset.ground_truth
            truth = truth and self._root(f"datasets.{name}.ground_truth", truth)
            update |= {"download": dataset.fetched, "ground_truth": truth}
        return dataset.model_copy(update=update)

    def resolve_pool(self, name: str) -> Pool:
        """Return an external pool with ``{data_root}`` filled in.

        Raises:
            UserError: no such pool, or data_root is missing.
        """
        if name not in self.pools:
            raise UserError(unknown("pool", name, self.pools))
        pool = self.pools[name]
        if isinstance(pool, DemoPool):
            return pool
        return pool.model_copy(update={"root": self._root(f"pools.{name}.root", pool.root)})

    def resolve_checkpoint(self, name: str) -> Checkpoint:
        """Return a checkpoint with ``{data_root}`` filled in; either its file or its address is set.

        Raises:
            UserError: no such checkpoint, neither file nor address, or data_root is missing.
        """
        if name not in self.checkpoints:
            raise UserError(unknown("checkpoint", name, self.checkpoints))
        checkpoint, key = self.checkpoints[name], f"checkpoints.{name}.file"
        if checkpoint.file is not None:
            return checkpoint.model_copy(update={"file": self._filled(key, checkpoint.file), "url": None})
        if checkpoint.url is None:
            example = f"--config 'checkpoints={{{name}: {{file: PATH}}}}'"
            message = f"{key} is not set, and no address is known: give the file (docs/pretrained.md), {example}"
            raise UserError(message)
        return checkpoint

    def _root(self, key: str, root: str | None) -> str:
        if root is None:
            raise UserError(f"{key} is not set: give the folder of the recordings")
        return self._filled(key, root)

    def _filled(self, key: str, path: str) -> str:
        """Return a path with ``{data_root}`` filled in."""
        if "{data_root}" not in path:
            return path
        if self.data_root is None:
            raise UserError(f"{key} is {path!r}, but data_root is not set: add --config data_root=FOLDER")
        return path.replace("{data_root}", self.data_root.rstrip("/"))


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name, with the known ones."""
    return f"there is no {kind} {name!r}; the config has: {', '.join(sorted(known)) or 'none'}"
