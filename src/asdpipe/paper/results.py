"""Results of runs as tables: auc.csv of one seed and over seeds, the score of every clip, and comparisons."""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from asdpipe.artifacts.tables import read_table
from asdpipe.errors import UserError
from asdpipe.method.metrics import METRICS, Scoring, harmonic_mean, official_score
from asdpipe.training.calibration import Calibration, conditions

# Columns that identify a row of an auc.csv over seeds; that of one seed has ``seed``, too.
KEY = ["dataset", "method", "stage", "split", "machine", "section"]
# Columns that identify the auc.csv of one seed.
RUN = ["dataset", "method", "stage", "seed"]
# Metrics of an auc.csv over seeds.
REPORTED = ["auc", "auc_source", "auc_target", "pauc", "official"]
# Rows of an auc.csv with a mean over machine types and sections.
MEANS: dict[str, Callable[[Iterable[float]], float]] = {
    "mean": lambda values: float(np.mean(list(values))),
    "hmean": harmonic_mean,
}
SCORE_COLUMNS = [
    *("path", "machine", "section", "domain", "split", "part", "is_normal"),
    *("score", "score_sd", "anomalous", "nearest_clip"),
]


def read_auc(file: Path) -> pd.DataFrame:
    """Read an auc.csv, of one seed or over seeds.

    Raises:
        UserError: the file cannot be read, lacks a column, or has duplicate rows.
    """
    texts, numbers = ("dataset", "method", "split", "machine", "section"), ("stage", "seed")
    try:
        frame = pd.read_csv(
            file,
            dtype=dict.fromkeys(texts, str) | dict.fromkeys(METRICS, float) | dict.fromkeys(numbers, int),
            keep_default_na=False,
            na_values={metric: [""] for metric in METRICS},
        )
    except (ValueError, OverflowError) as error:
        raise UserError(f"{file}: is not an auc.csv ({error}); delete it and run again") from None
    if missing := [column for column in [*KEY, *REPORTED] if column not in frame]:
        raise UserError(f"{file}: is not an auc.csv: column {', '.join(missing)} is missing")
    if frame.duplicated([column for column in (*KEY, "seed") if column in frame]).any():
        raise UserError(f"{file}: has a row twice; delete it and run again")
    return frame


def read_runs(files: Sequence[Path], datasets: Collection[str], runs: Iterable[tuple[str, int]]) -> pd.DataFrame:
    """Return the rows of machine types and sections of all files that belong to these runs.

    Args:
        files: auc.csv of one seed each; datasets: the names that they may have; runs: method and stage.

    Raises:
        UserError: a file is not of one seed, of an unknown data set, or of a run that another file has, too.
    """
    wanted, origin = set(runs), dict[tuple[object, ...], Path]()
    frames = [pd.DataFrame(columns=[*KEY, "seed", *REPORTED])]
    for file in files:
        frame = read_auc(file)
        if "seed" not in frame:
            raise UserError(f"{file}: has no column seed, so it is over seeds; give the auc.csv of every seed instead")
        frame = frame.astype({"dataset": str, "method": str})
        for run in frame[RUN].drop_duplicates().itertuples(index=False, name=None):
            dataset, method, stage, seed = run
            if dataset not in datasets:
                known = ", ".join(datasets) or "none"
                raise UserError(f"{file}: is of the data set {dataset}, which --datasets does not name ({known})")
            if run in origin:
                message = f"{file}: {method} on {dataset}, stage {stage}, seed {seed}, is in {origin[run]}, too"
                raise UserError(f"{message}; give each run once")
            origin[run] = file
        frame = frame.loc[[run in wanted for run in zip(frame.method, frame.stage, strict=True)]]
        frames.append(frame[~(frame.machine.isin(MEANS) & (frame.section == ""))])
    return pd.concat([frame for frame in frames if len(frame)] or frames[:1])


def with_means(frame: pd.DataFrame, scoring: Scoring) -> pd.DataFrame:
    """Add the rows ``mean`` and ``hmean`` of each split: over machine types and sections for which a metric is defined.

    In both rows ``official`` is the official score of the split, which is missing unless it is defined for every
    machine type and section.

    Args:
        frame: columns split, machine, section and METRICS; one row per machine type and section.
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


def over_seeds(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return mean, unbiased variance (missing for one seed) and number of seeds of every row of these auc.csv."""
    groups = pd.concat(frames).groupby(KEY, sort=False)
    means, variances = groups[REPORTED].mean(), groups[REPORTED].var(ddof=1)
    seeds = groups.seed.nunique().rename("seeds")
    return pd.concat([seeds, means, variances.add_suffix("_var")], axis=1).reset_index()


def comparison(files: Sequence[Path]) -> pd.DataFrame:
    """Return the AUC of every machine type (rows) in every auc.csv (columns), with means and official scores.

    Cells without labels are missing; a file without rows (no test clips) has no column.
    """
    frames = [frame for frame in map(read_auc, files) if len(frame)]
    columns = {}
    runs = pd.DataFrame([frame.iloc[0].reindex(RUN) for frame in frames], columns=RUN)
    for column, frame in zip(column_names(runs), frames, strict=True):
        single = frame.groupby(["split", "machine"]).section.transform("size") == 1
        name = frame.machine.where(single, frame.machine + " " + frame.section)
        auc = pd.Series(frame.auc.to_numpy(), index=pd.MultiIndex.from_arrays([frame.split, name]))
        official = frame[frame.machine == "hmean"].set_index("split").official
        official.index = pd.MultiIndex.from_product([official.index, ["official"]])
        columns[column] = pd.concat([auc, official])
    table = pd.DataFrame(columns)
    order = {"mean": 1, "hmean": 2, "official": 3}
    return table.loc[sorted(table.index, key=lambda key: (key[0], order.get(key[1], 0)))]


def column_names(runs: pd.DataFrame) -> list[str]:
    """Name each run (RUN) by what distinguishes it, e.g. the baseline by its method, the others by their stage."""
    one_dataset, one_method = runs.dataset.nunique() == 1, runs.method.nunique() == 1
    # Methods with several stages.
    iterated = set(runs.method[runs.groupby("method").stage.transform("nunique") > 1])
    all_stages = one_method or (not iterated and runs.stage.nunique() > 1)
    repeated = runs.duplicated(RUN[:-1], keep=False) & runs.seed.notna()
    names = []
    for run, is_repeated in zip(runs.itertuples(), repeated, strict=True):
        words = [
            "" if one_dataset else run.dataset,
            "" if one_method or iterated == {run.method} else run.method,
            f"stage {run.stage}" if all_stages or run.method in iterated else "",
            f"seed {run.seed}" if is_repeated else "",
        ]
        names.append(" ".join(filter(None, words)))
    return names


def scored_clips(clips: Path, scores: Path, thresholds: Path) -> pd.DataFrame:
    """Return manifest and scores, with ``anomalous``: is the score above the machine type's decision threshold?

    Raises:
        UserError: a machine type has no threshold.
    """
    table = read_table("clips", clips).merge(read_table("scores", scores), on="clip_id")
    limit = read_table("thresholds", thresholds).set_index("machine").decision_threshold
    if missing := set(table.machine) - set(limit.index):
        raise UserError(f"{thresholds}: has no threshold of {', '.join(sorted(missing))}; is it of another data set?")
    return table.assign(anomalous=table.score > table.machine.map(limit))


def scores_over_seeds(seeds: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return a row per test clip, or per training clip if there are no test clips.

    Score and its deviation (missing for one seed) are over the seeds; ``anomalous`` is the share of seeds that call the
    clip anomalous; the nearest clip is that of the first seed.

    Args:
        seeds: ``scored_clips`` of each seed.
    """
    first, by_clip = seeds[0].set_index("clip_id"), pd.concat(seeds).groupby("clip_id")
    frame = first.assign(
        score=by_clip.score.mean(),
        score_sd=by_clip.score.std(ddof=1),
        anomalous=by_clip.anomalous.mean(),
        nearest_clip=first.nearest_clip_id.map(first.path),
    )
    listed = "test" if (frame.split == "test").any() else "train"
    return frame.loc[frame.split == listed, SCORE_COLUMNS]


def with_alarms(by_clip: pd.DataFrame, calibration: Calibration, by: str) -> pd.DataFrame:
    """Return ``scores_over_seeds`` with p-values and alarms, the most suspicious clip first.

    Both are missing where nothing is promised, and for training clips.

    Args:
        calibration: of the mean scores over the seeds; by: what its groups depend on.
    """
    alarm = pd.Series(pd.NA, by_clip.index, dtype="boolean")
    frame = by_clip.assign(p_value=math.nan, limit=math.nan, alarm=alarm)
    tested = frame[frame.split == "test"]
    for (machine, condition), part in tested.groupby(["machine", conditions(tested, by)], dropna=False):
        promise = calibration.groups.promise(str(machine), None if pd.isna(condition) else str(condition))
        if promise is not None:
            frame.loc[part.index, "p_value"] = promise.p_values(part.score)
            frame.loc[part.index, "limit"] = promise.limit
            frame.loc[part.index, "alarm"] = part.score > promise.limit
    frame = frame.assign(below=frame.limit - frame.score).sort_values(["p_value", "below"], kind="stable")
    return frame[[*SCORE_COLUMNS, "p_value", "alarm"]]
