"""Write the recordings of the second design, once per seed, and the smaller sets as links to them."""

import csv
import os
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from studies.grid import TARGET_CLIPS, TEST_CLIPS, Data
from studies.states import MACHINES, write_machine

TRAINING_CLIP = re.compile(r"section_00_(source|target)_train_normal_(\d+)_.*")


def _write(folder: Path, name: str, seed: int, source_clips: int) -> None:
    done = folder / f"{name}_n{source_clips}"
    if done.exists():
        return
    counts = {"source": source_clips, "target": max(TARGET_CLIPS.values()), "test": TEST_CLIPS}
    write_machine(folder, name, seed, counts)
    done.touch()


def write_data(work: Path, cells: list[tuple[Data, int]], cores: int) -> None:
    """Write what the cells need of the second design, below ``work``/data; what is there stays.

    Args:
        cells: data sets and seeds.
        cores: processes.
    """
    wanted = [(data, seed) for data, seed in cells if data.design == "states"]
    largest: dict[tuple[int, str], int] = {}
    for data, seed in wanted:
        for name in list(MACHINES)[: data.machines]:
            largest[seed, name] = max(largest.get((seed, name), 0), data.clips)
    with ProcessPoolExecutor(cores) as pool:
        jobs = [pool.submit(_write, work / f"data/all_d{seed}", name, seed, n) for (seed, name), n in largest.items()]
        for job in jobs:
            job.result()
    for data, seed in dict.fromkeys(wanted):
        for name in list(MACHINES)[: data.machines]:
            folder = work / data.settings(seed)["root"] / "dev_data/raw" / name
            _link(work / f"data/all_d{seed}/dev_data/raw" / name, folder, data, seed)


def _link(origin: Path, folder: Path, data: Data, seed: int) -> None:
    """Link the first clips of a machine type, and write their states, or those of other clips of the same domain."""
    if (folder / "attributes_00.csv").exists():
        return
    wanted = {"source": data.clips, "target": TARGET_CLIPS[data.clips]}
    with (origin / "attributes_00.csv").open(encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    kept: list[list[str]] = []
    for row in rows:
        match = TRAINING_CLIP.fullmatch(Path(row[0]).name)
        if match is None or int(match[2]) < wanted[match[1]]:
            file = folder / Path(row[0]).relative_to(folder.name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            os.link(origin / Path(row[0]).relative_to(folder.name), file)
            kept.append(row)
    if data.shuffled:
        rng = np.random.default_rng((seed, list(MACHINES).index(folder.name)))
        for domain in wanted:
            of_domain = [row for row in kept if f"_{domain}_train_" in row[0]]
            said = [row[1:] for row in of_domain]
            for row, other in zip(of_domain, rng.permutation(len(said)), strict=True):
                row[1:] = said[other]
    with (folder / "attributes_00.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *kept])
