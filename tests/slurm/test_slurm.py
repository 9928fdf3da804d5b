"""The five stages on a real SLURM of one node, through the project's profile, while jobs are killed."""

import hashlib
import itertools
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from asdpipe.steps.train import CHECKPOINT
from tests.conftest import ROOT, TINY, run_snakemake

pytestmark = pytest.mark.slurm

CLUSTER = ROOT / "tests/slurm/cluster.sh"
PROFILE = ROOT / "profiles/slurm"
# Two seeds compete for the GPU. No device is there, so the networks run on the CPU all the same. Trainings have epochs
# left when one of them is cancelled after its first.
CONFIG = TINY | {"seeds": [0, 1], "device": "auto", "training": TINY["training"] | {"epochs": 6}}
STAGES = range(1, 6)
TARGETS = [f"results/stage{stage}/auc.csv" for stage in STAGES]
CANCELLED_STAGE = "results/tiny/ba_trp/seed1/stage1"
CANCELLED_JOB = "rule_train_wildcards_tiny_ba_trp_1_1"
TOO_LITTLE_MEMORY, ENOUGH_MEMORY = 100, 3000
# Of the two steps of a job together.
TOO_LITTLE_TIME, ENOUGH_TIME = 2, 50
# None of the other jobs waits for these: the pool is needed late, and nothing is made of the yardstick's scores.
LITTLE = [
    *(
        f"{rule}:mem_mb={ENOUGH_MEMORY} if attempt > 1 else {TOO_LITTLE_MEMORY}"
        for rule in ("generate_pool", "list_pool_clips")
    ),
    *(
        f"{rule}:runtime=30 if wildcards.method != 'raw_logmel' else "
        f"{ENOUGH_TIME // 2} if attempt > 1 else {TOO_LITTLE_TIME // 2}"
        for rule in ("score", "evaluate")
    ),
]


@dataclass(frozen=True)
class Job:
    """What the scheduler remembers of a job; ``name`` is what the executor calls the rule or group."""

    id: str
    state: str
    gpu: bool
    memory: int
    minutes: int
    name: str


def jobs() -> list[Job]:
    """Return all jobs of the cluster in the order of their submission."""
    fields = "JobID:|,State:|,tres-per-job:|,tres-per-node:|,MinMemory:|,TimeLimit:|,Comment:|"
    table = subprocess.run(
        ["squeue", "--states=all", "--noheader", "--sort=i", "--Format", fields],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = []
    for line in table.splitlines():
        number, state, per_job, per_node, memory, limit, comment = line.split("|")[:7]
        days, _, clock = limit.rpartition("-")
        hours, minutes, _ = ("0:" + clock).split(":")[-3:]
        megabytes = int(memory[:-1]) * (1024 if memory.endswith("G") else 1)
        time = (int(days or 0) * 24 + int(hours)) * 60 + int(minutes)
        found.append(Job(number, state, "gpu" in per_job + per_node, megabytes, time, comment))
    return found


def cancel_training(folder: Path, over: threading.Event) -> None:
    """Cancel one training as soon as its first epoch is kept."""
    while not over.wait(0.02):
        if (folder / CANCELLED_STAGE / CHECKPOINT).exists():
            (job,) = (job for job in jobs() if (job.name, job.state) == (CANCELLED_JOB, "RUNNING"))
            subprocess.run(["scancel", job.id], check=True)
            return


def hold_a_job(over: threading.Event) -> None:
    """Hold the job with too little time until it is over."""
    while not over.wait(0.5):
        for job in jobs():
            if (job.minutes, job.state) == (TOO_LITTLE_TIME, "RUNNING"):
                # Again and again: the job may have started another process meanwhile.
                subprocess.run(["scancel", "--full", "--signal=STOP", job.id], check=False)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start SLURM and yield the folder of its records."""
    if os.geteuid() != 0:
        pytest.skip("starting a SLURM needs root")
    installed = subprocess.run([CLUSTER, "install"], capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"Debian's SLURM cannot be installed here: {installed.stderr[-500:]}")
    folder = tmp_path_factory.mktemp("cluster")
    started = subprocess.run([CLUSTER, "start", folder], capture_output=True, text=True, check=False)
    assert started.returncode == 0, started.stderr
    yield folder
    subprocess.run([CLUSTER, "stop", folder], check=True)


@dataclass(frozen=True)
class Runs:
    """The folders of the same run on SLURM and without it, what Snakemake printed, and all jobs."""

    slurm: Path
    local: Path
    printed: str
    jobs: list[Job]

    def named(self, name: str) -> list[Job]:
        return [job for job in self.jobs if job.name.startswith(name)]


@pytest.fixture(scope="module")
def runs(cluster: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Run the five stages with two seeds on SLURM, disturbed, and in the waits between its jobs also locally."""
    slurm, local = tmp_path_factory.mktemp("slurm"), tmp_path_factory.mktemp("local")
    arguments = [
        *("--workflow-profile", str(PROFILE)),
        *("--set-resources", *LITTLE),
        # A test does not wait for a large cluster's sake.
        *("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5"),
    ]
    over = threading.Event()
    with ThreadPoolExecutor() as pool, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{PROFILE}/no-accounting", prepend=os.pathsep)
        disturbances = [pool.submit(cancel_training, slurm, over), pool.submit(hold_a_job, over)]
        locally = pool.submit(run_snakemake, local, *TARGETS, config=CONFIG)
        try:
            done = run_snakemake(slurm, *arguments, "--", *TARGETS, config=CONFIG)
        finally:
            # Also after Ctrl-C: the pool waits for the disturbances.
            over.set()
        for each in disturbances:
            each.result()
        assert locally.result().returncode == 0, locally.result().stdout[-3000:]
    assert done.returncode == 0, done.stdout[-10_000:]
    return Runs(slurm, local, done.stdout, jobs())


def test_the_results_are_those_of_a_local_run(runs: Runs) -> None:
    def digests(folder: Path) -> dict[str, str]:
        files = [file for file in (folder / "results").rglob("*") if file.is_file()]
        names = {str(file.relative_to(folder)): file for file in files if not {"logs", "benchmarks"} & {*file.parts}}
        return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in names.items()}

    ours, theirs = digests(runs.slurm), digests(runs.local)
    assert {"results/stage5/auc.csv", "results/tiny/ba_trp_ps_ex/seed1/stage5/model.safetensors"} <= set(ours)
    assert ours == theirs


def test_the_gpu_is_never_given_to_two_jobs_at_once(runs: Runs, cluster: Path) -> None:
    with_gpu = {job.id for job in runs.jobs if job.gpu}
    record = re.compile(r"JobId=(\d+) .* StartTime=(\S+) EndTime=(\S+) .* EligibleTime=(\S+)")
    # One line for every run of a job; times in seconds.
    found = [match.groups() for match in map(record.match, (cluster / "jobs.txt").read_text().splitlines()) if match]
    held = sorted((start, end, eligible) for job, start, end, eligible in found if job in with_gpu and start != end)
    assert len(held) >= 2 * len(STAGES) * 2, "trainings and embeddings of two seeds"
    for (_, end, _), (start, _, _) in itertools.pairwise(held):
        assert end <= start
    # That they would have overlapped: some waited for the GPU while another held it.
    assert any(eligible < end for (_, end, _), (_, _, eligible) in itertools.pairwise(held))


def test_all_that_runs_a_network_asks_for_the_gpu_and_nothing_else(runs: Runs) -> None:
    for job in runs.jobs:
        assert job.gpu == bool(re.search("train|embed|score_external", job.name)), job


def test_a_job_that_takes_too_much_memory_gets_more(runs: Runs) -> None:
    first, *_, last = runs.named("rule_pool_")
    assert (first.state in ("FAILED", "OUT_OF_MEMORY"), first.memory) == (True, TOO_LITTLE_MEMORY)
    assert (last.state, last.memory) == ("COMPLETED", ENOUGH_MEMORY)


def test_a_job_that_takes_too_long_gets_more_time(runs: Runs) -> None:
    (first,) = (job for job in runs.named("rule_judge_") if job.minutes == TOO_LITTLE_TIME)
    (last,) = (job for job in runs.named("rule_judge_") if job.minutes == ENOUGH_TIME)
    # FAILED: its time was over when it asked for its next step.
    assert (first.state in ("TIMEOUT", "FAILED"), last.state) == (True, "COMPLETED")


def test_a_cancelled_training_goes_on_where_it_stopped_with_more(runs: Runs) -> None:
    first, *_, last = runs.named(CANCELLED_JOB)
    assert (first.state, last.state) == ("CANCELLED", "COMPLETED")
    assert last.memory > first.memory
    assert last.minutes > first.minutes
    log = (runs.slurm / CANCELLED_STAGE / "logs/train.log").read_text()
    assert re.search(r"resuming after epoch [1-9]", log)


def test_a_failed_job_is_reported_with_its_logs(runs: Runs) -> None:
    failed = runs.named(CANCELLED_JOB)[0]
    assert f"SLURM-job '{failed.id}' failed, SLURM status is: 'CANCELLED'" in runs.printed
    assert f"{runs.slurm}/logs/slurm/rule_train/tiny_ba_trp_1_1/{failed.id}.log" in runs.printed
    assert f"{CANCELLED_STAGE}/logs/train.log" in runs.printed


def test_a_stage_is_a_few_jobs(runs: Runs) -> None:
    completed = [job for job in runs.jobs if job.state == "COMPLETED"]
    # Each seed and stage: train, read_out, judge, external, select; data, pool, shards, summary, two of the yardstick.
    assert len(completed) <= 2 * len(STAGES) * 5 + 6
    assert len([job for job in completed if job.name.startswith("rule_train")]) == 2 * len(STAGES)
