"""How fast training and embedding run on a GPU, and what that makes of a stage: ``python -m benchmarks.gpu``.

Generated clips at the paper's size by default. Prints clips/s of the project and of the plain implementation in
``benchmarks/naive.py`` (with our pitch shift and its data in memory), the share of the card's peak that the forward
pass reaches, and from them the time of a stage at the size of DCASE 2023 and of scoring 1.8 million clips.
``--device cpu`` with small sizes shows that it runs.
"""

import argparse
import itertools
import time
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.flop_counter import FlopCounterMode

from asdpipe.config.method import Method
from asdpipe.config.networks import MultiResolution
from asdpipe.config.training import ClipTraining
from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.training.batches import TrainingSet
from asdpipe.training.device import pick_device
from asdpipe.training.embedding import embed
from benchmarks import naive, ours

MACHINES, CLASSES = 14, 280
# DCASE 2023: 14 machine types, 1000 training clips, 50 epochs; 990 source clips each make the batches.
STAGE_STEPS, STAGE_CLIPS, POOL_CLIPS = 50 * 14 * 990 / 80, 14 * 1200, 1_800_000
WARM_UP = 5


def clips(count: int, num_samples: int) -> TrainingSet:
    """Return clips of noise, a fifth of them of the target domain."""
    rng = np.random.default_rng(0)
    noise = rng.integers(-8000, 8000, num_samples + count, dtype=np.int16)
    samples = [noise[clip : clip + num_samples] for clip in range(count)]
    index = np.arange(count, dtype=np.int32)
    # A list serves as well as packed waveforms.
    return TrainingSet(samples, index, index % CLASSES, index % MACHINES, index % 5 == 4)  # type: ignore[arg-type]


def wait(device: torch.device) -> float:
    """Return the time at which the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_of_ours(data: TrainingSet, method: Method, num_samples: int, steps: int, device: torch.device) -> float:
    """Return seconds per step of the project's training, data included."""
    times: list[float] = []

    def note(*_: object) -> None:
        # Waits only where the measurement begins and ends: the training itself does not.
        times.append(wait(device) if len(times) in (WARM_UP - 1, WARM_UP + steps - 1) else 0.0)

    hook = register_optimizer_step_post_hook(note)
    try:
        ours.train(data, CLASSES, method, num_samples, (0, 1), device)
    finally:
        hook.remove()
    return (times[WARM_UP + steps - 1] - times[WARM_UP - 1]) / steps


def seconds_of_plain(data: TrainingSet, method: Method, num_samples: int, steps: int, device: torch.device) -> float:
    """Return seconds per step of the plain training."""
    generator = torch.Generator().manual_seed(0)
    network = naive.PlainNetwork(method.network, num_samples).to(device).train()
    centres = [each.detach().to(device) for each in naive.new_centres(method.network, CLASSES, method.loss.subclusters)]
    learned = [each.requires_grad_() for each in centres[1:]]
    optimizer = torch.optim.AdamW([*network.parameters(), *learned], lr=1e-3)
    size, start = method.training.source_per_batch + method.training.target_per_batch, 0.0
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            start = wait(device)
        batch = np.arange(step * size, (step + 1) * size) % len(data)
        x = torch.stack([torch.from_numpy(data[int(clip)] / np.float32(32768)) for clip in batch]).to(device)
        draws = naive.draw(torch.from_numpy(data.machine_index[batch]), method, generator)
        moved = draws._replace(
            **{name: value.to(device) for name, value in draws._asdict().items() if name != "semitones"}
        )
        labels = torch.from_numpy(data.class_index[batch]).long().to(device)
        subspace, triplet = naive.losses(network, centres, x, labels, moved, method, "ours")
        optimizer.zero_grad()
        (subspace + triplet).backward()
        optimizer.step()
    return (wait(device) - start) / steps


def embedding_rate(method: Method, num_samples: int, count: int, device: torch.device) -> float:
    """Return embedded clips per second."""
    network = ours.new_network(method, num_samples)
    data = clips(min(256, count), num_samples)

    def sources(number: int) -> Iterator[NDArray[np.int16]]:
        return (data[clip] for clip in itertools.islice(itertools.cycle(range(len(data))), number))

    for _ in embed(network, sources(len(data)), len(data), device):
        pass
    start = wait(device)
    for _ in embed(network, sources(count), count, device):
        pass
    return count / (wait(device) - start)


def gflop(method: Method, num_samples: int) -> float:
    """Return the GFLOP of a clip's forward pass, convolutions and matrix products only."""
    network = ours.new_network(method, num_samples).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, num_samples))
    return counter.get_total_flops() / 1e9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--seconds", type=float, default=18)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--source-per-batch", type=int, default=80)
    parser.add_argument("--target-per-batch", type=int, default=20)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--embed-clips", type=int, default=10_000)
    parser.add_argument("--peak-tflops", type=float, default=67, help="of the card, as embedding computes: float32")
    options = parser.parse_args()
    device, num_samples = pick_device(options.device), round(options.seconds * SAMPLE_RATE)
    batch = options.source_per_batch + options.target_per_batch
    training = ClipTraining(
        epochs=1, source_per_batch=options.source_per_batch, target_per_batch=options.target_per_batch
    )
    method = Method(network=MultiResolution(width=options.width), training=training)
    # Four fifths are source clips; one epoch has all steps.
    data = clips((WARM_UP + options.steps) * options.source_per_batch * 5 // 4, num_samples)
    own_step = seconds_of_ours(data, method, num_samples, options.steps, device)
    plain_step = seconds_of_plain(data, method, num_samples, max(2, options.steps // 10), device)
    rate = embedding_rate(method, num_samples, options.embed_clips, device)
    work = gflop(method, num_samples)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}; clips of {options.seconds:g} s, width {options.width}, batch {batch}; {work:.2f} GFLOP a clip")
    rates = f"{batch / own_step:.0f} clips/s, {own_step * 1e3:.0f} ms a step; plain: {batch / plain_step:.0f} clips/s"
    print(f"training: {rates}")
    print(f"ratio: {plain_step / own_step:.1f}")
    # Forward and backward, of four views, are twelve forward passes' worth.
    reached = 12 * work * batch / own_step / 1e3
    print(f"training reaches {reached:.1f} TFLOP/s; embedding {work * rate / 1e3:.1f}, ", end="")
    print(f"{work * rate / 10 / options.peak_tflops:.1f} % of peak")
    stage = STAGE_STEPS * own_step + STAGE_CLIPS / rate
    print(f"embedding: {rate:.0f} clips/s; 1.8 million clips: {POOL_CLIPS / rate / 60:.0f} minutes")
    print(f"a stage of DCASE 2023 (training and embedding): {stage / 60:.1f} minutes")


if __name__ == "__main__":
    main()
