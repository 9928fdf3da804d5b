"""Measure every finished cell: ``python -m studies.measure`` adds it to studies/measurements.csv."""

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import adjusted_rand_score, roc_auc_score

from asdpipe.artifacts.tables import read_table
from asdpipe.artifacts.vectors import embedded_clips
from asdpipe.method.fusion import Scale, fuse
from asdpipe.method.metrics import evaluate, official_score
from asdpipe.method.representatives import cosine
from asdpipe.method.scorers import NONE, KMeans, NearestNeighbours
from studies.grid import BLOCKS, Cell

# Centroids of the source clips of a machine type, beside those of the workflow.
CENTROIDS = (1, 2, 4, 8, 16)
OUTPUT = Path(__file__).with_name("measurements.csv")
Scores = dict[str, NDArray[np.float64]]


def metrics_of(test: pd.DataFrame, score: NDArray[np.float64]) -> dict[str, float]:
    """Return the mean AUC over machine types and the official score, in percent."""
    values = {}
    for machine, rows in test.groupby("machine").indices.items():
        part = test.iloc[rows]
        values[machine] = evaluate(part.is_normal.to_numpy(dtype=bool), part.domain.tolist(), score[rows])
    names = ("auc", "auc_source", "auc_target")
    means = {name: float(np.nanmean([each[name] for each in values.values()])) for name in names}
    means["official"] = official_score(list(values), list(values.values()), "dcase2022")
    return {name: 100 * value for name, value in means.items()}


def scores_of(cell: Cell, work: Path, train: pd.DataFrame, test: pd.DataFrame) -> Scores:
    """Return the scores of the test clips by what makes them: the workflow, other scorers, and fusions."""
    both = pd.concat([train, test])
    is_train = np.arange(len(both)) < len(train)
    vectors = np.stack(list(both.embedding))
    files = {"network": cell.folder, "nearest neighbour": cell.baseline}
    whole = {
        name: read_table("scores", work / folder / "scores.parquet").set_index("clip_id").score[both.clip_id].to_numpy()
        for name, folder in files.items()
    }
    is_source = (both.domain == "source").to_numpy()
    scorers: dict[str, Any] = {f"{k} centroids": KMeans(k, cell.seed, "cosine") for k in CENTROIDS}
    scorers["neighbours"] = NearestNeighbours(1, 0.0, 2, cell.seed)
    whole |= {name: np.zeros(len(both)) for name in scorers}
    fused: dict[str, tuple[str, Scale]] = {"fusion": ("network", "z_score"), "fusion of ranks": ("network", "rank")}
    fused["fusion of neighbours"] = ("neighbours", "z_score")
    whole |= {name: np.zeros(len(both)) for name in fused}
    for rows in both.groupby("machine").indices.values():
        known = rows[is_train[rows]]
        for name, scorer in scorers.items():
            place = np.where(is_train[rows], np.arange(len(rows)), NONE)
            whole[name][rows] = scorer.fit(vectors[known], is_source[known]).score(vectors[rows], place).score
        for name, (trained, scale) in fused.items():
            pair = np.stack([whole[trained][rows], whole["nearest neighbour"][rows]])
            whole[name][rows] = fuse(pair, is_train[rows], scale)
    return whole


def criteria(whole: Scores, train: pd.DataFrame, losses: pd.DataFrame) -> dict[str, float]:
    """Return what training clips alone tell of a stage: candidates to recommend one without labels."""
    vectors = np.stack(list(train.embedding))
    rank, distance, proxy, agreement = [], [], [], []
    for rows in train.groupby("machine").indices.values():
        own, others = vectors[rows], np.delete(vectors, rows, axis=0)
        spectrum = np.linalg.svd(own - own.mean(axis=0), compute_uv=False) ** 2
        rank.append(spectrum.sum() ** 2 / (spectrum**2).sum())
        near = cosine(own, own)
        np.fill_diagonal(near, -1)
        mine, theirs = 1 - near.max(axis=1), 1 - cosine(others, own).max(axis=1)
        distance.append(mine.mean() / theirs.mean())
        proxy.append(roc_auc_score(np.repeat([0, 1], [len(mine), len(theirs)]), np.concatenate([mine, theirs])))
        agreement.append(spearmanr(mine, whole["nearest neighbour"][rows]).statistic)
    found = {"effective_rank": rank, "distance": distance, "proxy_auc": proxy, "agreement": agreement}
    return {name: float(np.mean(values)) for name, values in found.items()} | {"loss": float(losses.loss.iloc[-1])}


def states_found(cell: Cell, work: Path, train: pd.DataFrame) -> float:
    """Return the mean adjusted Rand index of the training classes against the true states; NaN where unknown."""
    labels = read_table("labels", work / cell.folder / "labels.parquet")
    table = train.merge(labels[labels.origin == "original"][["clip_id", "class_index"]], on="clip_id")
    parts = [part for _, part in table.groupby("machine") if part.attributes.notna().all()]
    return (
        float(np.mean([adjusted_rand_score(part.attributes, part.class_index) for part in parts])) if parts else np.nan
    )


def measured(cell: Cell, work: Path) -> list[dict[str, Any]]:
    """Return the rows of a cell, one per scorer; none if it is not finished."""
    folder = work / cell.folder
    if not (folder / "auc.csv").exists() or not (work / cell.baseline / "auc.csv").exists():
        return []
    listed, tables = work / f"results/data/{cell.data.name(cell.seed)}", {}
    for split in ("train", "test"):
        # Stage 1 may be another method's.
        embeddings = folder / f"embeddings/{split}.parquet"
        table, vectors = embedded_clips(listed / f"{split}/clips.parquet", embeddings)
        tables[split] = table.assign(embedding=list(vectors))
    train, test = tables["train"], tables["test"]
    if (listed / "clips.parquet").exists():
        test = test.drop(columns=["is_normal"]).merge(
            read_table("clips", listed / "clips.parquet")[["clip_id", "is_normal"]], on="clip_id"
        )
    losses = pd.read_csv(folder / "training.csv")
    whole = scores_of(cell, work, train, test)
    keys = {
        "cell": cell.folder,
        **asdict(cell.data),
        **asdict(cell.training),
        "seed": cell.seed,
        "epochs": cell.training.epochs(cell.data),
    }
    keys |= criteria(whole, train, losses) | {"ari": states_found(cell, work, train)}
    scored = {name: score[len(train) :] for name, score in whole.items()}
    return [{**keys, "scorer": name, **metrics_of(test, score)} for name, score in scored.items()]


def main() -> None:
    """Add the finished cells that are not in the table, one row per cell and scorer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("results/evidence"), help="folder of the study's results")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    known = pd.read_csv(options.output) if options.output.exists() else pd.DataFrame({"cell": []})
    cells = [cell for block in BLOCKS.values() for cell in block if cell.folder not in set(known.cell)]
    with ProcessPoolExecutor(options.cores) as pool:
        work = [options.work] * len(cells)
        rows = [row for part in pool.map(measured, dict.fromkeys(cells), work) for row in part]
    table = pd.concat([known, pd.DataFrame(rows).round(4)]) if rows else known
    table.sort_values(["cell", "scorer"]).to_csv(options.output, index=False)
    print(f"{options.output}: {table.cell.nunique()} cells")


if __name__ == "__main__":
    main()
