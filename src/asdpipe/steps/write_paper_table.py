"""Write a table of the paper with our results beside the published ones."""

import logging
from pathlib import Path
from typing import Annotated, Literal

from pydantic import TypeAdapter
from typer import Option

from asdpipe.artifacts.files import write_csv, written
from asdpipe.errors import UserError
from asdpipe.paper.tables import make_table
from asdpipe.steps.options import AucFiles, OutFile, Text, parsed

SelectedFiles = Annotated[list[Path], Option(exists=True, dir_okay=False, help="Table 4: stage 1 of ba_ex, per seed.")]
Names = Annotated[list[str], Option(help="Table 4: the data set of each of these.")]

logger = logging.getLogger(__name__)


def write_paper_table(
    table: Text,
    datasets: Text,
    csv: OutFile,
    markdown: OutFile,
    n_max: Text = "{}",
    aucs: AucFiles = [],  # noqa: B006 (typer reads it, nobody changes it)
    selected: SelectedFiles = [],  # noqa: B006
    selected_of: Names = [],  # noqa: B006
) -> None:
    """Write a table of the paper with our results beside the published ones.

    As csv and markdown: ours, the published number and the difference, in percent.

    Args:
        table: 2, 3, 4, 5, A1 or A2.
        datasets: JSON, the year of DCASE (or null) of every data set, in the order of the columns.
        n_max: JSON, our N_max of every method of Table 4.

    Raises:
        UserError: no such table, or inputs that do not belong together.
    """
    if len(selected) != len(selected_of):
        message = f"{len(selected)} files of --selected but {len(selected_of)} data sets of --selected-of"
        raise UserError(f"{message}: give one of each per file")
    years = parsed("datasets", datasets, TypeAdapter(dict[str, int | None]))
    limits = parsed("n-max", n_max, TypeAdapter(dict[str, int | Literal["auto"]]))
    frame, document = make_table(table, years, limits, aucs, list(zip(selected_of, selected, strict=True)))
    write_csv(frame, csv)
    with written(markdown) as temporary:
        temporary.write_text(document, encoding="utf-8")
    logger.info("table %s: %d of %d cells have a result of ours", table, frame["mean"].notna().sum(), len(frame))
