"""The scores of the clips that were kept out of training, and the alarm limits that they make."""

import logging

import numpy as np
import pandas as pd

from asdpipe.artifacts.vectors import embedded_clips
from asdpipe.config.base import read_settings
from asdpipe.config.monitor import CalibrateSettings
from asdpipe.errors import UserError
from asdpipe.method.scorers import NONE
from asdpipe.steps.options import InFile, MaybeFile, Number, OutFile, Settings
from asdpipe.training.calibration import Calibration, conditions, write_calibration
from asdpipe.training.scoring import fitted_scorers

logger = logging.getLogger(__name__)


def calibrate(
    settings: Settings,
    seed: Number,
    train_clips: InFile,
    train_embeddings: InFile,
    calibration_clips: InFile,
    calibration_embeddings: InFile,
    calibration: OutFile,
    limits: OutFile,
    representatives: MaybeFile = None,
) -> None:
    """Score the clips that were kept out of training, and write alarm limits.

    Args:
        settings: back end, rate of false alarms, and what limits depend on; seed: of the back end's draws.
        representatives: for back ends that score by them.
    """
    used = read_settings(CalibrateSettings, settings)
    train, known = embedded_clips(train_clips, train_embeddings, used.backend.takes_nan)
    clips, vectors = embedded_clips(calibration_clips, calibration_embeddings, used.backend.takes_nan)
    if used.backend.by_representatives and representatives is None:
        raise UserError("calibrate needs --representatives for this back end")
    centres = representatives if used.backend.by_representatives else None
    scores = pd.Series(np.nan, clips.index)
    for fitted in fitted_scorers(train, known, used.backend.build, seed, centres, used.similarity):
        rows = np.flatnonzero(clips.machine == fitted.machine)
        if len(rows):
            scores.iloc[rows] = fitted.scorer.score(vectors[rows], np.full(len(rows), NONE)).score
    if scores.isna().any():
        bad = clips.clip_id[scores.isna()].iloc[0]
        raise UserError(f"{calibration_embeddings}: the score of {bad} is not a number; delete it and run again")
    of_train, found = conditions(train, used.by), conditions(clips, used.by)
    named: dict[str, list[str]] = {}
    if used.by != "machine":
        # A state that is not named is one of its own; clips of unknown domain count as source already.
        of_train, found = of_train.fillna("unknown"), found.fillna("unknown")
        named = {str(machine): sorted(set(part)) for machine, part in of_train.groupby(train.machine)}
    table = clips[["clip_id", "machine"]].assign(condition=found, score=scores)
    made = Calibration(table, used.false_alarms, named)
    for row in made.limits().itertuples():
        if row.note:
            name = f"{row.machine} {row.condition}".strip()
            logger.warning("%s: %d calibration clips: %s", name, row.clips, row.note)
    write_calibration(made, calibration, limits, {"by": used.by})
