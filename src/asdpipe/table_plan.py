"""Which runs make the tables of the two papers."""

import itertools
import json
from collections.abc import Sequence
from functools import cached_property

from asdpipe.config.base import canonical_json
from asdpipe.data_plan import Inputs
from asdpipe.errors import UserError
from asdpipe.paper import published as paper
from asdpipe.paper import top_m
from asdpipe.plan import Plan


class TablePlan:
    """The part of a plan that the tables of the papers are about.

    Args:
        plan: of the configuration.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    @cached_property
    def datasets(self) -> Sequence[str]:
        """The data sets of the tables."""
        return self.plan.config.tables.datasets or [self.plan.config.dataset]

    def runs(self, table: str, dataset: str) -> list[paper.Run]:
        """Return the runs of a table that are asked for; without a pool, not those that take external clips.

        Raises:
            UserError: no such table.
        """
        asked_for, pool = self.plan.config.tables.methods, self.plan.dataset(dataset).pool
        runs = [run for run in paper.runs(table) if asked_for is None or run.method in asked_for]
        return [run for run in runs if pool or not self.plan.method(run.method).takes_external]

    def inputs(self, table: str) -> Inputs:
        """Return the results of every run and seed of a table, and the selections that make Table 4's groups."""
        aucs = [file for name in self.datasets for run in self.runs(table, name) for file in self._aucs(name, *run)]
        folders = [self.plan.folder(dataset, "ba_ex", str(seed), 1) for dataset, seed in self._groups(table)]
        return {"aucs": aucs, "selected": [f"{folder}/selected.parquet" for folder in folders]}

    def _aucs(self, dataset: str, method: str, stage: int) -> list[str]:
        """Return the results of a run, one per seed."""
        # What is not trained is the same for every seed.
        seeds = self.plan.config.seeds[: None if self.plan.method(method).training.trains else 1]
        return [f"{self.plan.folder(dataset, method, str(seed), stage)}/auc.csv" for seed in seeds]

    def _groups(self, table: str) -> list[tuple[str, int]]:
        """Return data set and seed of each selection whose N_out makes the groups of Table 4."""
        datasets = [name for name in self.datasets if self.plan.dataset(name).pool and self.runs(table, name)]
        return [(dataset, seed) for dataset in datasets for seed in self.plan.config.seeds] if table == "4" else []

    def selected_of(self, table: str) -> list[str]:
        """Return the data set of each selection of ``table``."""
        return [dataset for dataset, _ in self._groups(table)]

    def years(self) -> str:
        """Return the year of every data set as JSON, in the order of the columns."""
        return json.dumps({name: self.plan.dataset(name).year for name in self.datasets})

    def n_max(self, table: str) -> str:
        """Return N_max of the methods of Table 4 as JSON; the others do not print it."""
        methods = [run.method for run in paper.runs("4")] if table == "4" else []
        limits = {
            name: self.plan.method(name).external.n_max for name in methods if self.plan.method(name).takes_external
        }
        return canonical_json(limits)

    # ---------------------------------------------------------------- Top-M

    def top_m_methods(self, backbone: str) -> list[str]:
        """Return the methods of a table that are asked for; the others stay empty.

        Without ``tables.methods``: those of the paper that the configuration has, and our other systems that have all
        that they need.

        Raises:
            UserError: no such backbone.
        """
        known, asked_for = self.plan.config.methods, self.plan.config.tables.methods
        methods = [name for name in top_m.methods(backbone) if name in known]
        if asked_for is not None:
            return [name for name in methods if name in asked_for]
        return [name for name in methods if name not in top_m.others(backbone) or self._has_weights(name)]

    def _has_weights(self, method: str) -> bool:
        """Tell whether the checkpoint that a method starts from, if any, is there or can be fetched."""
        checkpoint = self.plan.method(method).network.pretrained
        if checkpoint not in self.plan.config.checkpoints:
            return True
        try:
            self.plan.import_checkpoint(checkpoint)
        except UserError:
            return False
        return True

    def top_m_inputs(self, backbone: str) -> Inputs:
        """Return the results of every run and seed of a table of the Top-M paper."""
        methods = self.top_m_methods(backbone)
        return {"aucs": [file for name in self.datasets for method in methods for file in self._aucs(name, method, 1)]}

    def top_m_machines(self) -> str:
        """Return, as JSON, the paper's name of the machine types of every data set: those of DCASE 2025."""
        return json.dumps({name: self._named(name) for name in self.datasets})

    def _named(self, dataset: str) -> dict[str, str]:
        """Return the paper's name of each machine type of a data set."""
        theirs = [name for name in self.plan.members(dataset, "test") if self.plan.dataset(name).year == top_m.YEAR]
        # Of two, nobody knows which is the paper's.
        pairs = itertools.product(theirs if len(theirs) == 1 else [], top_m.MACHINES)
        return {self.plan.machine_name(dataset, member, machine): machine for member, machine in pairs}
