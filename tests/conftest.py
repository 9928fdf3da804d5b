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
from types import MappingProxyType

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
    if config.option.markexpr != "slurm":
        os.environ["PATH"] = os.pathsep.join([str(ROOT / "tests/bin"), os.environ["PATH"]])


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
    if tree != ROOT:
        command = [sys.executable, "-m", "snakemake", *command]
        output, both = subprocess.PIPE, subprocess.STDOUT
        return subprocess.run(command, stdout=output, stderr=both, text=True, check=False, env=environment)
    with tempfile.NamedTemporaryFile("r", errors="replace") as file:
        request = {"arguments": command, "environment": environment}
        request |= {"folder": str(Path.cwd()), "output": file.name}
        server = _server()
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(command, code, file.read())


_threads = threading.local()


def _server() -> subprocess.Popen[str]:
    """Return this thread's starter of snakemake, which ends with the standard input that it reads."""
    if not hasattr(_threads, "server"):
        command = [sys.executable, str(ROOT / "tests/start_snakemake.py")]
        _threads.server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return _threads.server


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
