"""How long Snakemake plans the whole method at full size: 100 shards, five stages, five seeds.

``python -m benchmarks.dag_scale`` makes an empty data set and pool in a temporary folder, runs ``snakemake -n``
with ``config/full.yaml`` and prints the number of jobs and the seconds beside the target.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET_SECONDS = 30


def main() -> None:
    """Plan once and print the figures; exit code 1 if the plan failed or took too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, default=5)
    stages = parser.parse_args().stages
    with tempfile.TemporaryDirectory() as folder:
        # Planning looks at folders only; clips are listed by the jobs.
        for below in ("audioset/audios/eval_segments", "audioset/metadata"):
            Path(folder, below).mkdir(parents=True)
        Path(folder, "audioset/metadata/eval_segments.csv").touch()
        command = [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", folder),
            *("--configfile", str(ROOT / "config/full.yaml"), "--config", f"data_root={folder}"),
            *("--cores", "1", "-n", "--", f"results/stage{stages}/auc.csv"),
        ]
        start = time.monotonic()
        plan = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - start
    if plan.returncode:
        sys.exit(plan.stdout + plan.stderr)
    jobs = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", plan.stdout, flags=re.M)}
    print(f"jobs: {jobs['total']}, of these score_external: {jobs['score_external']}, train: {jobs['train']}")
    print(f"planned in {seconds:.1f} s, target {TARGET_SECONDS} s")
    sys.exit(seconds > TARGET_SECONDS)


if __name__ == "__main__":
    main()
