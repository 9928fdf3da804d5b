"""The command line: ``asdpipe STEP`` runs one step of the workflow; ``table`` prints results."""

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
from asdpipe.provenance import recorded
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
    from asdpipe.explain import explain as tree_of

    console = Console()
    # Deep trees need more than the 80 columns that a pipe is given.
    console.width = console.width if console.is_terminal else 200
    console.print(tree_of(file), highlight=False)


def register_steps(arguments: Sequence[str]) -> None:
    """Add the step that is asked for, or all of them for the help: imports of the others would only cost time."""
    asked = [each for each in arguments if not each.startswith("-")]
    for module, commands in STEPS.items():
        names = [name for name in commands if name.replace("_", "-") in asked]
        if names or not any(each in asked for each in ("table", "explain", *_all_names())):
            steps = importlib.import_module(f"asdpipe.steps.{module}")
            for name in commands:
                app.command(name.replace("_", "-"))(recorded(getattr(steps, name)))


def _all_names() -> list[str]:
    return [name.replace("_", "-") for commands in STEPS.values() for name in commands]


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
