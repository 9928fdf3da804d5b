"""What a run of the workflow has planned: a file per run in the folder of the results, while Snakemake is running."""

import json
import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ValidationError

# Hidden, so that it is no data set.
FOLDER = ".runs"


class Job(BaseModel):
    """A job of the workflow."""

    rule: str
    log: Path
    """Relative to the folder that Snakemake runs in, e.g. ``results/demo/ba/seed0/stage1/logs/train.log``."""


class Run(BaseModel):
    """A run of the workflow."""

    host: str
    pid: int
    started: float
    """Seconds since 1970, of the clock of ``host``."""
    jobs: list[Job]

    @property
    def is_gone(self) -> bool:
        """Whether Snakemake is known to have ended."""
        return has_ended(self.host, self.pid)


def has_ended(host: str, pid: int) -> bool:
    """Tell whether a process is known to have ended; of another host nothing is known."""
    if host != socket.gethostname() or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


def note(results: Path, jobs: Iterable[tuple[str, str]]) -> None:
    """Write rules and logs of the planned jobs of this process, and remove what runs that were killed left behind.

    A file that cannot be written is left out: it only shows what waits.
    """
    host, pid = socket.gethostname(), os.getpid()
    run = {"host": host, "pid": pid, "started": time.time(), "jobs": [{"rule": rule, "log": log} for rule, log in jobs]}
    for file, known in read(results).items():
        if known.is_gone:
            file.unlink(missing_ok=True)
    path = results / FOLDER / f"{host}-{pid}.json"
    temporary = path.with_name(f".{path.name}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(run) + "\n", encoding="utf-8")
        temporary.replace(path)


def forget(results: Path) -> None:
    """Remove the file of this process, and the folder if it is empty."""
    with suppress(OSError):
        (results / FOLDER / f"{socket.gethostname()}-{os.getpid()}.json").unlink(missing_ok=True)
        (results / FOLDER).rmdir()


def read(results: Path) -> dict[Path, Run]:
    """Return the runs that are noted; files that are damaged, or vanish while they are read, are left out."""
    found = {}
    for file in sorted((results / FOLDER).glob("[!.]*.json")):
        with suppress(OSError, ValidationError):
            found[file] = Run.model_validate_json(file.read_bytes())
    return found
