"""The report of a data set's results, as one HTML file."""

import logging

from asdpipe.artifacts.files import written
from asdpipe.report.content import gather
from asdpipe.report.page import render
from asdpipe.steps.options import Device, InFolder, OutFile, Text

# So that it can be sent by mail and opened on a phone.
USUAL_BYTES = 15_000_000

logger = logging.getLogger(__name__)


def report(results: InFolder, dataset: Text, method: Text, page: OutFile, device: Device = "auto") -> None:
    """Write a report of the results that are there.

    Nothing is computed again but explanations of a few clips.

    Args:
        results: the folder results/.
        dataset, method: what the report is about; other methods of the data set are beside it.
    """
    text = render(gather(results, dataset, method, device))
    with written(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    size = page.stat().st_size
    if size > USUAL_BYTES:
        logger.warning("%s: has %.0f MB, as the data set has many clips and machine types", page, size / 1e6)
    logger.info("the report is in %s, %.1f MB", page, size / 1e6)
