"""The results of a small run, written down: what changes them changes the method.

``python -m tests.golden`` computes them anew and writes golden_auc.csv; test_workflow.py compares.
"""

import hashlib
import sys
import tempfile
from pathlib import Path

import pandas as pd

from tests.conftest import ROOT, TINY, run_snakemake

FILE = ROOT / "tests/golden_auc.csv"
STAGES = (1, 2, 3)
COLUMNS = ["stage", "split", "machine", "auc", "auc_source", "auc_target", "pauc", "official", "loss", "clips"]
METRICS = ["auc", "auc_source", "auc_target", "pauc", "official"]
# Instructions that every x86-64 CPU of the last ten years has. With AVX-512 instead of AVX2, stage 1 has the same loss
# to four decimals, yet AUCs of machine types up to 6 points away, and their mean 2: after one epoch cosines differ in
# the sixth decimal only, which is where rounding is.
PINNED = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}
# Relative. Other instructions or another number of threads change the losses of a small training by 2e-6; CPUs of other
# makers were not tried. A changed setting or equation moves them by more than this.
LOSS_TOLERANCE = 1e-3
# In percentage points. With the same instructions the same CPU gives the same bytes; with others two pairs of the
# sixteen that make an AUC here may change places.
AUC_TOLERANCE = 12.5


def results(folder: Path) -> pd.DataFrame:
    """Return the auc.csv of all stages of a run, the loss of each stage's last epoch, and a digest of its classes."""
    parts = []
    for stage in STAGES:
        # Stage 1 is that of the method without pseudo-labels and external clips.
        method = "ba_trp" if stage == 1 else "ba_trp_ps_ex"
        history = pd.read_csv(folder / f"results/tiny/{method}/seed0/stage{stage}/training.csv")
        auc = pd.read_csv(folder / f"results/stage{stage}/auc.csv")
        clips = pd.read_parquet(folder / f"results/tiny/{method}/seed0/stage{stage}/labels.parquet")
        trained_on = clips.sort_values("clip_id")[["clip_id", "class_index"]].to_csv(index=False)
        digest = hashlib.sha256(trained_on.encode()).hexdigest()[:8]
        parts.append(auc.assign(loss=history.loss.iloc[-1], clips=digest)[COLUMNS])
    return pd.concat(parts, ignore_index=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        targets = [f"results/stage{stage}/auc.csv" for stage in STAGES]
        done = run_snakemake(Path(temporary), *targets, config=TINY, environment=PINNED)
        if done.returncode:
            sys.exit(f"{done.stdout}\nsnakemake ended with {done.returncode}")
        results(Path(temporary)).to_csv(FILE, index=False, lineterminator="\n")
    sys.stdout.write(f"{FILE} is written\n")
