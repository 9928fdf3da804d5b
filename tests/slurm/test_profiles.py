"""What the profiles do without a cluster: which jobs SLURM would get, and the message where there is none."""

import os
import re
import shutil
from pathlib import Path

from tests.conftest import ROOT, TINY, run_snakemake

CONFIG = TINY | {"yardstick": None}
TARGET = "results/stage2/auc.csv"
STAGE_1, STAGE_2 = "tiny/ba_trp/seed0/stage1", "tiny/ba_trp_ps_ex/seed0/stage2"
SLURM_JOBS = {
    (
        *("data/tiny/generate_dataset", "data/tiny/label_clips"),
        *("data/tiny/test/list_clips", "data/tiny/test/pack_clips"),
        *("data/tiny/train/list_clips", "data/tiny/train/pack_clips"),
    ),
    ("external/tiny/generate_pool", "external/tiny/list_pool_clips"),
    ("external/tiny/pack_pool_0", "external/tiny/pack_pool_1"),
    *((f"{stage}/train",) for stage in (STAGE_1, STAGE_2)),
    (f"{STAGE_1}/embed_test", f"{STAGE_1}/embed_train", f"{STAGE_1}/represent"),
    (f"{STAGE_2}/embed_test", f"{STAGE_2}/embed_train", f"{STAGE_2}/represent"),
    (f"{STAGE_1}/score_external_0", f"{STAGE_1}/score_external_1"),
    ("tiny/ba_trp_ps_ex/seed0/stage1/pseudo_label", "tiny/ba_trp_ps_ex/seed0/stage1/select"),
    (f"{STAGE_1}/score", "tiny/ba_trp_ps_ex/seed0/stage1/evaluate"),
    (f"{STAGE_2}/evaluate", f"{STAGE_2}/score"),
    ("stage1/summarize", "stage2/summarize"),
}


def submitted(plan: str) -> set[tuple[str, ...]]:
    """Return the jobs of a plan as SLURM gets them: the steps of each, by their logs below results/."""
    found: list[list[str]] = []
    for line in plan.splitlines():
        log = re.search(r"^( *)Job \d+: .* log: results/(.*)/?logs/(.*)\.log$", line)
        if "Group job " in line or (log and not log[1]):
            found.append([])
        if log:
            found[-1].append(log[2] + log[3])
    return {tuple(sorted(steps)) for steps in found}


def test_a_copy_of_the_slurm_profile_puts_short_steps_into_one_job(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "profiles/slurm", tmp_path / "mine")
    plan = run_snakemake(tmp_path, "-n", "--workflow-profile", str(tmp_path / "mine"), "--", TARGET, config=CONFIG)
    assert plan.returncode == 0, plan.stdout
    assert submitted(plan.stdout) == SLURM_JOBS


def test_the_plain_command_uses_the_profile_for_one_machine(tmp_path: Path) -> None:
    plan = run_snakemake(tmp_path, "-n", TARGET, config=CONFIG)
    assert plan.returncode == 0, plan.stdout
    assert "profiles/default for setting default command line arguments" in plan.stdout


def test_slurm_without_sbatch_is_refused_before_the_first_job(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for folder in reversed(os.environ["PATH"].split(os.pathsep)):
        for file in Path(folder).glob("[!.]*"):
            (programs / file.name).unlink(missing_ok=True)
            (programs / file.name).symlink_to(file)
    (programs / "sbatch").unlink(missing_ok=True)
    done = run_snakemake(
        tmp_path / "run",
        *("--executor", "slurm", "--jobs", "1", "--", TARGET),
        config=CONFIG,
        environment={"PATH": str(programs)},
    )
    assert done.returncode == 1, done.stdout
    assert "sbatch is not found (PATH), so SLURM takes no jobs from here" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (tmp_path / "run/results").exists()
