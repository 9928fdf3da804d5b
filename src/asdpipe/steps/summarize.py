"""Summarize: AUC over the seeds, and the score of every test clip."""

import logging
from pathlib import Path
from typing import Annotated

from typer import Option

from asdpipe.artifacts.files import write_csv, written
from asdpipe.errors import UserError
from asdpipe.paper.results import (
    comparison,
    over_seeds,
    read_auc,
    scored_clips,
    scores_over_seeds,
    with_alarms,
)
from asdpipe.steps.options import InFile, InFiles, OutFile
from asdpipe.training.calibration import read_mean

Calibrations = Annotated[list[Path], Option(exists=True, dir_okay=False, help="Calibration of each seed, if any.")]
OtherFiles = Annotated[list[Path], Option(exists=True, dir_okay=False, help="auc.csv to log beside this one.")]

logger = logging.getLogger(__name__)


def summarize(
    clips: InFile,
    aucs: InFiles,
    scores: InFiles,
    thresholds: InFiles,
    auc: OutFile,
    table: OutFile,
    others: OtherFiles = [],  # noqa: B006 (typer reads it, nobody changes it)
    calibrations: Calibrations = [],  # noqa: B006
) -> None:
    """Write mean and variance of the AUC over the seeds, and the score of every test clip.

    Logs the AUC beside that of other results. Without test clips, ``table`` lists the training clips.

    Args:
        aucs, scores, thresholds: one of each per seed, scores and thresholds in the same order.
        others: auc.csv of earlier stages and of the baseline.
        calibrations: scores of held-out clips, one file per seed, or none.

    Raises:
        UserError: the numbers of files differ, or a file is not what it should be.
    """
    if not len(aucs) == len(scores) == len(thresholds):
        message = f"{len(aucs)} auc.csv, {len(scores)} files of scores and {len(thresholds)} of thresholds"
        raise UserError(f"{message}: give one of each per seed")
    frame = over_seeds([read_auc(file) for file in aucs])
    seeds = [scored_clips(clips, *files) for files in zip(scores, thresholds, strict=True)]
    by_clip = scores_over_seeds(seeds)
    if calibrations:
        if len(calibrations) != len(scores):
            raise UserError(f"{len(scores)} files of scores and {len(calibrations)} of calibrations: give one per seed")
        calibration, facts = read_mean(calibrations)
        by_clip = with_alarms(by_clip, calibration, str(facts["by"]))
    write_csv(frame, auc)
    with written(table) as temporary:
        # At full precision: the scores of many clips differ only in late decimals.
        by_clip.to_csv(temporary, index=False, lineterminator="\n")
    listed = by_clip.split.iloc[0] if len(by_clip) else "test"
    logger.info(
        "%d %s clips, %d of them called anomalous by most seeds", len(by_clip), listed, (by_clip.anomalous > 0.5).sum()
    )
    compared = comparison([*others, auc])
    if compared.notna().any(axis=None):
        logger.info("AUC in percent\n%s", compared.to_string(na_rep="", float_format="%.1f"))
    else:
        logger.warning("no test clip has a label, so there is no AUC; %s has the scores", table)
