"""Evaluate: AUC and official score of one seed, per machine type and section."""

import logging
import math
from typing import Annotated

import numpy as np
import pandas as pd
from typer import Option

from asdpipe.artifacts.files import write_csv
from asdpipe.artifacts.tables import read_table
from asdpipe.errors import UserError
from asdpipe.method import metrics
from asdpipe.method.metrics import METRICS, OFFICIAL_TERMS, Scoring
from asdpipe.paper.results import KEY, with_means
from asdpipe.steps.options import InFile, Number, OutFile, Text

# A row of the table: the manifest's ``part`` (dev, eval) is the ``split`` of auc.csv.
GROUP = ["part", "machine", "section"]
ROW = ["split", "machine", "section"]

logger = logging.getLogger(__name__)


def evaluate(
    dataset: Text,
    method: Text,
    stage: Number,
    seed: Number,
    clips: InFile,
    scores: InFile,
    auc: OutFile,
    scoring: Annotated[Scoring, Option(help="Formula of the official score: of 2020, 2021, or 2022 and later.")] = (
        "dcase2022"
    ),
) -> None:
    """Write the metrics of one seed, in percent.

    A row per machine type and section, and means per split. Metrics that lack labels or domains stay empty, with a
    warning in the log.

    Raises:
        UserError: a score is infinite.
    """
    table = read_table("clips", clips)
    test = table[table.split == "test"].merge(read_table("scores", scores), on="clip_id")
    if not np.isfinite(test.score).all():
        raise UserError(f"{scores}: the score of a test clip is infinite; delete it and run again")
    _warn_of_gaps(table, test)
    rows = []
    for (split, machine, section), part in test[test.is_normal.notna()].groupby(GROUP):
        is_normal = part.is_normal.to_numpy(dtype=bool)
        values = metrics.evaluate(is_normal, part.domain.tolist(), part.score.to_numpy(), scoring)
        if missing := [name for name in ("auc", *OFFICIAL_TERMS[scoring]) if math.isnan(values[name])]:
            logger.warning(
                "%s %s %s: no %s, the labelled test clips lack a class or a domain for it",
                *(split, machine, section, ", ".join(missing)),
            )
        rows.append((split, machine, section, *values.values()))
    measured = pd.DataFrame(rows, columns=[*ROW, *METRICS]).astype(dict.fromkeys(METRICS, float))
    # Machine types and sections without labels have a row, too, without values.
    all_rows = test[GROUP].drop_duplicates().set_axis(ROW, axis=1).sort_values(ROW)
    frame = with_means(all_rows.merge(measured, on=ROW, how="left"), scoring)
    frame[list(METRICS)] *= 100
    frame = frame.assign(dataset=dataset, method=method, stage=stage, seed=seed)
    write_csv(frame[[*KEY, "seed", *METRICS]], auc)


def _warn_of_gaps(table: pd.DataFrame, test: pd.DataFrame) -> None:
    """Log which machine types have no test clips, and which test clips have no label."""
    untested = sorted(set(zip(table.part, table.machine, strict=True)) - set(zip(test.part, test.machine, strict=True)))
    if untested:
        logger.warning("no test clips, so no metrics: %s", ", ".join(map(" ".join, untested)))
    unlabelled = test[test.is_normal.isna()]
    if len(unlabelled):
        names = unlabelled[GROUP].drop_duplicates().agg(" ".join, axis=1)
        logger.warning(
            "%d of %d test clips have no label and do not count, e.g. %s; they are of %s",
            *(len(unlabelled), len(test), unlabelled.path.iloc[0], ", ".join(names)),
        )
