"""Write a table of the second paper with our results beside the published ones."""

import logging

from pydantic import TypeAdapter

from asdpipe.artifacts.files import write_csv, written
from asdpipe.paper.top_m_tables import make_top_m_table
from asdpipe.steps.options import AucFiles, OutFile, Text, parsed

logger = logging.getLogger(__name__)


def write_top_m_table(
    backbone: Text,
    datasets: Text,
    csv: OutFile,
    markdown: OutFile,
    aucs: AucFiles = [],  # noqa: B006 (typer reads it, nobody changes it)
) -> None:
    """Write a table of the Top-M paper with our results beside the published ones.

    As csv and markdown: ours, the published number and the difference, in percent.

    Args:
        backbone: audio_mae or beats.
        datasets: JSON, the paper's name of the machine types of every data set; empty where it has none.

    Raises:
        UserError: no such backbone, or inputs that do not belong together.
    """
    machines = parsed("datasets", datasets, TypeAdapter(dict[str, dict[str, str]]))
    frame, document = make_top_m_table(backbone, machines, aucs)
    write_csv(frame, csv)
    with written(markdown) as temporary:
        temporary.write_text(document, encoding="utf-8")
    logger.info("%s: %d of %d cells have a result of ours", backbone, frame["mean"].notna().sum(), len(frame))
