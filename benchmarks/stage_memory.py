"""Peak memory of a stage's steps at the size of DCASE 2023: 14 machine types of 1000 training clips of 18 s, width 128.

Usage: python -m benchmarks.stage_memory FOLDER [--source 16 --target 4] [--seconds 120] [--threads 2]

Writes noise of that size into FOLDER (10 GB), then runs each step as the workflow does, on all training clips. Training
and embedding are stopped after ``--seconds`` of work, when their memory no longer grows; the other steps run to their
end, on random embeddings. What counts is the step's anonymous memory (RssAnon), read every 20 ms: mapped pages of the
packed samples are the kernel's to take back.
Linux only (memory from /proc).
"""

import argparse
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
from asdpipe.config.base import Section
from asdpipe.config.data import Decoding
from asdpipe.config.method import ExternalScoreSettings, Method, NetworkSettings, PseudoLabelSettings
from asdpipe.config.training import ClipTraining
from asdpipe.models.build import build_extractor
from asdpipe.models.files import save_model
from asdpipe.plan import as_json

MACHINES = 14
# Clips of each machine type, by domain.
SPLITS = {"train": {"source": 990, "target": 10}, "test": {"source": 100, "target": 100}}
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
    batches = {"source_per_batch": arguments.source, "target_per_batch": arguments.target}
    method = Method(training=ClipTraining(**batches))
    train, test = (folder / split for split in ("train", "test"))
    packed = f"--clips {train}/clips.parquet --index {train}/waveforms.parquet --samples {train}/waveforms.int16"
    model = f"--weights {folder}/model.safetensors --description {folder}/model.json"
    embedded = f"--clips {train}/clips.parquet --embeddings {train}/embeddings.parquet"
    out = f"{folder}/out"
    steps: dict[str, tuple[Section, str]] = {
        "train": (
            method.training_settings(),
            f"--num-samples {NUM_SAMPLES} --stage 1 --seed 0 {packed} "
            f"--labels {out}.labels --weights {out}.weights --description {out}.json --history {out}.csv",
        ),
        "embed": (
            NetworkSettings(network=method.network),
            f"--num-samples {NUM_SAMPLES} {packed} {model} --embeddings {out}.embeddings",
        ),
        "represent": (
            method.represent_settings(),
            f"--seed 0 {embedded} --representatives {folder}/representatives.parquet",
        ),
        "pseudo-label": (
            PseudoLabelSettings(pseudo_labels=method.pseudo_labels),
            f"--seed 0 {embedded} --labels {out}.pseudo",
        ),
        "score": (
            method.score_settings(),
            f"--seed 0 --train-clips {train}/clips.parquet --train-embeddings {train}/embeddings.parquet "
            f"--test-clips {test}/clips.parquet --test-embeddings {test}/embeddings.parquet "
            f"--representatives {folder}/representatives.parquet "
            f"--scores {out}.scores --thresholds {out}.thresholds",
        ),
        "score-external": (
            ExternalScoreSettings(decoding=Decoding(), similarity=method.inference.similarity),
            f"--pool generated {model} --representatives {folder}/representatives.parquet "
            f"--index {train}/waveforms.parquet --samples {train}/waveforms.int16 "
            f"--scores {out}.external --skipped {out}.skipped",
        ),
    }
    environment = os.environ | {"OMP_NUM_THREADS": arguments.threads, "ASDPIPE_DEVICE": "cpu"}
    print(f"batch of {arguments.source} + {arguments.target} clips of 18 s, width 128")
    print("| step | anonymous MB | mapped MB | s | came to |\n|---|---|---|---|---|")
    for name, (settings, options) in steps.items():
        command = ["step", name, "--settings", as_json(settings), *options.split()]
        peak = run(command, folder / f"{name}.log", environment, arguments.seconds)
        print("|", " | ".join([name, *map(str, peak)]), "|", flush=True)


def generate(folder: Path) -> None:
    """Write manifests, packed noise, an untrained model and random embeddings; samples that are there are kept."""
    rng = np.random.default_rng(0)
    method = Method()
    for split, counts in SPLITS.items():
        (folder / split).mkdir(exist_ok=True)
        domains = [domain for domain, count in counts.items() for _ in range(count)]
        rows = [
            (f"m{machine:02d}/{split}/{number}", f"m{machine:02d}", domain, split)
            for machine in range(MACHINES)
            for number, domain in enumerate(domains)
        ]
        clips = pd.DataFrame(rows, columns=["clip_id", "machine", "domain", "split"])
        facts = {"path": "none", "dataset": "generated", "section": "00", "part": "dev", "is_normal": True}
        clips = clips.assign(attributes=None, sample_rate=16_000, num_frames=NUM_SAMPLES, **facts)
        write_table("clips", clips, folder / split / "clips.parquet")
        index = clips[["clip_id"]].assign(offset=np.arange(len(clips)) * NUM_SAMPLES, num_samples=NUM_SAMPLES)
        write_table("waveforms", index, folder / split / "waveforms.parquet")
        samples, size = folder / split / "waveforms.int16", len(clips) * NUM_SAMPLES * 2
        if not samples.is_file() or samples.stat().st_size != size:
            noise = rng.normal(0, 1000, 101 * NUM_SAMPLES).astype("<i2").tobytes()
            with samples.open("wb") as file:
                for start in range(0, size, len(noise)):
                    file.write(noise[: size - start])
        vectors = rng.normal(size=(len(clips), 3 * method.network.width)).astype(np.float32)
        table = clips[["clip_id"]].assign(embedding=list(vectors))
        write_table("embeddings", table, folder / split / "embeddings.parquet")
    network = method.network.model_dump(mode="json")
    extractor = build_extractor(network, num_samples=NUM_SAMPLES)
    save_model(extractor, network, NUM_SAMPLES, folder / "model.safetensors", folder / "model.json")


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
