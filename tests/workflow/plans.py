"""What snakemake plans and what a run wrote, for several test modules."""

import re
from pathlib import Path

from asdpipe.artifacts.files import file_digest
from tests.conftest import ROOT, run_snakemake


def planned(folder: Path, *targets: str, config: dict | str, tree: Path = ROOT) -> set[str]:
    """Return the jobs that snakemake plans, each by its log below results/."""
    plan = run_snakemake(folder, "-n", "-p", *targets, config=config, tree=tree)
    assert plan.returncode == 0, plan.stdout
    # Every job has a log of its own, which its command names.
    jobs = re.findall(r" (?:--log|2>) results/(\S+)/logs/(\S+)\.log\b", plan.stdout)
    total = re.search(r"^total +(\d+)$", plan.stdout, flags=re.M)
    assert len(set(jobs)) == (int(total[1]) if total else 0), plan.stdout
    assert (total is None) == ("Nothing to be done" in plan.stdout)
    return {f"{folder}/{name}" for folder, name in jobs}


def of(folder: str, *names: str) -> set[str]:
    return {f"{folder}/{name}" for name in names}


def states(folder: Path) -> dict[str, tuple[int, str]]:
    """Return time and digest of every artifact, without logs and benchmarks."""
    return {
        str(file.relative_to(folder)): (file.stat().st_mtime_ns, file_digest(file))
        for file in (folder / "results").rglob("*")
        if file.is_file() and not {"logs", "benchmarks"} & set(file.parts)
    }
