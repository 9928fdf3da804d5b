"""Whether bundles have the scores of PyTorch: ``python -m benchmarks.bundles``; how fast they are, and how soon.

Networks of published size embed generated clips of six machine types. The first paper's is trained for some steps to
tell them apart, as with random weights all clips look the same; BEATs has random weights. Scores are those of
representatives, for log-mel statistics city-block distances. The limits are the decision thresholds that the workflow
has. ``--only`` picks measurements, ``--clips`` is the number of test clips of each. Prints a line for each.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from asdpipe.config.networks import Beats, LogMel, MultiResolution
from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.data.demo.machines import MACHINES, write_dataset
from asdpipe.data.reading import read_clip
from asdpipe.method.scorers import CityBlock, KMeans, Scorer
from asdpipe.models.base import FeatureExtractor
from asdpipe.models.build import build_extractor
from asdpipe.models.onnx_files import write_onnx
from asdpipe.monitor.bundle import BundledMethod, Network, Reading
from asdpipe.monitor.model import Known, Needs, judge
from asdpipe.training.embedding import BATCH, embed

NETWORKS: dict[str, Any] = {"three branches": MultiResolution(), "log-mel": LogMel(), "BEATs": Beats(weights="random")}
MEASURED = [("three branches", 18), ("three branches", 10), ("three branches", 6), ("log-mel", 10), ("BEATs", 10)]
SOURCE_CLIPS, TARGET_CLIPS = 20, 4
STEPS, TRAINED_CLIPS, SHARPNESS = 40, 16, 16
# As by default in the workflow.
DECISION_QUANTILE = 0.9

Clips = Sequence[NDArray[np.int16]]


class Case(NamedTuple):
    """Clips of all machine types."""

    train: Clips
    test: Clips
    train_machines: list[str]
    test_machines: list[str]
    is_source: NDArray[np.bool_]
    """Of the training clips."""


def generated(seconds: float, clips: int) -> Case:
    """Return training clips and about this many test clips, equally many of every machine type, domain and label."""
    found: dict[str, list[tuple[str, bool, NDArray[np.int16]]]] = {"train": [], "test": []}
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"source_clips": SOURCE_CLIPS, "target_clips": TARGET_CLIPS}
        write_dataset(Path(folder), seed=0, clip_seconds=seconds, test_clips=-(-clips // (4 * len(MACHINES))), **sizes)
        for file in sorted(Path(folder).glob("*/raw/*/*/*.wav")):
            samples = read_clip(file)
            found[file.parent.name].append((file.parent.parent.name, "_source_" in file.name, samples))
    of_train, of_test = zip(*found["train"], strict=True), zip(*found["test"], strict=True)
    (train_machines, is_source, train), (test_machines, _, test) = of_train, of_test
    return Case(train, test, list(train_machines), list(test_machines), np.array(is_source))


def train(extractor: FeatureExtractor, case: Case, num_samples: int) -> None:
    """Train an extractor to tell the machine types apart."""
    rng, labels = np.random.default_rng(0), np.array([list(MACHINES).index(machine) for machine in case.train_machines])
    centres = nn.Parameter(torch.randn(len(MACHINES), int(np.prod(extractor.embedding_shape))))
    optimizer = torch.optim.Adam([*extractor.parameters(), centres], lr=1e-3)
    extractor.train()
    for _ in range(STEPS):
        rows = rng.choice(len(labels), TRAINED_CLIPS, replace=False)
        x = torch.from_numpy(np.stack([np.resize(case.train[row], num_samples) for row in rows])) / 32768
        cosine = normalize(extractor(x).flatten(1)) @ normalize(centres).T
        loss = cross_entropy(SHARPNESS * cosine, torch.from_numpy(labels[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def timed(vectors: Callable[[Clips], Iterator[NDArray[np.float32]]], clips: Clips) -> tuple[NDArray[np.float32], float]:
    """Return the embeddings of clips, and clips/s."""
    start = time.perf_counter()
    found = np.concatenate(list(vectors(clips)))
    return found, len(clips) / (time.perf_counter() - start)


def measure(name: str, seconds: int, clips: int, folder: Path) -> str:
    """Compare the scores of a network in PyTorch and in ONNX Runtime, and return a line that tells."""
    case, num_samples = generated(seconds, clips), seconds * SAMPLE_RATE
    torch.manual_seed(0)
    extractor: FeatureExtractor = build_extractor(NETWORKS[name].arguments(), num_samples=num_samples)

    def by_torch(clips: Clips) -> Iterator[NDArray[np.float32]]:
        return embed(extractor, clips, 0, torch.device("cpu"))

    if name == "three branches":
        train(extractor, case, num_samples)
    file = folder / f"{name} {seconds}.onnx"
    write_onnx(extractor.eval(), file)
    start = time.perf_counter()
    network = Network(file)
    started = time.perf_counter() - start
    trained, _ = timed(by_torch, case.train)
    known = {}
    for machine in MACHINES:
        rows = np.flatnonzero(np.array(case.train_machines) == machine)
        scorer: Scorer = CityBlock() if name == "log-mel" else KMeans(16, 0, "cosine")
        known[machine] = Known(scorer.fit(trained[rows], case.is_source[rows]), np.array(rows, dtype=object))
    needs = Needs(num_samples, extractor.min_samples, extractor.num_samples)
    bundled = BundledMethod(known, dict.fromkeys(MACHINES, network), needs, Reading("mix", 0.1))

    def by_onnx(clips: Clips) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(clips), BATCH):
            part = clips[start : start + BATCH]
            yield bundled.embed(part, ["fan"] * len(part))

    (a, torch_rate), (b, onnx_rate) = timed(by_torch, case.test), timed(by_onnx, case.test)
    one, other = (judge(vectors, case.test_machines, known).score for vectors in (a, b))
    test_machines = np.array(case.test_machines)
    limits = np.zeros(len(one))
    for machine in MACHINES:
        rows = np.flatnonzero(np.array(case.train_machines) == machine)
        scorer = known[machine].scorer
        training = scorer.score(trained[rows], np.arange(len(rows))).score
        limits[test_machines == machine] = scorer.limit(training, DECISION_QUANTILE)
    return (
        f"{name}, {len(case.test)} clips of {seconds} s: scores differ by {np.abs(one - other).max():.1e} at most "
        f"(their standard deviation is {one.std():.1e}), {((one > limits) != (other > limits)).sum()} decisions differ "
        f"({(one > limits).sum()} alarms); PyTorch {torch_rate:.1f} clips/s, ONNX Runtime {onnx_rate:.1f} clips/s; "
        f"{file.stat().st_size / 1e6:.1f} MB, loaded in {started:.2f} s"
    )


def main() -> None:
    """Print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--only", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--seconds", nargs="+", type=int, help="lengths to measure, instead of the usual ones")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, seconds in MEASURED:
            if name in options.only and (options.seconds is None or seconds in options.seconds):
                print(measure(name, seconds, options.clips, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
