"""Time and memory of the two steps that see the whole of AudioSet at once: its list of clips, and the selection.

    python -m benchmarks.pool_scale FOLDER

makes FOLDER/pool_scale, runs the steps ``list-pool-clips`` and ``select`` there, prints what they took beside the
targets, and removes it. At AudioSet's size that is

- 2,084,320 names of audio files (hard links to empty files, 0.3 GB of folders) as PANNs' download has them: the
  balanced set, the evaluation set and 41 parts of the unbalanced set, with random YTIDs;
- the three segment csvs with one to five of 527 labels a clip, and class_labels_indices.csv (0.1 GB);
- random scores in 100 shards: each of 16 machine types accepts a clip with probability --share.

It takes some five minutes and 4 GB of memory. What was just made is in the system's cache: the first walk over a disk
that has not been read for a while takes longer. Linux only (it reports memory in kB).
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from asdpipe.artifacts.files import write_csv
from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.data import AudioSetListing
from asdpipe.config.iteration import External
from asdpipe.config.method import SelectSettings
from asdpipe.plan import as_json

BALANCED, EVALUATION, UNBALANCED = 22_160, 20_371, 2_041_789
PART = 50_000
LABELS = 527
LINKS = 50_000  # of one file: file systems allow some 65,000
ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", dtype=np.uint8)
TARGETS = {"list-pool-clips": (120, 4.0), "select": (60, 4.0)}  # seconds, GB


def make_pool(root: Path, unbalanced: int) -> None:
    """Write the pool: file names, segment csvs, names of labels."""
    rng = np.random.default_rng(0)
    metadata = root / "metadata"
    metadata.mkdir(parents=True)
    mids = [f"/m/{number:05d}" for number in range(LABELS)]
    names = pd.DataFrame({"index": range(LABELS), "mid": mids, "display_name": [f"Sound {mid}, or so" for mid in mids]})
    write_csv(names, metadata / "class_labels_indices.csv")
    total = BALANCED + EVALUATION + unbalanced
    ytids = np.unique(rng.choice(ALPHABET, (total + 1000, 11)).view("S11").ravel().astype("U11"))
    ytids = rng.permutation(ytids)[:total]
    for name, part in zip(
        ("balanced_train", "eval", "unbalanced_train"), np.split(ytids, [BALANCED, BALANCED + EVALUATION]), strict=True
    ):
        labels = rng.integers(LABELS, size=(len(part), 5))
        counts = 1 + rng.binomial(4, 0.25, size=len(part))
        with (metadata / f"{name}_segments.csv").open("w") as file:
            file.write(f"# Segments csv of made-up clips\n# num_ytids={len(part)}\n# YTID, start_seconds, ...\n")
            for ytid, row, count in zip(part, labels, counts, strict=True):
                quoted = ",".join(mids[label] for label in row[:count])
                file.write(f'{ytid}, 30.000, 40.000, "{quoted}"\n')
        for number, start in enumerate(range(0, len(part), PART)):
            folder = root / "audios" / f"{name}_segments"
            if name == "unbalanced_train":
                folder /= f"{name}_segments_part{number:02d}"
            link_all(folder, part[start : start + PART])


def link_all(folder: Path, ytids: np.ndarray) -> None:
    """Make empty files Y<YTID>.wav, many names a file."""
    folder.mkdir(parents=True)
    for start in range(0, len(ytids), LINKS):
        first, *others = (str(folder / f"Y{ytid}.wav") for ytid in ytids[start : start + LINKS])
        Path(first).touch()
        for other in others:
            os.link(first, other)


def make_scores(folder: Path, clips: Path, shards: int, machines: list[str], share: float) -> None:
    """Write representatives, for their thresholds, and shard by shard the scores of the pairs that pass them."""
    limits = pd.DataFrame({"machine": machines, "domain": "source", "representative": 0, "clip_id": "none"})
    limits = limits.assign(threshold=-0.5, vector=[[1.0]] * len(machines))
    write_table("representatives", limits, folder / "representatives.parquet")
    rng = np.random.default_rng(1)
    for shard in range(shards):
        clip_id = read_table("pool_clips", clips, ["clip_id"], pc.field("shard") == shard).clip_id.to_numpy(
            dtype=object
        )
        clip, machine = np.nonzero(rng.random((len(clip_id), len(machines))) < share)
        score = -0.5 - 0.5 * rng.random(len(clip))
        rows = {"clip_id": clip_id[clip], "machine": np.array(machines, dtype=object)[machine], "score": score}
        write_table("external_scores", pd.DataFrame(rows), folder / f"{shard}.parquet")


def measure(folder: Path, step: str, *arguments: str) -> tuple[float, float]:
    """Run a step, logging into a file; return seconds and peak memory in GB."""
    start = time.monotonic()
    log = str(folder / f"{step}.log")
    process = subprocess.Popen([sys.executable, "-m", "asdpipe", "--log", log, "step", step, *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{step} failed")
    return time.monotonic() - start, usage.ru_maxrss / 1e6


def run(folder: Path, arguments: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Make the files, run both steps, return what they took."""
    root, clips = folder / "pool", folder / "clips.parquet"
    machines = [f"machine{number:02d}" for number in range(arguments.machines)]
    # In a process of its own: what this one holds would count as the steps' memory.
    with ProcessPoolExecutor(1) as elsewhere:
        start = time.monotonic()
        elsewhere.submit(make_pool, root, arguments.unbalanced).result()
        print(f"made {BALANCED + EVALUATION + arguments.unbalanced} file names in {time.monotonic() - start:.0f} s")
        settings = as_json(AudioSetListing(format="audioset", shards=arguments.shards))
        common = ("--name", "pool", "--root", str(root), "--settings", settings)
        output = ("--clips", str(clips), "--shards", str(folder / "shards.json"))
        output += ("--left-out", str(folder / "left_out.csv"))
        taken = {"list-pool-clips": measure(folder, "list-pool-clips", *common, *output)}
        elsewhere.submit(make_scores, folder, clips, arguments.shards, machines, arguments.share).result()
    files = [option for shard in range(arguments.shards) for option in ("--scores", f"{folder}/{shard}.parquet")]
    tables = ("--pool-clips", str(clips), "--representatives", str(folder / "representatives.parquet"), *files)
    output = ("--selected", str(folder / "selected.parquet"))
    settings = as_json(SelectSettings(external=External()))
    taken["select"] = measure(folder, "select", "--settings", settings, "--stage", "1", "--seed", "0", *tables, *output)
    return taken


def main() -> None:
    """Read the command line, run, print, clean up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to make the folder pool_scale")
    parser.add_argument("--unbalanced", type=int, default=UNBALANCED, help="clips of the unbalanced set")
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--machines", type=int, default=16)
    parser.add_argument("--share", type=float, default=0.02, help="pairs of clip and machine type under a threshold")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve() / "pool_scale"
    if folder.exists():
        parser.error(f"{folder} exists already: remove it, or name another folder")
    try:
        taken = run(folder, arguments)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{'step':<17}{'seconds':>9}{'target':>8}{'GB':>8}{'target':>8}")
    for step, (seconds, memory) in taken.items():
        print(f"{step:<17}{seconds:>9.1f}{TARGETS[step][0]:>8}{memory:>8.2f}{TARGETS[step][1]:>8}")


if __name__ == "__main__":
    main()
