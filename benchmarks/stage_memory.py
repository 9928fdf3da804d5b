"""Peak memory of a stage's steps at the size of DCASE 2023: 14 machine types of 1000 training clips of 18 s, width 128.

Usage: python benchmarks/stage_memory.py FOLDER [--source 16 --target 4] [--seconds 120] [--threads 2]

Packs noise of that size into FOLDER (10 GB), then runs each step as the workflow does, with the whole index and all
labels. Training and embedding run until they have done some work for ``--seconds``, after which their memory no longer
grows, and are stopped; the other steps run to their end, on random embeddings. What counts is the step's anonymous
memory (RssAnon), looked at every 20 ms: mapped pages of the packed samples are the kernel's to take back.
Linux only (memory from /proc).
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from asdpipe.artifacts.tables import write_table
from asdpipe.config.method import Method
from asdpipe.models.files import save_model
from asdpipe.training.fit import build_network

MACHINES, SOURCE, TARGET, TEST = 14, 990, 10, 200
NUM_SAMPLES = 18 * 16_000
DONE = re.compile(r": (\d+)/\d+ (?:batch|clip),")


class Peak(NamedTuple):
    """What a step took."""

    anonymous: int
    """In MB."""
    mapped: int
    """In MB, at the same time or not."""
    seconds: float
    done: str
    """Batches or clips that it came to, or that it ended."""


def main() -> None:
    """Generate the data, run the steps and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", type=int, default=16, help="source clips of a batch (paper: 80)")
    parser.add_argument("--target", type=int, default=4, help="target clips of a batch (paper: 20)")
    parser.add_argument("--seconds", type=float, default=120, help="how long training and embedding run")
    parser.add_argument("--threads", default="2")
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    generate(folder)
    training = {"source_per_batch": arguments.source, "target_per_batch": arguments.target}
    data = f"--index {folder}/index.parquet --samples {folder}/samples.int16"
    model = f"--weights {folder}/model.safetensors --description {folder}/model.json"
    embedded = f"--clips {folder}/clips.parquet --embeddings {folder}/embeddings.parquet"
    out = f"{folder}/out"
    steps: dict[str, tuple[str, list[str]]] = {
        "train": (
            f"--num-samples {NUM_SAMPLES} --stage 1 --seed 0 --clips {folder}/clips.parquet {data} "
            f"--labels {out}.labels --weights {out}.weights --description {out}.json --history {out}.csv",
            ["--settings", json.dumps({"training": training})],
        ),
        "embed": (f"--num-samples {NUM_SAMPLES} {data} {model} --embeddings {out}.embeddings", []),
        "represent": (f"--k-source 16 --seed 0 {embedded} --representatives {folder}/representatives.parquet", []),
        "pseudo-label": (f"--seed 0 {embedded} --labels {out}.pseudo", ["--settings", "{}"]),
        "score": (
            f"--seed 0 {embedded} --representatives {folder}/representatives.parquet "
            f"--scores {out}.scores --thresholds {out}.thresholds",
            ["--settings", "{}"],
        ),
        "score-external": (
            f"--pool generated {model} --representatives {folder}/representatives.parquet {data} "
            f"--scores {out}.external",
            [],
        ),
    }
    environment = os.environ | {"OMP_NUM_THREADS": arguments.threads, "ASDPIPE_DEVICE": "cpu"}
    print(f"batch of {arguments.source} + {arguments.target} clips of 18 s, width 128")
    print("| step | anonymous MB | mapped MB | s | came to |\n|---|---|---|---|---|")
    for name, (options, more) in steps.items():
        peak = run([name, *options.split(), *more], folder / f"{name}.log", environment, arguments.seconds)
        print("|", " | ".join([name, *map(str, peak)]), "|", flush=True)


def generate(folder: Path) -> None:
    """Write manifest, packed noise, an untrained model and random embeddings, unless they are there."""
    rng = np.random.default_rng(0)
    each = [*["source"] * SOURCE, *["target"] * TARGET, *["source", "target"] * (TEST // 2)]
    rows = [(f"m{machine:02d}/{number}", f"m{machine:02d}", domain, "train" if number < SOURCE + TARGET else "test")
            for machine in range(MACHINES) for number, domain in enumerate(each)]  # fmt: skip
    clips = pd.DataFrame(rows, columns=["clip_id", "machine", "domain", "split"]).assign(
        path="none", dataset="generated", section="00", part="dev", is_normal=True, attributes=None,
        sample_rate=16_000, num_frames=NUM_SAMPLES,
    )  # fmt: skip
    write_table("clips", clips, folder / "clips.parquet")
    offsets = np.arange(len(clips)) * NUM_SAMPLES
    index = clips[["clip_id"]].assign(offset=offsets, num_samples=NUM_SAMPLES)
    write_table("waveforms", index, folder / "index.parquet")
    samples = folder / "samples.int16"
    size = len(clips) * NUM_SAMPLES * 2
    if not samples.is_file() or samples.stat().st_size != size:
        noise = rng.normal(0, 1000, 101 * NUM_SAMPLES).astype("<i2").tobytes()
        with samples.open("wb") as file:
            for start in range(0, size, len(noise)):
                file.write(noise[: size - start])
    method = Method()
    network = build_network(method.network, NUM_SAMPLES)
    save_model(network, folder / "model.safetensors", folder / "model.json", method.network, NUM_SAMPLES)
    vectors = rng.normal(size=(len(clips), 3 * method.network.width)).astype(np.float32)
    table = clips[["clip_id"]].assign(embedding=list(vectors))
    write_table("embeddings", table, folder / "embeddings.parquet")


def run(command: list[str], log: Path, environment: dict[str, str], seconds: float) -> Peak:
    """Run a step until it ends, or has worked for ``seconds``, and watch its memory."""
    start = time.monotonic()
    first_work: float | None = None
    anonymous = mapped = looks = 0
    with log.open("w") as file:
        step = subprocess.Popen([sys.executable, "-m", "asdpipe", *command], stderr=file, env=environment)
        while step.poll() is None and (first_work is None or time.monotonic() - first_work < seconds):
            time.sleep(0.02)
            try:
                status = Path(f"/proc/{step.pid}/status").read_text()
            except (FileNotFoundError, ProcessLookupError):
                break
            anonymous, mapped = (
                max(anonymous, _kilobytes(status, "RssAnon")),
                max(mapped, _kilobytes(status, "RssFile")),
            )
            looks += 1
            if first_work is None and looks % 50 == 0 and DONE.search(log.read_text()):
                first_work = time.monotonic()
        stopped = step.poll() is None
        if stopped:
            step.kill()
        code = step.wait()
    if not stopped and code:
        sys.exit(f"{command[0]} failed:\n{log.read_text()}")
    work = DONE.findall(log.read_text())
    done = f"{work[-1]} of its units, stopped" if stopped else "the end"
    return Peak(anonymous // 1000, mapped // 1000, round(time.monotonic() - start, 1), done)


def _kilobytes(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB", status, re.M)
    return int(found[1]) if found else 0


if __name__ == "__main__":
    main()
