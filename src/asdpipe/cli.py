"""The command line: ``asdpipe STEP`` runs one step of the workflow; ``table`` prints results."""

import ast
import importlib
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from asdpipe.errors import UserError
from asdpipe.provenance.records import recorded
from asdpipe.steps import STEPS

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
logger = logging.getLogger("asdpipe")


@app.callback()
def setup(log: Annotated[Path | None, typer.Option(help="Write what happens to this file, too.")] = None) -> None:
    """Train anomalous-sound detectors without labels: the five-stage method, step by step."""
    console = logging.StreamHandler()
    console.setLevel(logging.WARNING if log else logging.INFO)
    handlers: list[logging.Handler] = [console]
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(log, mode="w"))
    # A line that does not fit on the disk is no traceback more.
    logging.raiseExceptions = False
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S", handlers=handlers
    )


@app.command()
def table(files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="auc.csv files.")]) -> None:
    """Print AUC per machine type (rows) of several auc.csv (columns), in percent."""
    # Only what prints needs rich.
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from asdpipe.steps.evaluate import comparison

    frame = comparison(files)
    printed = Table(
        box=box.SIMPLE,
        title="AUC [%]; official: the score of the data set's year",
        pad_edge=False,
        collapse_padding=True,
    )
    for column in ("split", "machine", *frame.columns):
        printed.add_column(column, no_wrap=True, justify="left" if column in ("split", "machine") else "right")
    for (split, machine), row in frame.iterrows():
        style = "bold" if machine in ("mean", "hmean", "official") else None
        printed.add_row(split, machine, *("" if math.isnan(value) else f"{value:.1f}" for value in row), style=style)
    Console().print(printed)
    if frame.isna().all(axis=None):
        Console().print("No test clip has a label, so there is no AUC; scores.csv has the scores.")


@app.command()
def explain(file: Annotated[Path, typer.Argument(exists=True, help="A result, e.g. results/stage5/auc.csv.")]) -> None:
    """Print where a result came from: steps, settings, seeds and digests, back to the recordings."""
    from rich.console import Console

    from asdpipe.provenance.explain import explain as tree_of

    console = Console()
    # Deep trees need more than the 80 columns that a pipe is given.
    console.width = console.width if console.is_terminal else 200
    console.print(tree_of(file), highlight=False)


def register_steps(arguments: Sequence[str]) -> None:
    """Add the step that is asked for; if none is, all of them, as the help lists them.

    Importing the steps that do not run would take longer than many a step.
    """
    steps = [(module, name) for module, commands in STEPS.items() for name in commands]
    asked = [(module, name) for module, name in steps if name.replace("_", "-") in arguments]
    for module, name in asked:
        step = getattr(importlib.import_module(f"asdpipe.steps.{module}"), name)
        app.command(name.replace("_", "-"))(recorded(step))
    if not asked:
        for module, name in steps:
            app.command(name.replace("_", "-"), help=_summary(module, name))(_not_asked_for)


def _summary(module: str, name: str) -> str:
    """Return the first line of a step's docstring, without importing the step."""
    tree = ast.parse(Path(__file__).with_name("steps").joinpath(f"{module}.py").read_text())
    step = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    return (ast.get_docstring(step) or "").partition("\n")[0]


def _not_asked_for() -> None:
    """Stand for a step that is only listed."""


def main() -> None:
    """Run the command line; what the user can mend ends in a message and exit code 1, without traceback."""
    register_steps(sys.argv[1:])
    try:
        app()
    except (UserError, OSError) as error:
        # An OSError (a full disk, a folder without permission) names the file and the reason itself.
        logger.error("%s", error)
        sys.exit(1)
    except ValidationError as error:
        logger.error("--settings: %s", error)
        sys.exit(1)
