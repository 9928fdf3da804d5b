"""Run the study: ``python -m studies.run``. Interrupted, the same command goes on."""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

from studies.data import write_data
from studies.grid import BLOCKS, config

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Run blocks of cells one after the other, each by the ordinary workflow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("results/evidence"), help="folder of data and results")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--data-root", type=Path, help="has real-mini/; without it, the cells on recordings are left out"
    )
    parser.add_argument("--blocks", nargs="*", default=list(BLOCKS), choices=list(BLOCKS))
    options = parser.parse_args()
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    (work / "config.yaml").write_text(yaml.safe_dump(config(), sort_keys=False))
    for name in options.blocks:
        cells = [cell for cell in BLOCKS[name] if cell.data.design != "real" or options.data_root]
        start = time.monotonic()
        write_data(work, [(cell.data, cell.seed) for cell in cells], options.cores)
        if not cells:
            continue
        targets = [f"{folder}/auc.csv" for cell in cells for folder in (cell.folder, cell.baseline)]
        command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", work]
        command += [
            "--configfile",
            work / "config.yaml",
            "--cores",
            str(options.cores),
            "--keep-going",
            "--quiet",
            "rules",
            "progress",
        ]
        command += ["--set-threads", "train=1", "embed=1", "score_external=1"]
        if options.data_root:
            command += ["--config", f"data_root={options.data_root.absolute()}"]
        done = subprocess.run([*map(str, command), "--", *dict.fromkeys(targets)], check=False)
        print(
            f"{name}: {len(cells)} cells, {(time.monotonic() - start) / 60:.1f} min, status {done.returncode}",
            flush=True,
        )


if __name__ == "__main__":
    main()
