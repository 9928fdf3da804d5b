"""What several test modules share: small recordings, and the real snakemake in a folder of its own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"

# Below a job in the background SIGINT is ignored, and it would be by the processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Small in every respect, but with every part of the method.
TINY = {
    "dataset": "tiny",
    "seeds": [0],
    "device": "cpu",
    "datasets": {
        "tiny": {
            "format": "demo",
            "clip_seconds": 1,
            "pool": "tiny",
            # All that the demo has, in no order.
            "machines": ["valve", "fan", "slider", "compressor", "rotor", "gearmesh"],
            "demo": {"source_clips": 5, "target_clips": 2, "test_clips": 2},
        }
    },
    "pools": {"tiny": {"format": "demo", "clip_seconds": 1, "shards": 2, "demo": {"clips_per_class": 2}}},
    "network": {"width": 8, "windows": [512, 256], "dft_kernels": [32, 16, 8], "dft_strides": [16, 8, 4]},
    "training": {"epochs": 1, "source_per_batch": 16, "target_per_batch": 4},
    "methods": {"autoencoder": {"training": {"epochs": 1}}},
    "inference": {"k_source": 3},
    "external": {"n_max": 3},
    "pseudo_labels": {"k_source": 2, "k_target": 1},
}


def pytest_configure(config: pytest.Config) -> None:
    """Keep every start of snakemake from asking a SLURM that is installed here and may not run."""
    if config.option.markexpr == "slurm":
        # Jobs of a cluster start Python themselves.
        _starting.by_forks = False
    else:
        os.environ["PATH"] = os.pathsep.join([str(ROOT / "tests/bin"), os.environ["PATH"]])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long: one that comes last leaves the other process without work."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)


class _Starter:
    """What starts snakemake and its jobs in forks, for one thread; ends with the standard input of its processes.

    Args:
        environment: for both processes.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": {**environment}, "cwd": ROOT}
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "jobs"
        self.snakemake = subprocess.Popen([sys.executable, "-m", "tests.start_snakemake"], **pipes)
        self.jobs = subprocess.Popen([sys.executable, "-m", "tests.start_jobs", path], **pipes)
        assert self.jobs.stdout.readline() == "ready\n"
        self.environment = {"TEST_PYTHON": sys.executable, "TEST_JOBS": str(path)}

    def run(self, request: dict) -> int:
        """Run snakemake; return its exit code."""
        self.snakemake.stdin.write(json.dumps(request) + "\n")
        self.snakemake.stdin.flush()
        return int(self.snakemake.stdout.readline())


_starting = SimpleNamespace(by_forks=True, of_this_thread=threading.local())
# What libraries read when they are imported.
CPU = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "OPENBLAS_CORETYPE", "OMP_NUM_THREADS")


def _starter(cpu: tuple[tuple[str, str | None], ...]) -> _Starter:
    """Return this thread's starter with these variables."""
    known = _starting.of_this_thread.__dict__
    if cpu not in known:
        fixed = {name: value for name, value in cpu if value is not None}
        known[cpu] = _Starter({**os.environ, **fixed})
    return known[cpu]


def run_snakemake(
    folder: Path,
    *arguments: str,
    config: dict | str | None = None,
    tree: Path = ROOT,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    """Run a tree's workflow in ``folder``, all output in stdout; a given config, or its YAML, is used.

    Args:
        environment: variables that the jobs have, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["--snakefile", str(tree / "Snakefile"), "--directory", str(folder)]
    if config is not None:
        text = config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False)
        (folder / "config.yaml").write_text(text)
        command += ["--configfile", str(folder / "config.yaml")]
    # One thread a job: two jobs run side by side, most of a small job is its start.
    command += ["--set-threads", "train=1", "embed=1", "score_external=1", "--cores", "2", *arguments]
    environment = {**os.environ, **environment}
    if tree != ROOT or not _starting.by_forks:
        command = [sys.executable, "-m", "snakemake", *command]
        output, both = subprocess.PIPE, subprocess.STDOUT
        return subprocess.run(command, stdout=output, stderr=both, text=True, check=False, env=environment)
    starter = _starter(tuple((name, environment.get(name)) for name in CPU))
    with tempfile.NamedTemporaryFile("r", errors="replace") as file:
        environment |= starter.environment
        code = starter.run(
            {"arguments": command, "environment": environment, "folder": str(Path.cwd()), "output": file.name}
        )
        return subprocess.CompletedProcess(command, code, file.read())


def read_facts(path: Path) -> dict:
    """Return the facts that a step stored with a table."""
    return json.loads(pq.read_schema(path).metadata[b"facts"])


def run_asdpipe(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``python -m asdpipe`` with arguments."""
    command = [sys.executable, "-m", "asdpipe", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def write_clip() -> Callable[..., Path]:
    """Return a function that writes a clip of noise, 16 kHz mono unless told otherwise."""

    def write(path: Path, seconds: float = 1.0, rate: int = 16_000, channels: int = 1, seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (round(seconds * rate), channels)
        soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(shape), rate, subtype="PCM_16")
        return path

    return write


@pytest.fixture
def write_dcase(write_clip: Callable[..., Path]) -> Callable[..., Path]:
    """Return a function that writes a small DCASE tree of noise clips."""

    def write(root: Path, machines: tuple[str, ...] = ("fan", "pump"), source: int = 3, target: int = 2) -> Path:
        seed = 0
        for machine in machines:
            for domain, count in (("source", source), ("target", target)):
                names = [f"train/section_00_{domain}_train_normal_{number:04d}_spd_1" for number in range(count)]
                for label in ("normal", "anomaly"):
                    names += [f"test/section_00_{domain}_test_{label}_{number:04d}_spd_1" for number in range(2)]
                for name in names:
                    seed += 1
                    write_clip(root / machine / f"{name}.wav", seed=seed)
        return root

    return write


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Return a function that mounts what is asked for on a folder of its own; without root the test is skipped."""
    mounted: list[Path] = []

    def do(source: Path | str, *options: str) -> Path:
        folder = tmp_path / f"mounted{len(mounted)}"
        folder.mkdir()
        done = subprocess.run(["mount", *options, source, folder], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"nothing can be mounted here, which takes root: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield do
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], capture_output=True, check=False)
