"""Command line: what people use, and below ``asdpipe step`` every step of the workflow."""

import importlib
import logging
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from asdpipe.errors import UserError
from asdpipe.installation import commands as installation
from asdpipe.monitor import commands
from asdpipe.progress import SHOWN, with_progress_file
from asdpipe.steps import STEPS

logger = logging.getLogger("asdpipe")


class StepGroup(TyperGroup):
    """The steps of the workflow; the module of a step is imported only when the step runs."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, summary in STEPS.items():
            # Placeholders for help and suggestions: importing every step takes seconds.
            self.add_command(
                TyperCommand(_command_name(name), help=summary, rich_help_panel="Steps, in the order of the data flow")
            )

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return name, command and remaining arguments; replace the placeholder of a step by its command."""
        command_name, command, rest = super().resolve_command(ctx, args)
        for step in STEPS:
            if _command_name(step) == command_name:
                command = _step_command(step, ctx.find_root().params["log"])
        return command_name, command, rest


app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for command in (*installation.ALL, *commands.ALL):
    app.command()(command)


def _command_name(step: str) -> str:
    return step.replace("_", "-")


def _step_command(step: str, log: str | None) -> Any:
    """Import a step and return its command; beside the log it keeps a file that says how far it is."""
    from asdpipe.config.targets import targets
    from asdpipe.provenance.records import recorded

    function = getattr(importlib.import_module(f"asdpipe.steps.{step}"), step)
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    run = recorded(function, targets)
    single.command(_command_name(step))(with_progress_file(run, Path(log)) if log else run)
    return typer.main.get_command(single)


@app.callback()
def setup(log: Annotated[Path | None, typer.Option(help="Also write the log to this file.")] = None) -> None:
    """Train anomalous sound detectors without attribute labels, in iterative stages."""
    console = logging.StreamHandler()
    console.setLevel(SHOWN if log else logging.INFO)
    handlers: list[logging.Handler] = [console]
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(log, mode="w"))
    # A log line that cannot be written (full disk) prints no traceback.
    logging.raiseExceptions = False
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S", handlers=handlers
    )


@app.command()
def table(files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="auc.csv files.")]) -> None:
    """Print AUC per machine type (rows) of several auc.csv (columns), in percent."""
    # Imports of a second are within the functions that need them.
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from asdpipe.paper.results import comparison

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
def explain(
    file: Annotated[Path, typer.Argument(exists=True, help="A result file, e.g. results/stage5/auc.csv.")],
) -> None:
    """Print how a result was produced: steps, settings, seeds and digests, back to the recordings."""
    from rich.console import Console

    from asdpipe.config.targets import targets
    from asdpipe.provenance.explain import explain as explain_tree

    console = Console()
    # A pipe has 80 columns by default, too few for deep trees.
    console.width = console.width if console.is_terminal else 200
    console.print(explain_tree(file, targets), highlight=False)


app.add_typer(
    typer.Typer(cls=StepGroup, no_args_is_help=True), name="step", help="Run one step, as the rules of the workflow do."
)


def main() -> None:
    """Run the command line; user errors print a message, without traceback, and exit with code 1."""
    try:
        app()
    except (UserError, OSError) as error:
        # The message of an OSError (full disk, missing permission) names the file and the reason.
        logger.error("%s", error)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("asdpipe"):
            raise
        # The installation is one for bundles alone.
        logger.error("this command needs %s, which is not installed: pip install 'asdpipe[train]'", error.name)
        sys.exit(1)
    except Exception as error:
        # Not where only bundles are scored.
        pydantic = sys.modules.get("pydantic")
        if pydantic is None or not isinstance(error, pydantic.ValidationError):
            raise
        logger.error("invalid settings: %s", error)
        sys.exit(1)
