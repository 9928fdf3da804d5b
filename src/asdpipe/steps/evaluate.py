"""Step 8, evaluate: AUC as DCASE reports it, per machine type and section, then over seeds."""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from typer import Option

from asdpipe.artifacts.files import write_csv, written
from asdpipe.artifacts.tables import read_table
from asdpipe.errors import UserError
from asdpipe.method.metrics import METRICS, OFFICIAL_TERMS, Scoring, harmonic_mean, official_score
from asdpipe.method.metrics import evaluate as evaluate_machine
from asdpipe.steps.options import InFile, InFiles, Number, OutFile, Text

GROUP = ["part", "machine", "section"]
ROW = ["split", "machine", "section"]
KEY = ["dataset", "method", "stage", "split", "machine", "section"]
SCORE_COLUMNS = [
    *("path", "machine", "section", "domain", "split", "part", "is_normal"),
    *("score", "score_sd", "anomalous", "nearest_clip"),
]
REPORTED = ["auc", "auc_source", "auc_target", "pauc", "official"]
MEANS: dict[str, Callable[[Iterable[float]], float]] = {
    "mean": lambda values: float(np.mean(list(values))),
    "hmean": harmonic_mean,
}

OtherFiles = Annotated[list[Path], Option(exists=True, dir_okay=False, help="Other auc.csv, to log beside this one.")]
Formula = Annotated[Scoring, Option(help="Official score: formula of 2020, of 2021, or of 2022 and later.")]

logger = logging.getLogger(__name__)


def evaluate(
    dataset: Text,
    method: Text,
    stage: Number,
    seed: Number,
    clips: InFile,
    scores: InFile,
    auc: OutFile,
    scoring: Formula = "dcase2022",
) -> None:
    """Write the metrics of one seed, in percent: a row per machine type and section, and means per split.

    What cannot be measured, because labels or domains are missing, stays empty; the log names it.
    """
    table = read_table("clips", clips)
    test = table[table.split == "test"].merge(read_table("scores", scores), on="clip_id")
    if not np.isfinite(test.score).all():
        raise UserError(f"{scores}: the score of a test clip is infinite; delete it and run again")
    _warn_of_gaps(table, test)
    rows = []
    for (split, machine, section), part in test[test.is_normal.notna()].groupby(GROUP):
        values = evaluate_machine(
            part.is_normal.to_numpy(dtype=bool), part.domain.tolist(), part.score.to_numpy(), scoring
        )
        missing = [name for name in ("auc", *OFFICIAL_TERMS[scoring]) if math.isnan(values[name])]
        if missing:
            logger.warning(
                "%s %s %s: no %s, the labelled test clips lack a class or a domain for it",
                *(split, machine, section, ", ".join(missing)),
            )
        rows.append((split, machine, section, *values.values()))
    measured = pd.DataFrame(rows, columns=[*ROW, *METRICS]).astype(dict.fromkeys(METRICS, float))
    # Also those without any label have a row: theirs is empty.
    every = test[GROUP].drop_duplicates().set_axis(ROW, axis=1).sort_values(ROW)
    frame = with_means(every.merge(measured, on=ROW, how="left"), scoring)
    frame[list(METRICS)] *= 100
    frame = frame.assign(dataset=dataset, method=method, stage=stage, seed=seed)
    write_csv(frame[[*KEY, "seed", *METRICS]], auc)


def _warn_of_gaps(table: pd.DataFrame, test: pd.DataFrame) -> None:
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


def with_means(frame: pd.DataFrame, scoring: Scoring) -> pd.DataFrame:
    """Add the rows ``mean`` and ``hmean`` of each split: over its machine types and sections that have the metric.

    ``official`` in both rows is the official score of the split. It needs every machine type and section, else it is
    missing.
    """
    added = [frame]
    for split, part in frame.groupby("split", sort=True):
        official = official_score(part.machine.tolist(), part.to_dict("records"), scoring)
        for name, mean in MEANS.items():
            values = {
                metric: mean(part[metric].dropna()) if part[metric].notna().any() else math.nan for metric in METRICS
            }
            row = {"split": split, "machine": name, "section": "", **values, "official": official}
            added.append(pd.DataFrame([row]))
    return pd.concat(added, ignore_index=True)


def summarize(aucs: InFiles, auc: OutFile, others: OtherFiles = []) -> None:  # noqa: B006 (typer reads it)
    """Write mean and variance over the seeds, and log them beside earlier stages and the yardstick.

    Args:
        aucs: one auc.csv per seed; others: the auc.csv to compare with.
    """
    frame = over_seeds([read_auc(file) for file in aucs])
    write_csv(frame, auc)
    table = comparison([*others, auc])
    if table.notna().any(axis=None):
        logger.info("AUC in percent\n%s", table.to_string(na_rep="", float_format="%.1f"))
    else:
        logger.warning("no test clip has a label, so there is no AUC; scores.csv beside %s has every score", auc.name)


def over_seeds(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Return mean, unbiased variance (empty for one seed) and number of seeds of every row."""
    groups = pd.concat(frames).groupby(KEY, sort=False)
    means, variances = groups[REPORTED].mean(), groups[REPORTED].var(ddof=1)
    seeds = groups.seed.nunique().rename("seeds")
    return pd.concat([seeds, means, variances.add_suffix("_var")], axis=1).reset_index()


def read_auc(file: Path) -> pd.DataFrame:
    """Read an auc.csv, of one seed or over seeds.

    Raises:
        UserError: it cannot be read, lacks a column, or has a row twice.
    """
    texts, numbers = ("dataset", "method", "split", "machine", "section"), ("stage", "seed")
    try:
        frame = pd.read_csv(
            file,
            dtype=dict.fromkeys(texts, str) | dict.fromkeys(METRICS, float) | dict.fromkeys(numbers, int),
            keep_default_na=False,
            na_values={each: [""] for each in METRICS},
        )
    except (ValueError, OverflowError) as error:
        raise UserError(f"{file}: is not an auc.csv ({error}); delete it and run again") from None
    if missing := [column for column in [*KEY, *REPORTED] if column not in frame]:
        raise UserError(f"{file}: is not an auc.csv: column {', '.join(missing)} is missing")
    if frame.duplicated([each for each in (*KEY, "seed") if each in frame]).any():
        raise UserError(f"{file}: has a row twice; delete it and run again")
    return frame


def comparison(files: Sequence[Path]) -> pd.DataFrame:
    """Return the AUC of every machine type (rows) in every file (columns), with means and official scores.

    Without labels the cells are missing; a file without rows (no test clips) has no column.
    """
    columns = {}
    for file in files:
        frame = read_auc(file)
        if frame.empty:
            continue
        single = frame.groupby(["split", "machine"]).section.transform("size") == 1
        name = frame.machine.where(single, frame.machine + " " + frame.section)
        auc = pd.Series(frame.auc.to_numpy(), index=pd.MultiIndex.from_arrays([frame.split, name]))
        total = frame[frame.machine == "hmean"].set_index("split").official
        total.index = pd.MultiIndex.from_product([total.index, ["official"]])
        method = frame.method.iloc[0]
        column = method if method == "raw_logmel" else f"stage {frame.stage.iloc[0]}"
        columns[column] = pd.concat([auc, total])
    table = pd.DataFrame(columns)
    order = {"mean": 1, "hmean": 2, "official": 3}
    return table.loc[sorted(table.index, key=lambda key: (key[0], order.get(key[1], 0)))]


def scores_table(clips: InFile, scores: InFiles, thresholds: InFiles, table: OutFile) -> None:
    """Write the score of every test clip, labelled or not; of every training clip if there are no test clips.

    Args:
        scores, thresholds: one of each per seed, in the same order.

    Raises:
        UserError: not as many of one as of the other.
    """
    if len(scores) != len(thresholds):
        raise UserError(f"{len(scores)} files of scores but {len(thresholds)} of thresholds: give one of each per seed")
    seeds = [scored_clips(clips, *files).set_index("clip_id") for files in zip(scores, thresholds, strict=True)]
    first, by_clip = seeds[0], pd.concat(seeds).groupby("clip_id")
    frame = first.assign(
        score=by_clip.score.mean(),
        score_sd=by_clip.score.std(ddof=1),
        anomalous=by_clip.anomalous.mean(),
        nearest_clip=first.nearest_clip_id.map(first.path),
    )
    listed = "test" if (frame.split == "test").any() else "train"
    frame = frame.loc[frame.split == listed, SCORE_COLUMNS]
    logger.info(
        "%d %s clips, %d of them called anomalous by most seeds", len(frame), listed, (frame.anomalous > 0.5).sum()
    )
    with written(table) as temporary:
        # In full: the scores of many clips differ only in late decimals.
        frame.to_csv(temporary, index=False, lineterminator="\n")


def scored_clips(clips: Path, scores: Path, thresholds: Path) -> pd.DataFrame:
    """Return manifest and scores, with ``anomalous``: is the score above its machine type's decision threshold?

    Raises:
        UserError: a machine type has no threshold.
    """
    table = read_table("clips", clips).merge(read_table("scores", scores), on="clip_id")
    limit = read_table("thresholds", thresholds).set_index("machine").decision_threshold
    if missing := set(table.machine) - set(limit.index):
        raise UserError(f"{thresholds}: has no threshold of {', '.join(sorted(missing))}; is it of another data set?")
    return table.assign(anomalous=table.score > table.machine.map(limit))
