"""The cells of the study: data sets, methods and results, as a configuration of the ordinary workflow."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from studies.states import CLIP_SECONDS, MACHINES

SEEDS = (0, 1, 2)
TEST_CLIPS = 25
POOL = "pool"
# Two branches of the paper's three: a spectrogram and the spectrum. Three times as fast.
SMALL = {"width": 32, "windows": [1024]}
# 1.5 seconds are too short for the paper's kernels.
SHORT = {"dft_kernels": [64, 16, 8], "dft_strides": [16, 8, 4]}
PAPER = {"dft_kernels": [256, 64, 16], "dft_strides": [64, 32, 4]}
BATCH = 16
# Training clips of a machine type in the target domain.
TARGET_CLIPS = {25: 3, 40: 6, 100: 10, 400: 10, 1000: 10}
# real-mini's training clips of the source domain.
REAL_CLIPS = 63


@dataclass(frozen=True)
class Data:
    """A data set: every seed has recordings of its own."""

    design: str = "states"
    clips: int = 100
    """Source training clips of a machine type."""
    machines: int = 6
    shuffled: bool = False
    """Whether training clips have the states of others."""

    def name(self, seed: int) -> str:
        """Return the name in the configuration."""
        if self.design == "real":
            return "real-mini"
        return f"{self.design}_n{self.clips}_m{self.machines}{'_shuffled' * self.shuffled}_d{seed}"

    def settings(self, seed: int) -> dict[str, Any]:
        """Return the section of the configuration."""
        if self.design == "real":
            return {"format": "dcase", "root": "{data_root}/real-mini", "clip_seconds": 5}
        if self.design == "mechanisms":
            size = {"seed": seed, "source_clips": self.clips, "target_clips": TARGET_CLIPS[self.clips]}
            size["test_clips"] = TEST_CLIPS
            return {"format": "demo", "clip_seconds": CLIP_SECONDS, "pool": POOL, "demo": size}
        root = f"data/{'shuffled' if self.shuffled else 'states'}_n{self.clips}_d{seed}"
        machines = list(MACHINES)[: self.machines]
        return {"format": "dcase", "root": root, "clip_seconds": CLIP_SECONDS, "pool": POOL, "machines": machines}

    @property
    def source_clips(self) -> int:
        """Source training clips of all machine types."""
        return REAL_CLIPS if self.design == "real" else self.clips * self.machines


@dataclass(frozen=True)
class Training:
    """A training: its classes, its size and its losses."""

    steps: int = 500
    labels: str = "machine"
    """machine (stage 1), kmeans (stage 2 on pseudo-labels), state (stage 1 on the states)."""
    subclusters: int = 16
    k: int = 8
    """Pseudo-labels per machine type in the source domain; half as many in the target domain."""
    triplet: bool = False
    external: int = 0
    """N_max of stage 2, or of stage 1 if that takes external clips."""
    at_random: bool = False
    in_first: bool = False
    """Whether stage 1 takes external clips, at random."""
    branches: int = 2

    def epochs(self, data: Data) -> int:
        """Return the epochs that come nearest to the optimiser steps."""
        return max(1, round(self.steps / -(-data.source_clips // BATCH)))

    @property
    def stage(self) -> int:
        """The stage of the results."""
        return 2 if self.labels == "kmeans" or (self.external and not self.in_first) else 1

    def name(self, data: Data) -> str:
        """Return the name of the method in the configuration."""
        parts = [
            f"n{data.clips}",
            f"e{self.epochs(data)}",
            f"s{self.subclusters}",
            "trp" * self.triplet,
            "b3" * (self.branches == 3),
        ]
        parts += ["state" * (self.labels == "state"), f"k{self.k}" * (self.labels == "kmeans")]
        parts += [f"ex{self.external}" * (self.external > 0), "random" * self.at_random, "first" * self.in_first]
        return "_".join(part for part in parts if part)

    def first(self) -> "Training":
        """Return the training of stage 1."""
        return replace(self, labels="machine", k=8, external=0, at_random=False) if self.stage == 2 else self

    def settings(self, data: Data) -> dict[str, Any]:
        """Return the method's sections of the configuration."""
        wide = {} if self.branches == 2 else {"windows": [4096, 128]}
        changes: dict[str, Any] = {
            "network": {**SMALL, **(PAPER if data.design == "real" else SHORT), **wide},
            "loss": {"subclusters": self.subclusters},
            "triplet": {"enabled": self.triplet},
            "training": {"epochs": self.epochs(data), "source_per_batch": BATCH, "target_per_batch": BATCH // 4},
            "external": {"enabled": self.external > 0},
            "pseudo_labels": {"enabled": False},
        }
        if self.labels == "kmeans":
            changes["pseudo_labels"] = {"enabled": True, "k_source": self.k, "k_target": max(1, self.k // 2)}
        changes["training"]["learning_rate"] = 0.004 if data.design != "real" else 0.001
        changes["inference"] = {"k_source": max(1, min(16, data.clips // 10))}
        if self.external:
            changes["external"] |= {"n_max": self.external, "selection": "random" if self.at_random else "score"}
        if self.in_first:
            changes["external"]["first_stage"] = "random"
        if self.labels == "state":
            changes["labels"] = "attribute"
        if self.stage == 2:
            changes["parent"] = self.first().name(data)
        return changes


@dataclass(frozen=True)
class Cell:
    """A training on a data set, with one seed."""

    data: Data
    training: Training
    seed: int

    @property
    def folder(self) -> str:
        """The folder of its results."""
        name = self.training.name(self.data)
        return f"results/{self.data.name(self.seed)}/{name}/seed{self.seed}/stage{self.training.stage}"

    @property
    def baseline(self) -> str:
        """The folder of the nearest neighbour's results on the same clips."""
        return f"results/{self.data.name(self.seed)}/raw_logmel/seed{SEEDS[0]}/stage1"


def _cells(data: Iterable[Data], trainings: Iterable[Training], seeds: Iterable[int] = SEEDS) -> list[Cell]:
    trainings = list(trainings)
    return [Cell(each, training, seed) for seed in seeds for each in data for training in trainings]


def _blocks() -> Iterator[tuple[str, list[Cell]]]:
    both = (Training(), Training(labels="kmeans"))
    three = (*both, Training(labels="state"))
    states, shuffled = Data(), Data(shuffled=True)
    yield "labels", _cells([states], three) + _cells([shuffled], [three[2]])
    yield "mechanisms", _cells([Data("mechanisms")], three)
    sub = [replace(training, subclusters=count) for count in (2, 4) for training in both]
    yield "subclusters", _cells([states], sub[:3])
    few, more = Data(clips=25), Data(clips=400)
    yield "clips", _cells([few, more], both) + _cells([more], three[2:])
    long = [replace(training, steps=2000) for training in three]
    short = [replace(training, steps=100) for training in both]
    yield "steps", _cells([states], [*long, *short])
    yield "subclusters_clips", _cells([few, more], sub[:2])
    yield "machines", _cells([Data(machines=3), Data(machines=14)], both)
    yield "mechanisms_subclusters", _cells([Data("mechanisms")], sub[:2])
    real = Data("real", 20, 3)
    for steps in (125, 500):
        yield "real", _cells([real], [replace(both[0], steps=steps), replace(both[1], steps=steps, k=4)])
    yield (
        "real",
        _cells([real], [replace(both[0], steps=125, subclusters=2), replace(both[1], steps=125, subclusters=2, k=2)]),
    )
    yield "clusters", _cells([states], [replace(both[1], k=count) for count in (2, 16)])
    yield "pool", _cells([states], [Training(external=100, at_random=random) for random in (False, True)])
    first = Training(external=100, at_random=True, in_first=True)
    yield "pool_first", _cells([states, Data(machines=3)], [first])
    yield "clips_steps", _cells([more], long[:2]) + _cells([few, more], short[:1])
    yield "triplet", _cells([states], [replace(training, triplet=True) for training in both])
    yield "mechanisms_clips", _cells([Data("mechanisms", 400)], both)
    yield "branches", _cells([states], [replace(training, branches=3) for training in both])
    yield "paper", _cells([Data(clips=1000)], [replace(training, steps=10_000) for training in both], [0])


BLOCKS: dict[str, list[Cell]] = {}
for _name, _members in _blocks():
    BLOCKS.setdefault(_name, []).extend(_members)


def config() -> dict[str, Any]:
    """Return the configuration of all cells."""
    cells = [cell for block in BLOCKS.values() for cell in block]
    datasets = {cell.data.name(cell.seed): cell.data.settings(cell.seed) for cell in cells}
    methods = {}
    for cell in cells:
        for training in (cell.training, cell.training.first()):
            methods[training.name(cell.data)] = training.settings(cell.data)
    pools = {POOL: {"format": "demo", "clip_seconds": CLIP_SECONDS, "demo": {"clips_per_class": 40}}}
    first = next(iter(datasets))
    common = {"dataset": first, "seeds": list(SEEDS), "device": "auto", "network": {**SMALL, **SHORT}}
    return common | {"datasets": datasets, "pools": pools, "methods": methods}
