"""The fused anomaly score of every training and test clip, and the limits of every machine type."""

import numpy as np
import pandas as pd

from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.base import read_settings
from asdpipe.config.method import FuseSettings
from asdpipe.errors import UserError
from asdpipe.method.fusion import fuse
from asdpipe.steps.options import InFile, InFiles, OutFile, Settings


def fuse_scores(
    settings: Settings,
    train_clips: InFile,
    test_clips: InFile,
    scores: InFiles,
    fused: OutFile,
    thresholds: OutFile,
) -> None:
    """Fuse the scores of several methods.

    Args:
        settings: methods, scale and decision quantile.
        scores: one table for each of the methods, in their order.
        fused: the table of scores to write.

    Raises:
        UserError: there are too few files, or they have scores of different clips.
    """
    used = read_settings(FuseSettings, settings)
    if len(scores) != len(used.methods):
        raise UserError(f"{len(used.methods)} methods, but {len(scores)} tables of scores: give one for each method")
    clips = pd.concat(
        [read_table("clips", file).assign(is_train=file == train_clips) for file in (train_clips, test_clips)]
    )
    tables = [read_table("scores", file).set_index("clip_id").score for file in scores]
    for file, table in zip(scores, tables, strict=True):
        if odd := sorted(set(table.index) ^ set(tables[0].index)):
            message = f"{file}: has scores of other clips than {scores[0]}, e.g. {odd[0]}"
            raise UserError(f"{message}; delete both and run again")
        if table.isna().any():
            raise UserError(
                f"{file}: the score of {table.index[table.isna()][0]} is not a number; delete it and run again"
            )
    if unknown := sorted(set(tables[0].index) - set(clips.clip_id)):
        raise UserError(f"{scores[0]}: has clips that {train_clips} and {test_clips} lack, e.g. {unknown[0]}")
    scored = clips[clips.clip_id.isin(tables[0].index)]
    rows, limits = [], []
    for machine, part in scored.groupby("machine"):
        values = np.stack([table[part.clip_id].to_numpy() for table in tables])
        is_train = part.is_train.to_numpy()
        score = fuse(values, is_train, used.scale)
        rows.append(pd.DataFrame({"clip_id": part.clip_id, "score": score, "nearest_clip_id": None}))
        training = score[is_train & np.isfinite(score)]
        # A gamma distribution does not fit: scaled scores are of both signs.
        quantile = np.quantile(training, used.decision_quantile) if len(training) else np.inf
        limits.append((machine, training.max() if len(training) else np.inf, quantile))
    table = pd.concat(rows).assign(representative=pd.array([pd.NA] * len(scored), dtype="Int32"))
    write_table("scores", table, fused)
    write_table("thresholds", pd.DataFrame(limits, columns=["machine", "threshold", "decision_threshold"]), thresholds)
