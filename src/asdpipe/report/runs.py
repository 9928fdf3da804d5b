"""The finished and unfinished runs of a data set: folders of methods, seeds and stages."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from asdpipe.errors import UserError
from asdpipe.monitor.origin import AUC, SEED, STAGE


class Run(NamedTuple):
    """A stage of a method, by one seed."""

    method: str
    stage: int
    seed: int
    folder: Path

    @property
    def auc(self) -> Path:
        """Its metrics."""
        return self.folder / AUC

    @property
    def is_finished(self) -> bool:
        """Whether it has metrics."""
        return self.auc.exists()


def find_runs(results: Path, dataset: str) -> list[Run]:
    """Return all runs of a data set, finished or not, by method, stage and seed."""
    found = []
    for folder in (results / dataset).glob("*/seed*/stage*"):
        seed, stage = SEED.fullmatch(folder.parent.name), STAGE.fullmatch(folder.name)
        if seed and stage and folder.is_dir():
            found.append(Run(folder.parents[1].name, int(stage[1]), int(seed[1]), folder))
    return sorted(found)


def shown_run(runs: Sequence[Run], method: str) -> Run:
    """Return the run whose clips are shown: of the method, the last finished stage, and of that the first seed.

    Without a finished run of the method, another method's is shown.

    Raises:
        UserError: no run is finished.
    """
    finished = [run for run in runs if run.is_finished]
    of_method = [run for run in finished if run.method == method] or finished
    if not of_method:
        raise UserError(
            f"there is nothing to report yet: no run has an {AUC}. Let the workflow finish one first, e.g. "
            "snakemake --cores 2, and make the report then"
        )
    last = max(run.stage for run in of_method)
    return next(run for run in of_method if run.stage == last)


def compared_runs(runs: Sequence[Run], shown: Run) -> list[list[Run]]:
    """Return the finished runs by system: the last stage of every other method, then all stages of the shown one."""
    finished = [run for run in runs if run.is_finished]
    last = {method: max(run.stage for run in finished if run.method == method) for method in _methods(finished)}
    others = [(method, stage) for method, stage in last.items() if method != shown.method]
    own = sorted({(run.method, run.stage) for run in finished if run.method == shown.method})
    return [[run for run in finished if (run.method, run.stage) == system] for system in (*others, *own)]


def report_files(results: Path, dataset: str) -> list[Path]:
    """Return the files that a report of a data set shows, as far as they are there."""
    names = ("*.csv", "*.parquet", "model.json", "embeddings/*.parquet", "monitor/*.parquet")
    folders = [run.folder for run in find_runs(results, dataset)]
    return [file for folder in folders for name in names for file in sorted(folder.glob(name))]


def _methods(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run.method for run in runs))
