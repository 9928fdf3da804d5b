"""Starts snakemake in forks of one process that has imported it and read our code: most of the time of a plan.

One JSON line on standard input per start: arguments, environment, folder, and the file for all output. One line on
standard output per end: the exit code.
"""

import json
import os
import sys
from pathlib import Path

from snakemake.cli import main

import asdpipe.plan
import asdpipe.table_plan  # noqa: F401
from asdpipe.provenance.code import code_digest
from asdpipe.steps import STEPS
from tests.forks import become


def start(arguments: list[str], environment: dict[str, str], folder: str, output: str) -> None:
    """Become snakemake; never returns."""
    with open(os.devnull) as nothing, open(output, "w") as file:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # The Snakefile puts its folder first in the jobs' PATH.
    sys.executable = str(Path(__file__).parent / "bin/jobs/python")
    become(main, ["snakemake", *arguments], environment, folder)


if __name__ == "__main__":
    for step in STEPS:
        code_digest(step)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            start(**request)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
