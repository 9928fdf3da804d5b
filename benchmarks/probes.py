"""The measurements of ``make bench``, each in a process of its own: ``python -m benchmarks.probes NAME FOLDER SIZE``.

Prints one line of JSON when it is warm and one after every piece of work, each with the time of a clock that all
processes share, so that whoever waits knows how far a process came that had to be stopped. A piece that needs more
memory than allowed is left out, and its line says so. Linux only (memory from /proc).
"""

import gc
import itertools
import json
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.profiler import ProfilerActivity, profile

from asdpipe.artifacts.tables import write_table
from asdpipe.config.losses import Triplet
from asdpipe.config.method import Method
from asdpipe.config.networks import MultiResolution
from asdpipe.config.training import ClipTraining
from asdpipe.data.audio import SAMPLE_RATE, to_float, to_int16
from asdpipe.data.decoding import Clip, Decoded, decoded
from asdpipe.data.reading import BadClip, read_clip
from asdpipe.data.waveforms import Waveforms, pack
from asdpipe.steps.score_external import DECODING_THREADS
from asdpipe.training.batches import TrainingSet
from asdpipe.training.device import pick_device
from asdpipe.training.embedding import BATCH, embed
from benchmarks import naive, ours

MACHINES, CLASSES_EACH = 7, 20
TONE = 1000.0
MATRIX_WORK = re.compile(r"conv|::(mm|addmm|bmm|baddbmm)$")

Lines = Iterator[dict[str, Any]]
OUT_OF_MEMORY = {"out_of_memory": True}
Result = TypeVar("Result")


class Size(NamedTuple):
    """How much is measured."""

    seconds: float
    width: int
    source_per_batch: int
    target_per_batch: int
    steps: int
    pitch_clips: int
    semitones: tuple[int, int]
    embed_clips: int
    rounds: int
    threads: int
    memory_gb: float

    @property
    def num_samples(self) -> int:
        """Length of the clips."""
        return round(self.seconds * SAMPLE_RATE)

    @property
    def method(self) -> Method:
        """The method with all losses at this size."""
        training = ClipTraining(
            epochs=1, source_per_batch=self.source_per_batch, target_per_batch=self.target_per_batch
        )
        network, triplet = MultiResolution(width=self.width), Triplet(semitones=self.semitones)
        return Method(network=network, training=training, triplet=triplet)


# ---------------------------------------------------------------- sounds


def make_sounds(folder: Path, size: Size) -> Lines:
    """Write the clips of all measurements as wav, as flac and packed: machines that hum, in noise."""
    rng = np.random.default_rng(0)
    t = np.arange(size.num_samples) / SAMPLE_RATE
    clips = []
    for clip in range(size.embed_clips):
        hum = sum(np.sin(2 * np.pi * 90 * (1 + clip % MACHINES) * k * t + rng.uniform(0, 6)) / k for k in range(1, 9))
        samples = to_int16((0.05 * hum + 0.02 * rng.standard_normal(len(t))).astype(np.float32))
        clips.append(Decoded(f"{clip:05d}", "", samples))
        for kind in ("wav", "flac"):
            soundfile.write(folder / f"{clip:05d}.{kind}", samples, SAMPLE_RATE, subtype="PCM_16")
    with (folder / "waveforms.int16").open("wb") as file:
        table, _ = pack(clips, file, lambda _: None)
    write_table("waveforms", table, folder / "waveforms.parquet")
    yield {}


def packed(folder: Path) -> Waveforms:
    """Return the clips as the program holds them."""
    return Waveforms([(folder / "waveforms.parquet", folder / "waveforms.int16")])


def tensors(clips: Waveforms) -> torch.Tensor:
    """Return the clips as waveforms (clips, samples)."""
    return torch.from_numpy(np.stack([to_float(each) for each in clips]))


def training_rows(folder: Path, size: Size, batches: int) -> tuple[NDArray[np.int64], TrainingSet]:
    """Return which clips, some of them several times, make an epoch of so many batches, and the training set."""
    waveforms = packed(folder)
    targets = np.arange(max(size.target_per_batch, 1))
    row = np.concatenate([np.arange(batches * size.source_per_batch), targets]) % len(waveforms)
    is_target = np.arange(len(row)) >= batches * size.source_per_batch
    machine = (row % MACHINES).astype(np.int32)
    class_index = machine * CLASSES_EACH + (row // MACHINES % CLASSES_EACH).astype(np.int32)
    return row, TrainingSet(waveforms, row, class_index, machine, is_target)


# ---------------------------------------------------------------- pitch shift


def pitch(folder: Path, size: Size, how: naive.Pitch) -> Lines:
    """Shift a batch, the last clip of it a tone, by every number of semitones; keep the results in the folder."""
    x = tensors(packed(folder))[: size.pitch_clips]
    x[-1] = 0.5 * torch.sin(2 * torch.pi * TONE * torch.arange(size.num_samples, dtype=torch.float64) / SAMPLE_RATE)
    low, high = size.semitones
    if how == "ours":
        pick_device("cpu")
    with torch.no_grad():
        naive.shift(x[:1, : SAMPLE_RATE // 2], torch.tensor([12]), how)
        yield {}
        for semitones in [sign * each for each in range(low, high + 1) for sign in (1, -1)]:
            shifts = torch.full((len(x),), semitones)
            seconds, megabytes, shifted = [], [], None
            for _ in range(3 if how == "ours" else 1):
                gc.collect()
                before = start_of_peak()
                start = time.perf_counter()
                shifted = attempt(partial(naive.shift, x, shifts, how))
                seconds.append(time.perf_counter() - start)
                megabytes.append(status_mb("VmHWM") - before)
            if shifted is None:
                yield OUT_OF_MEMORY
            else:
                np.save(folder / f"{how}{semitones}.npy", shifted.numpy())
                yield {"semitones": semitones, "seconds": statistics.median(seconds), "megabytes": max(megabytes)}


def attempt(work: Callable[[], Result]) -> Result | None:
    """Return what the work returns, None where memory does not suffice."""
    try:
        return work()
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        return None


def start_of_peak() -> float:
    """Forget the largest memory so far; return what is resident now, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return status_mb("VmRSS")


def status_mb(key: str) -> float:
    """Return a size from /proc/self/status in MB."""
    return int(re.findall(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1e3


# ---------------------------------------------------------------- training


def train(folder: Path, size: Size) -> Lines:
    """Time the steps of the project's training, from the end of one to the end of the next, data included."""
    _, clips = training_rows(folder, size, size.steps + 1)
    ends: list[float] = []
    for_each_step(clips, size, lambda: ends.append(time.perf_counter()))
    yield {}
    for start, end in itertools.pairwise(ends):
        yield {"seconds": end - start}


def train_plain(folder: Path, size: Size, how: naive.Pitch) -> Lines:
    """Time the steps of the plain training; one shift per batch, as published."""
    row, clips = training_rows(folder, size, size.steps + 1)
    paths = [folder / f"{each:05d}.wav" for each in row]
    files = naive.Files(paths, clips.class_index, clips.machine_index, clips.is_target)
    triplet = size.method.triplet.model_copy(update={"shift_per": "batch"})
    method = size.method.model_copy(update={"triplet": triplet})
    arguments = files, MACHINES * CLASSES_EACH, method, size.num_samples
    next(naive.train(*arguments, seed=1, pitch="ours"))
    yield {}
    steps = naive.train(*arguments, seed=0, pitch=how)
    for number in range(size.steps):
        start = time.perf_counter()
        step = attempt(partial(next, steps))
        seconds = time.perf_counter() - start
        if step is None:
            yield OUT_OF_MEMORY
            steps = naive.train(*arguments, seed=number + 1, pitch=how)
        else:
            yield {"seconds": seconds, "semitones": step.semitones[0]}


def for_each_step(clips: TrainingSet, size: Size, act: Callable[[], None]) -> None:
    """Train one epoch and act after every step."""
    hook = register_optimizer_step_post_hook(lambda *_: act())
    try:
        ours.train(clips, MACHINES * CLASSES_EACH, size.method, size.num_samples, (0, 1), pick_device("cpu"))
    finally:
        hook.remove()


def profile_step(folder: Path, size: Size) -> Lines:
    """Say which operators the time of the project's steps, but the first, goes to."""
    _, clips = training_rows(folder, size, size.steps + 1)
    profiler = profile(activities=[ProfilerActivity.CPU], acc_events=True)
    ends: list[float] = []

    def watch() -> None:
        ends.append(time.perf_counter())
        if len(ends) == 1:
            profiler.start()
        elif len(ends) == size.steps + 1:
            profiler.stop()

    yield {}
    for_each_step(clips, size, watch)
    own = {each.key: each.self_cpu_time_total / 1e6 for each in profiler.key_averages()}
    total = ends[-1] - ends[0]
    matrix = sum(seconds for key, seconds in own.items() if MATRIX_WORK.search(key))
    rest = {key: seconds / total for key, seconds in own.items() if not MATRIX_WORK.search(key)}
    rest["outside PyTorch's operators"] = 1 - sum(own.values()) / total
    yield {"matrix_share": matrix / total, "rest": rest}


# ---------------------------------------------------------------- embedding


def embedding(folder: Path, size: Size, *kinds: str) -> Lines:
    """Time the embedding of all clips, again and again, all kinds of sources in turn."""
    torch.manual_seed(0)
    network = ours.new_network(size.method, size.num_samples).eval()
    plain = naive.PlainNetwork(size.method.network, size.num_samples).eval()
    waveforms = packed(folder)
    x = tensors(waveforms)
    device = pick_device("cpu")
    passes: dict[str, Callable[[], Iterator[object]]] = {
        "packed": lambda: embed(network, waveforms, len(waveforms), device),
        "flac": lambda: embed(network, from_flac(folder, len(waveforms)), len(waveforms), device),
        "memory": lambda: forward(network, x),
        "plain": lambda: forward(plain, x),
    }
    for kind in kinds:
        next(passes[kind]())
    yield {}
    for _, kind in itertools.product(range(size.rounds), kinds):
        start = time.perf_counter()
        ends = [time.perf_counter() - start for _ in passes[kind]()]
        yield {"kind": kind, "ends": ends}


@torch.inference_mode()
def forward(network: torch.nn.Module, x: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the embeddings of waveforms in memory, batch by batch."""
    for part in x.split(BATCH):
        yield network(part).flatten(1)


def from_flac(folder: Path, count: int) -> Iterator[NDArray[np.int16]]:
    """Yield clips decoded as the scoring of a pool decodes them."""
    clips = (Clip(f"{clip:05d}", "", folder / f"{clip:05d}.flac") for clip in range(count))
    for clip in decoded(clips, read_clip, DECODING_THREADS):
        if isinstance(clip.samples, BadClip):
            raise clip.samples
        yield clip.samples


PROBES: dict[str, Callable[[Path, Size], Lines]] = {
    "make_sounds": make_sounds,
    "pitch_ours": partial(pitch, how="ours"),
    "pitch_torchaudio": partial(pitch, how="torchaudio"),
    "train": train,
    "train_our_pitch": partial(train_plain, how="ours"),
    "train_torchaudio": partial(train_plain, how="torchaudio"),
    "profile_step": profile_step,
    "embedding": lambda folder, size: embedding(folder, size, "packed", "flac", "memory", "plain"),
    "embedding_packed": lambda folder, size: embedding(folder, size, "packed"),
}


def main() -> None:
    """Run one measurement."""
    name, folder, settings = sys.argv[1:]
    size = Size(**json.loads(settings))
    limit = round(size.memory_gb * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    torch.set_num_threads(size.threads)
    for line in PROBES[name](Path(folder), size):
        print(json.dumps({**line, "at": time.monotonic()}), flush=True)


if __name__ == "__main__":
    main()
