"""What Transformers cost: ``make bench``, or ``python -m benchmarks.transformers``.

Clips of noise, networks of published size with random weights. Compares embedding with the forward pass alone, in turn;
measures the CPU time of a clip with every extractor, and the memory of fine-tuning BEATs, whose batches are
micro-batches one after the other. Prints a table and writes it to benchmarks/transformers.csv. Every measurement runs
in a process of its own. CPU time is that of all threads. On a busy machine it is steadier than wall time, although
threads that wait, and caches that are shared, add to it. Linux only (memory from /proc).

``--device cuda`` measures embedding and the training steps of a batch of 512 on a GPU instead: clips/s, the share of
the card's peak, and the memory of its tensors. ``--only gpu`` runs the same on a CPU, which takes small sizes.
"""

import argparse
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.flop_counter import FlopCounterMode

from asdpipe.artifacts.files import write_csv
from asdpipe.config.losses import CrossEntropy, MaskedReconstruction, Triplet
from asdpipe.config.method import Method
from asdpipe.config.networks import AudioMae, Beats, Ced, LogMel, Lora, MaskedAudioMae, Mfcc, MultiResolution
from asdpipe.config.training import FineTuning
from asdpipe.data.audio import FULL_SCALE, SAMPLE_RATE
from asdpipe.method.objectives import Batch
from asdpipe.models.autoencoder import MachineAutoencoder
from asdpipe.models.base import FeatureExtractor
from asdpipe.training.device import full_precision, pick_device
from asdpipe.training.embedding import BATCH, GPU_BATCH, embed
from asdpipe.training.job import objective_context
from benchmarks import ours
from benchmarks.bench import COLUMNS, ROOT, Row, as_text
from benchmarks.gpu import clips, wait
from benchmarks.probes import status_mb

NUM_SAMPLES, CLASSES = 10 * SAMPLE_RATE, 280
TINY = {"layers": 2, "width": 32, "heads": 2}
SETTINGS: dict[str, dict[str, Any]] = {
    "beats": {"network": Beats(weights="random")},
    "beats with LoRA": {"network": Beats(weights="random", lora=Lora())},
    "audio_mae": {"network": AudioMae(weights="random")},
    "audio_mae pre-training": {"network": MaskedAudioMae(weights="random"), "loss": MaskedReconstruction()},
    "ced": {"network": Ced(weights="random")},
    "multi_resolution": {"network": MultiResolution()},
    "log_mel": {"network": LogMel()},
    "mfcc": {"network": Mfcc()},
    # For the tests.
    "tiny beats": {"network": Beats(weights="random", ffn=32, patch_width=16, **TINY)},
}
TRANSFORMERS = ["beats", "audio_mae", "ced"]
EXTRACTORS = [*TRANSFORMERS, "multi_resolution", "log_mel", "mfcc", "autoencoder"]
TRAINED = ["beats", "beats with LoRA", "audio_mae", "audio_mae pre-training"]

Result = TypeVar("Result")


class Cost(NamedTuple):
    """Seconds of a piece of work."""

    wall: float
    cpu: float
    """Of all threads."""


class Training(NamedTuple):
    """What a training took."""

    seconds: list[float]
    """When each step ended."""
    peaks: list[float]
    """Largest memory until the end of each step, and of the training, in MB: resident, or of tensors on a GPU."""


def method(name: str, **training: Any) -> Method:
    """Return a method with one of the networks, trained for one epoch."""
    sections = {"loss": CrossEntropy(), "triplet": Triplet(enabled=False), **SETTINGS[name]}
    return Method(training=FineTuning(epochs=1, warm_up_epochs=0, **training), **sections)


def network(name: str) -> FeatureExtractor:
    """Return an extractor with random weights, in evaluation mode."""
    torch.manual_seed(0)
    built = MachineAutoencoder() if name == "autoencoder" else ours.new_network(method(name), NUM_SAMPLES)
    return built.eval()


def alone(measure: Callable[..., Result], *arguments: Any, threads: int) -> Result:
    """Run a measurement in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        return pool.submit(measure, *arguments).result()


def cost_of(work: Callable[[], object]) -> Cost:
    """Return what a piece of work costs."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


# ---------------------------------------------------------------- measurements, each in a process of its own


def embedding_and_forward(name: str, count: int, rounds: int) -> list[tuple[Cost, Cost]]:
    """Return the costs of embedding clips, and of the forward pass of the same batches in memory, in turn."""
    device = pick_device("cpu")
    extractor, data = network(name), clips(count, NUM_SAMPLES)
    x = torch.from_numpy(np.stack(list(data))).float().div_(FULL_SCALE)

    @torch.inference_mode()
    def forward() -> None:
        for part in x.split(BATCH):
            extractor(part)

    def embedded() -> None:
        for _ in embed(extractor, data, count, device):
            pass

    forward()
    # Whichever is first in a round is second in the next.
    costs = []
    for number in range(rounds):
        first, second = (embedded, forward) if number % 2 == 0 else (forward, embedded)
        pair = cost_of(first), cost_of(second)
        costs.append(pair if number % 2 == 0 else pair[::-1])
    return costs


def embedding_cost(name: str, count: int) -> tuple[Cost, float]:
    """Return the cost of embedding a clip, and the resident memory at its peak, in MB."""
    device, extractor, data = pick_device("cpu"), network(name), clips(count, NUM_SAMPLES)

    def embedded() -> None:
        for _ in embed(extractor, data, count, device):
            pass

    if count < BATCH:
        # Once before, so that one-off costs do not count.
        embedded()
    cost = cost_of(embedded)
    return Cost(cost.wall / count, cost.cpu / count), status_mb("VmHWM")


def training(name: str, steps: int, device_name: str, settings: dict[str, Any]) -> Training:
    """Train for some steps as the program does, its state saved at the end.

    Args:
        settings: of the training, with batch_size.
    """
    device, seconds, peaks = pick_device(device_name), list[float](), list[float]()
    data = clips(steps * settings["batch_size"], NUM_SAMPLES)

    def peak() -> float:
        on_gpu = device.type == "cuda"
        return torch.cuda.max_memory_allocated() / 1e6 if on_gpu else status_mb("VmHWM")

    def note(*_: object) -> None:
        seconds.append(wait(device))
        peaks.append(peak())

    hook = register_optimizer_step_post_hook(note)
    try:
        ours.train(data, CLASSES, method(name, **settings), NUM_SAMPLES, (0, 1), device)
    finally:
        hook.remove()
    return Training(seconds, [*peaks, peak()])


@torch.inference_mode()
def forward_rate(name: str, count: int, device_name: str) -> tuple[float, float]:
    """Return clips per second of embedding and of its forward pass alone, on a device."""
    device, extractor, data = pick_device(device_name), network(name), clips(count, NUM_SAMPLES)
    x = torch.rand(min(GPU_BATCH, count), NUM_SAMPLES, device=device) - 0.5

    def embedded() -> float:
        start = wait(device)
        for _ in embed(extractor, data, count, device):
            pass
        return count / (wait(device) - start)

    embedded()
    start, batches = wait(device), max(1, count // len(x))
    with full_precision():
        for _ in range(batches):
            extractor(x)
    return embedded(), batches * len(x) / (wait(device) - start)


def gflop(name: str, trained: bool) -> float:
    """Return the GFLOP of a clip's forward pass, or of its share of a training step: matrix products alone."""
    sections = method(name, batch_size=1)
    extractor, x = ours.new_network(sections, NUM_SAMPLES), torch.zeros(1, NUM_SAMPLES)
    # The counter does not know the CPU's own attention.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        if trained:
            objective = sections.loss.build(**objective_context(extractor), num_classes=CLASSES)
            label = torch.zeros(1, dtype=torch.int64)
            for loss in objective.terms(extractor.train(), Batch(x, label, label), torch.Generator()):
                loss.backward()
        else:
            with torch.no_grad():
                extractor.eval()(x)
    # The counter takes the gradients of grouped convolutions for those of whole ones.
    counts, aten = counter.get_flop_counts()["Global"], torch.ops.aten
    if aten.convolution_backward in counts:
        counts[aten.convolution_backward] = 2 * counts[aten.convolution]
    return sum(counts.values()) / 1e9


# ---------------------------------------------------------------- the groups of rows


def load() -> str:
    """Return the load of the machine, as a note."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def embedding_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Compare embedding with the forward pass alone."""
    for name in options.transformers:
        count = options.clips
        pairs = alone(embedding_and_forward, name, count, options.rounds, threads=options.threads)
        note = f"naive: forward pass; {options.rounds} rounds of {count} clips; {load()}"
        for what, field in (("", "wall"), (", CPU time", "cpu")):
            own, plain = ([getattr(pair[side], field) for pair in pairs] for side in (0, 1))
            # The median of ratios of neighbours, because the load of the machine changes.
            ratio = statistics.median(b / a for a, b in zip(own, plain, strict=True))
            rate, other = count / statistics.median(own), count / statistics.median(plain)
            yield Row(f"embedding with {name}{what}", rate, other, "clips/s", ratio, ">= 0.9", note)


def cost_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Measure the CPU time of a clip in one thread."""
    for name in options.extractors:
        cost, _ = alone(embedding_cost, name, options.clips, threads=1)
        yield Row(f"embedding a clip with {name}, one thread", cost.cpu, math.nan, "CPU s", math.nan, "", load())


def memory_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Measure the memory of embedding one batch, and of trainings with growing batches."""
    for name in options.transformers:
        _, peak = alone(embedding_cost, name, BATCH, threads=options.threads)
        yield Row(f"embedding with {name}, batch {BATCH}: peak memory", peak / 1e3, math.nan, "GB", math.nan, "", "")
    for checkpointing in (False, True):
        first = math.nan
        for batch in options.batches:
            settings = {"batch_size": batch, "micro_batch": options.micro_batch, "checkpointing": checkpointing}
            found = alone(training, options.trained, options.steps, "cpu", settings, threads=options.threads)
            peak = found.peaks[-1]
            first = peak if math.isnan(first) else first
            what = f"fine-tuning {options.trained}{' with checkpointing' if checkpointing else ''}, batch {batch}"
            until = ", ".join(f"{each / 1e3:.2f}" for each in found.peaks[:-1])
            note = f"naive: batch {options.batches[0]}; micro-batches of {options.micro_batch}; until each step {until}"
            yield Row(f"{what}: peak memory", peak / 1e3, first / 1e3, "GB", peak / first, "<= 1.1", note)


def gpu_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Measure embedding and training steps on a GPU."""
    name_of_card = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    for name in options.transformers:
        rate, forward = alone(forward_rate, name, options.clips, options.device, threads=options.threads)
        note = f"naive: forward pass; {name_of_card}, float32"
        yield Row(f"embedding with {name}", rate, forward, "clips/s", rate / forward, ">= 0.9", note)
        yield share_row(f"embedding with {name}", gflop(name, trained=False) * rate, options.float32_tflops)
    batch = options.gpu_batch
    for name in options.gpu_trained:
        settings = {"batch_size": batch, "micro_batch": options.micro_batch, "checkpointing": options.checkpointing}
        steps = 1 + options.steps
        found = alone(training, name, steps, options.device, settings, threads=options.threads)
        # The first step includes what is done once.
        rate = batch * options.steps / (found.seconds[-1] - found.seconds[0])
        what, note = f"training {name}, batch {batch}", f"micro-batches of {options.micro_batch}"
        yield Row(what, rate, math.nan, "clips/s", math.nan, "", note)
        yield share_row(what, gflop(name, trained=True) * rate, options.bfloat16_tflops)
        yield Row(f"{what}: peak memory", found.peaks[-1] / 1e3, math.nan, "GB", math.nan, "", note)


def share_row(what: str, gflops: float, peak_tflops: float) -> Row:
    """Compare GFLOP/s of matrix products with the peak of a card."""
    reached = gflops / 1e3
    return Row(f"{what}: share of peak", reached, peak_tflops, "TFLOP/s", reached / peak_tflops, "", "naive: peak")


GROUPS = {"embedding": embedding_rows, "cost": cost_rows, "memory": memory_rows, "gpu": gpu_rows}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--only", nargs="+", choices=GROUPS, help="default: all for the device")
    parser.add_argument("--transformers", nargs="+", choices=SETTINGS, default=TRANSFORMERS)
    parser.add_argument("--extractors", nargs="+", choices=[*SETTINGS, "autoencoder"], default=EXTRACTORS)
    parser.add_argument("--clips", type=int, help="clips of an embedding; default: 8, on a GPU 2048")
    parser.add_argument("--rounds", type=int, default=3, help="times that embedding and forward pass are compared")
    parser.add_argument("--trained", choices=SETTINGS, default="beats")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16, 32], help="of trainings, for their memory")
    parser.add_argument("--steps", type=int, default=2, help="of each training; on a GPU one more")
    parser.add_argument("--micro-batch", type=int, help="default: 4, on a GPU 32")
    parser.add_argument("--gpu-trained", nargs="+", choices=SETTINGS, default=TRAINED)
    parser.add_argument("--gpu-batch", type=int, default=512)
    parser.add_argument("--checkpointing", action="store_true", help="of trainings on a GPU")
    parser.add_argument("--float32-tflops", type=float, default=67, help="of the GPU (default: of an H200)")
    parser.add_argument("--bfloat16-tflops", type=float, default=989)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="csv file; default: transformers.csv or transformers_gpu.csv here")
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    options.clips = options.clips or (2048 if on_gpu else 8)
    options.micro_batch = options.micro_batch or (32 if on_gpu else 4)
    names = options.only or (["gpu"] if on_gpu else ["embedding", "cost", "memory"])
    rows = []
    for row in (row for name in names for row in GROUPS[name](options)):
        rows.append(row)
        print(as_text(pd.DataFrame([row], columns=COLUMNS)).splitlines()[1], flush=True)
    table = pd.DataFrame(rows, columns=COLUMNS)
    print(f"\n{as_text(table)}")
    write_csv(table, options.output or ROOT / "benchmarks" / f"transformers{'_gpu' if on_gpu else ''}.csv")


if __name__ == "__main__":
    main()
