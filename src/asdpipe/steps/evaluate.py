"""Step 8, evaluate: AUC as DCASE reports it, per machine type and section, then over seeds."""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from typer import Option

from asdpipe.artifacts import read_table, write_csv
from asdpipe.errors import UserError
from asdpipe.method.metrics import METRICS, harmonic_mean
from asdpipe.method.metrics import evaluate as evaluate_machine
from asdpipe.steps.options import InFile, InFiles, Number, OutFile, Text

KEY = ["dataset", "method", "stage", "split", "machine", "section"]
REPORTED = ["auc", "auc_source", "auc_target", "pauc", "official"]
MEANS: dict[str, Callable[[Iterable[float]], float]] = {
    "mean": lambda values: float(np.mean(list(values))),
    "hmean": harmonic_mean,
}

OtherFiles = Annotated[list[Path], Option(exists=True, dir_okay=False, help="Other auc.csv, to log beside this one.")]

logger = logging.getLogger(__name__)


def evaluate(
    dataset: Text, method: Text, stage: Number, seed: Number, clips: InFile, scores: InFile, auc: OutFile
) -> None:
    """Write the metrics of one seed, in percent: a row per machine type and section, and means per split."""
    table = read_table("clips", clips).merge(read_table("scores", scores), on="clip_id")
    table = table[table.split == "test"]
    unlabelled = table.is_normal.isna()
    if unlabelled.any():
        logger.warning(
            "%d test clips have no label and do not count, e.g. %s", unlabelled.sum(), table.path[unlabelled].iloc[0]
        )
    rows = []
    for (split, machine, section), part in table[~unlabelled].groupby(["part", "machine", "section"]):
        values = evaluate_machine(part.is_normal.to_numpy(dtype=bool), part.domain.tolist(), part.score.to_numpy())
        missing = [name for name, value in values.items() if math.isnan(value)]
        if missing:
            logger.warning(
                "%s %s: no %s, the test clips lack a label or a domain for it", machine, section, ", ".join(missing)
            )
        rows.append({"split": split, "machine": machine, "section": section, **values})
    frame = pd.DataFrame(rows, columns=["split", "machine", "section", *METRICS])
    frame = with_means(frame)
    frame[list(METRICS)] *= 100
    frame = frame.assign(dataset=dataset, method=method, stage=stage, seed=seed)
    write_csv(frame[[*KEY, "seed", *METRICS]], auc)


def with_means(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the rows ``mean`` and ``hmean`` of each split: over its machine types and sections that have the metric."""
    added = [frame]
    for split, part in frame.groupby("split", sort=True):
        for name, mean in MEANS.items():
            values = {
                metric: mean(part[metric].dropna()) if part[metric].notna().any() else math.nan for metric in METRICS
            }
            added.append(pd.DataFrame([{"split": split, "machine": name, "section": "", **values}]))
    return pd.concat(added, ignore_index=True)


def summarize(aucs: InFiles, auc: OutFile, others: OtherFiles = []) -> None:  # noqa: B006 (typer reads it)
    """Write mean and variance over the seeds, and log them beside earlier stages and the yardstick.

    Args:
        aucs: one auc.csv per seed; others: the auc.csv to compare with.
    """
    frame = over_seeds([read_auc(file) for file in aucs])
    write_csv(frame, auc)
    logger.info("AUC in percent\n%s", comparison([*others, auc]).to_string(na_rep="", float_format="%.1f"))


def over_seeds(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Return mean, unbiased variance (empty for one seed) and number of seeds of every row."""
    groups = pd.concat(frames).groupby(KEY, sort=False)
    means, variances = groups[REPORTED].mean(), groups[REPORTED].var(ddof=1)
    seeds = groups.seed.nunique().rename("seeds")
    return pd.concat([seeds, means, variances.add_suffix("_var")], axis=1).reset_index()


def read_auc(file: Path) -> pd.DataFrame:
    """Read an auc.csv, of one seed or over seeds.

    Raises:
        UserError: a column is missing.
    """
    frame = pd.read_csv(
        file, dtype={"section": str, "machine": str}, keep_default_na=False, na_values={each: [""] for each in METRICS}
    )
    if missing := [column for column in [*KEY, *REPORTED] if column not in frame]:
        raise UserError(f"{file}: is not an auc.csv: column {', '.join(missing)} is missing")
    return frame


def comparison(files: Sequence[Path]) -> pd.DataFrame:
    """Return the AUC of every machine type (rows) in every file (columns), with means and official scores."""
    columns = {}
    for file in files:
        frame = read_auc(file)
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
