"""The results of a small run, written down: what changes them changes the method.

``python -m tests.golden`` computes them anew and writes golden_auc.csv; test_workflow.py compares.
"""

import sys
import tempfile
from pathlib import Path

import pandas as pd

from tests.conftest import ROOT, TINY, run_snakemake

FILE = ROOT / "tests/golden_auc.csv"
STAGES = (1, 2, 3)
COLUMNS = ["stage", "split", "machine", "auc", "auc_source", "auc_target", "pauc", "official", "score"]
# Instructions that every x86-64 CPU of the last ten years has: wider ones sum in another order, and training, k-means
# and the ranks of a few clips make steps of such roundings.
PINNED = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}


def results(folder: Path) -> pd.DataFrame:
    """Return the auc.csv of all stages of a run, with the mean score of the test clips."""
    clips = pd.read_parquet(folder / "results/data/tiny/clips.parquet")
    parts = []
    for stage in STAGES:
        auc = pd.read_csv(folder / f"results/stage{stage}/auc.csv")
        scores = pd.read_parquet(folder / f"results/tiny/ba_trp_ps_ex/seed0/stage{stage}/scores.parquet")
        test = clips[clips.split == "test"].merge(scores, on="clip_id")
        score = test.groupby(["part", "machine"]).score.mean().rename_axis(["split", "machine"]).rename("score")
        parts.append(auc.merge(score.round(6), on=["split", "machine"], how="left")[COLUMNS])
    return pd.concat(parts, ignore_index=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        targets = [f"results/stage{stage}/auc.csv" for stage in STAGES]
        done = run_snakemake(Path(temporary), *targets, config=TINY, environment=PINNED)
        if done.returncode:
            sys.exit(done.stdout)
        results(Path(temporary)).to_csv(FILE, index=False, lineterminator="\n")
    sys.stdout.write(f"{FILE} is written\n")
