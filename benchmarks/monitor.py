"""What scoring new recordings costs: rate beside the embedding pass, start, memory. Linux only.

    python -m benchmarks.monitor FOLDER [--threads 2] [--size demo paper]

Trains a network for one epoch in FOLDER, at the demo's size (clips of 1.5 s) and at the paper's (10 s), and scores
links to a few of its clips. Rates are of one process that embeds and scores the same clips in turn. Start is from the
command to its end, for one recording; memory is the peak of the whole process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
DEMO = {
    "config": {
        "datasets": {"d": {"format": "demo", "clip_seconds": 1.5, "machines": ["fan", "valve"]}},
        "network": {"width": 32, "dft_kernels": [64, 16, 8], "dft_strides": [16, 8, 4]},
    },
    "rounds": 5,
    "many": 10_000,
}
PAPER = {
    "config": {"datasets": {"d": {"format": "demo", "clip_seconds": 10.0, "machines": ["fan", "valve"]}}},
    "rounds": 1,
    "many": None,
}
SIZES: dict[str, dict[str, Any]] = {"demo": DEMO, "paper": PAPER}
FILES = 1000
STAGE = "results/d/ba/seed0/stage1"


def trained(folder: Path, config: dict[str, Any]) -> Path:
    """Train a stage, unless it is there; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    few = {"demo": {"source_clips": 16, "target_clips": 4, "test_clips": 4}}
    data = {"d": config["datasets"]["d"] | few}
    rest = {"dataset": "d", "method": "ba", "pools": {}, "training": {"epochs": 1}, "inference": {"k_source": 2}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config | rest | {"datasets": data}))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--cores", "2", "--configfile", str(folder / "config.yaml"), "--quiet", "all"]
    subprocess.run([*command, "--", f"{STAGE}/auc.csv"], check=True)
    return folder / STAGE


def linked(folder: Path, count: int) -> Path:
    """Return a folder with so many links to the clips of a machine type."""
    clips = sorted((folder / "results/data/d/recordings").rglob("fan/test/*.wav"))
    place = folder / f"{count}/fan"
    place.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        link = place / f"{number:05d}.wav"
        if not link.exists():
            os.link(clips[number % len(clips)], link)
    return place


def rates(model: Path, place: Path, rounds: int, threads: int) -> None:
    """Print the seconds of embedding and of scoring the same clips, in turn, as JSON."""
    import torch

    from asdpipe.data.reading import read_clip
    from asdpipe.monitor.detector import load_detector
    from asdpipe.monitor.origin import stage_scores
    from asdpipe.monitor.scoring import OneMethod
    from asdpipe.training.embedding import embed

    torch.set_num_threads(threads)
    detector, extractor = load_detector(model, "cpu"), OneMethod(stage_scores(model), torch.device("cpu")).extractor
    files = sorted(place.iterdir())
    samples = {file.stat().st_ino: file for file in files}
    read = {inode: read_clip(file) for inode, file in samples.items()}
    clips = [read[file.stat().st_ino] for file in files]
    found: dict[str, list[float]] = {"embed": [], "score": []}
    for number in range(rounds + 1):
        # The first round, of a few clips, warms up.
        some = len(files) if number else 64
        start = time.monotonic()
        for _ in embed(extractor, clips[:some], 0, torch.device("cpu")):
            pass
        middle = time.monotonic()
        assert all(row.result for row in detector.score_files(files[:some]))
        if number:
            found["embed"].append(middle - start)
            found["score"].append(time.monotonic() - middle)
    print(json.dumps(found))


def cost(threads: int, *arguments: object) -> tuple[float, float]:
    """Run a command; return seconds and peak memory in MB."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "ASDPIPE_DEVICE": "cpu"}
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "asdpipe", *map(str, arguments)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"asdpipe {' '.join(map(str, arguments))} failed")
    return time.monotonic() - start, usage.ru_maxrss / 1024


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rates", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rates:
        rates(arguments.folder, Path(arguments.rates[0]), int(arguments.rates[1]), arguments.threads)
        return
    for name in arguments.size:
        size, folder = SIZES[name], arguments.folder.resolve() / name
        model = trained(folder, size["config"])
        place = linked(folder, FILES)
        command = [sys.executable, "-m", "benchmarks.monitor", str(model), "--threads", str(arguments.threads)]
        measured = subprocess.run(
            [*command, "--rates", str(place), str(size["rounds"])],
            env=os.environ | {"OMP_NUM_THREADS": str(arguments.threads)},
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(measured.stdout.splitlines()[-1])
        embedded, scored = (FILES / statistics.median(found[key]) for key in ("embed", "score"))
        ratio = statistics.median(one / other for one, other in zip(found["embed"], found["score"], strict=True))
        print(f"{name}: embed {embedded:.1f} clips/s, score {scored:.1f} files/s, ratio {ratio:.2f}", flush=True)
        starts = [cost(arguments.threads, "score", model, place / "00000.wav")[0] for _ in range(5)]
        print(f"{name}: start to first score {statistics.median(starts):.2f} s (least {min(starts):.2f} s)", flush=True)
        for count in filter(None, (FILES, size["many"])):
            seconds, peak = cost(arguments.threads, "score", model, linked(folder, count), "--csv", folder / "rows.csv")
            print(f"{name}: {count} files, peak {peak:.0f} MB, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
