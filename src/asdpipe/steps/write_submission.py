"""Write the submission: the files by which DCASE's evaluators score a system."""

import logging
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from typer import Option

from asdpipe.artifacts.files import whole_folder
from asdpipe.artifacts.tables import read_table
from asdpipe.errors import UserError
from asdpipe.method.metrics import Scoring
from asdpipe.paper.results import scored_clips
from asdpipe.steps.options import InFile, OutFolder

# One file per group of these columns of the manifest, and the part of its name that says so.
FILES: dict[Scoring, tuple[list[str], str]] = {
    "dcase2020": (["machine", "section"], "{}_id_{}"),
    "dcase2021": (["machine", "section", "domain"], "{}_section_{}_{}_test"),
    "dcase2022": (["machine", "section"], "{}_section_{}_test"),
}

logger = logging.getLogger(__name__)


def write_submission(
    clips: InFile,
    scores: InFile,
    thresholds: InFile,
    folder: OutFolder,
    scoring: Annotated[Scoring, Option(help="Files of 2020, of 2021, or of 2022 and later.")] = "dcase2022",
) -> None:
    """Write anomaly scores and decisions of the test clips in DCASE's format.

    Those of the evaluation set, or of the development set if there is no evaluation set.

    Raises:
        UserError: there are no test clips, one has no finite score, or (2021) no domain.
    """
    test = _submitted(read_table("clips", clips), clips)
    table = scored_clips(clips, scores, thresholds)
    table = table[table.clip_id.isin(test.clip_id)]
    table = table.assign(file=[Path(path).name for path in table.path])
    if unscored := sorted(set(test.clip_id) - set(table.clip_id[np.isfinite(table.score)])):
        message = (
            f"{scores}: {len(unscored)} test clips have no score, e.g. {unscored[0]}. The evaluators compare row by "
            "row, so none may be missing: mend clips that were left out (skipped.csv) and run again"
        )
        raise UserError(message)
    columns, pattern = FILES[scoring]
    if "domain" in columns and (unknown := table[~table.domain.isin(["source", "target"])].clip_id.tolist()):
        message = (
            f"{clips}: the domain of {len(unknown)} test clips is unknown, e.g. {unknown[0]}. A submission of 2021 has "
            "a file per domain: set datasets.NAME.scoring to dcase2022 for data without domains"
        )
        raise UserError(message)
    with whole_folder(folder) as temporary:
        for key, part in table.groupby(columns):
            name, rows = pattern.format(*key), part.sort_values("file")
            _write(rows.file, rows.score, temporary / f"anomaly_score_{name}.csv")
            if scoring != "dcase2020":
                _write(rows.file, rows.anomalous.astype(int), temporary / f"decision_result_{name}.csv")
        logger.info("%d clips in %d files", len(table), len(list(temporary.iterdir())))


def _submitted(table: pd.DataFrame, clips: Path) -> pd.DataFrame:
    """Return the test clips to submit."""
    test = table[table.split == "test"]
    if test.empty:
        raise UserError(f"{clips}: the data set has no test clips, so there is nothing to submit")
    if (test.part == "eval").any():
        return test[test.part == "eval"]
    logger.warning("there are no evaluation test clips: these files are of the development test clips")
    return test


def _write(names: pd.Series, values: pd.Series, file: Path) -> None:
    pd.DataFrame({"file": names, "value": values}).to_csv(file, header=False, index=False, lineterminator="\n")
