"""How far the runs in a folder of results are, read from files alone: here, or from the nodes of a cluster."""

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from asdpipe.errors import UserError
from asdpipe.monitor import planned_jobs
from asdpipe.progress import progress_file

SILENCE = 180.0
"""Seconds without a sign of life after which a step counts as gone; shared disks show changes late."""
# What is read of the end of a log, in bytes.
TAIL = 8192
LINES = 6
# Larger numbers are damage.
MOST = 2**53

# Logs lie in these folders: those of stages, and of everything else. No folder of recordings is listed.
STAGES = "*/*/seed*/stage*"
LOGS = (f"{STAGES}/logs", "*/logs", "*/*/logs", "*/*/*/logs")

State = Literal["failed", "silent", "running", "waiting"]


class Progress(BaseModel):
    """The content of a progress file, see ``asdpipe.progress``."""

    state: Literal["running", "failed"]
    step: str
    host: str
    pid: int
    started: float = Field(allow_inf_nan=False)
    task: str = ""
    done: int = Field(0, ge=0, lt=MOST)
    total: int = Field(0, ge=0, lt=MOST)
    unit: str = ""
    rate: float = Field(0.0, ge=0, allow_inf_nan=False)
    epoch: int | None = None
    epochs: int | None = None
    losses: dict[str, float] = {}

    @property
    def has_failed(self) -> bool:
        """Whether the step ended with an error, or its process was killed on this machine."""
        return self.state == "failed" or planned_jobs.has_ended(self.host, self.pid)

    @property
    def seconds_left(self) -> float | None:
        """Estimated time until the task ends, in s; None: unknown."""
        return (self.total - self.done) / self.rate if self.rate and self.done <= self.total else None


class Job(NamedTuple):
    """A job that runs, waits or failed."""

    rule: str
    log: Path
    state: State
    silence: float = 0.0
    """Seconds since the last sign of life."""
    progress: Progress | None = None


class Stage(NamedTuple):
    """A stage of one seed, or what is made before the first stage (stage 0)."""

    reached: str
    """The last of its results: "", "trained", "embedded", "done"."""
    jobs: list[Job]
    """Its jobs that are not done."""
    planned: int
    """Jobs that runs have planned, done or not."""


class Seed(NamedTuple):
    """A row of the table."""

    dataset: str
    method: str
    seed: int


class Status(NamedTuple):
    """All runs in a folder of results."""

    stages: dict[Seed, dict[int, Stage]]
    others: list[Job]
    """Jobs of no stage: recordings, pools, tables."""
    runs: list[planned_jobs.Run]
    """Runs of the workflow that are noted, without those that are known to have ended."""

    @property
    def jobs(self) -> list[Job]:
        """All jobs that are not done."""
        return [*self.others, *(job for seed in self.stages.values() for stage in seed.values() for job in stage.jobs)]


def read_status(results: Path, now: float | None = None) -> Status:
    """Read how far the runs in a folder are.

    Args:
        results: e.g. ``results``.
        now: seconds since 1970; by default of this machine's clock.

    Raises:
        UserError: there is no such folder.
    """
    if not results.is_dir():
        raise UserError(f"{results}: there is no such folder; give the folder of the results, where runs write them")
    now = time.time() if now is None else now
    runs = {file: run for file, run in planned_jobs.read(results).items() if not run.is_gone}
    planned: dict[Path, tuple[str, float]] = {}
    for file, run in runs.items():
        with suppress(OSError):
            # Times of files are compared with each other: clocks of nodes differ.
            begun = file.stat().st_mtime
            planned |= {results.joinpath(*job.log.parts[1:]): (job.rule, begun) for job in run.jobs}

    jobs = {log: job for log, (rule, begun) in planned.items() if (job := _planned_job(rule, log, begun, now))}
    for file in (file for folder in LOGS for file in results.glob(f"{folder}/[!.]*.progress.json")):
        log = file.with_name(file.name.removesuffix(".progress.json") + ".log")
        if log not in planned and (job := _known_job(log.stem, log, now)):
            jobs[log] = job

    stages: dict[Seed, dict[int, Stage]] = {}
    folders = {*results.glob(STAGES), *(log.parent.parent for log in (*planned, *jobs))}
    for folder in sorted(folders):
        if place := _place(results, folder):
            seed, number = place
            open_jobs = [job for log, job in sorted(jobs.items()) if log.parent.parent == folder]
            count = sum(log.parent.parent == folder for log in planned)
            stage = Stage(_reached(folder, number), open_jobs, count)
            if any(stage):
                stages.setdefault(seed, {})[number] = stage
    others = [job for log, job in sorted(jobs.items()) if not _place(results, log.parent.parent)]
    return Status(stages, others, list(runs.values()))


def last_lines(log: Path) -> list[str]:
    """Return the last lines of a log; none if it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            text = file.read(TAIL).decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-LINES:]


def _place(results: Path, folder: Path) -> tuple[Seed, int] | None:
    """Return row and column of the folder of a stage; None: it is something else."""
    found = re.fullmatch(r"([^/]+)/([^/]+)/seed(\d+)/stage(\d+)", folder.relative_to(results).as_posix())
    return (Seed(found[1], found[2], int(found[3])), int(found[4])) if found else None


def _planned_job(rule: str, log: Path, begun: float, now: float) -> Job | None:
    """Return a job of a run that began then; None: it is done."""
    try:
        is_new = log.stat().st_mtime >= begun
    except OSError:
        is_new = False
    # What an earlier run left behind says nothing.
    return _known_job(rule, log, now) if is_new else Job(rule, log, "waiting")


def _known_job(rule: str, log: Path, now: float) -> Job | None:
    """Return a job by its progress file, of which nothing but the time counts if it is damaged; None: there is none."""
    file, progress = progress_file(log), None
    try:
        with suppress(ValidationError):
            progress = Progress.model_validate_json(file.read_bytes())
        silence = max(0.0, now - file.stat().st_mtime)
    except OSError:
        return None
    state: State = "silent" if silence > SILENCE else "running"
    return Job(rule, log, "failed" if progress and progress.has_failed else state, silence, progress)


def _reached(folder: Path, stage: int) -> str:
    """Return the last result of a stage that is there."""
    results = {
        # Stage 0 has what the first training takes.
        "done": ("auc.csv", "scores.parquet") if stage else ("pseudo_labels.parquet", "selected.parquet"),
        "embedded": ("embeddings/test.parquet",),
        "trained": ("model.safetensors",),
    }
    return next((word for word, files in results.items() if any((folder / file).exists() for file in files)), "")
