"""How fast the program is, as ratios within one run: ``make bench``, or ``python -m benchmarks.bench``.

Compares with the plain implementation in ``benchmarks/naive.py``, prints a table and writes benchmarks/results.csv
(the table) and beside it pitch.csv (semitone by semitone), profile.csv (where a training step's time goes beside
convolutions and matmuls) and scaling.csv (seconds against clips with one thread and with all). Every measurement runs
in a process of its own and is stopped at --limit seconds or --memory GB; where that happened the table says so, and a
ratio is then the bound that was reached. At most ten minutes on two free cores; Linux only.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from asdpipe.artifacts.files import write_csv
from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.training.embedding import BATCH
from benchmarks.probes import TONE, Size

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ["what", "ours", "naive", "unit", "ratio", "target", "note"]
# Below its loudest point by this much a spectrum counts as silent, in dB.
FLOOR_DB = 60
# Of the plain training, and the seconds that they may take.
STEPS_OF_A_SHIFT, LIMIT_OF_A_SHIFT = 2, 45


class Run(NamedTuple):
    """What a process reported."""

    lines: list[dict[str, Any]]
    """One per piece of work."""
    unfinished: float | None
    """Seconds that the piece took so far when the process was stopped at its time limit."""
    out_of_memory: int
    """Pieces that were left out because memory did not suffice."""


class Row(NamedTuple):
    """A line of the table; see COLUMNS."""

    what: str
    ours: float
    naive: float
    unit: str
    ratio: float
    target: str
    note: str


class Bench:
    """Runs measurements on the same sounds.

    Args:
        limit: seconds that each may take.
    """

    def __init__(self, folder: Path, size: Size, limit: float) -> None:
        self.folder, self.size, self.limit = folder, size, limit

    def run(self, name: str, threads: int | None = None, semitones: int | None = None) -> Run:
        """Run one of benchmarks/probes.py in a process of its own; all threads and shifts unless told otherwise."""
        size, limit = self.size._replace(threads=threads or self.size.threads), self.limit
        if semitones is not None:
            size = size._replace(semitones=(semitones, semitones), steps=STEPS_OF_A_SHIFT)
            limit = min(limit, LIMIT_OF_A_SHIFT)
        command = [sys.executable, "-m", "benchmarks.probes", name, str(self.folder), json.dumps(size._asdict())]
        environment = {**os.environ, "OMP_NUM_THREADS": str(size.threads)}
        output, errors = self.folder / f"{name}.jsonl", self.folder / f"{name}.log"
        start, stopped = time.monotonic(), False
        with output.open("w") as out, errors.open("w") as err:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=err)
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                stopped = True
            finally:
                process.kill()
                process.wait()
        end = time.monotonic()
        print(f"{name}, {size.threads} threads: {end - start:.0f} s", file=sys.stderr)
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        if process.returncode and not stopped:
            sys.exit(f"{name} failed:\n{errors.read_text()}")
        unfinished = end - (lines[-1]["at"] if lines else start) if stopped else None
        done = [line for line in lines[1:] if "out_of_memory" not in line]
        return Run(done, unfinished, len(lines[1:]) - len(done))

    def whole(self, name: str, threads: int | None = None) -> list[dict[str, Any]]:
        """Run what has to come to its end, or end the benchmark; return the lines."""
        run = self.run(name, threads)
        if reasons := shortfall(run):
            sys.exit(f"{name}: {reasons}; the machine is too busy or too small: raise --limit or --memory")
        return run.lines


# ---------------------------------------------------------------- the groups of rows


def pitch_rows(bench: Bench) -> tuple[list[Row], pd.DataFrame]:
    """Compare the pitch shifts; also semitone by semitone."""
    ours, plain = bench.whole("pitch_ours"), bench.run("pitch_torchaudio")
    columns = ["semitones", "seconds", "megabytes"]
    own, other = (pd.DataFrame(lines, columns=columns).set_index("semitones") for lines in (ours, plain.lines))
    results, references = (
        {each: np.load(bench.folder / f"{how}{each}.npy") for each in table.index}
        for how, table in (("ours", own), ("torchaudio", other))
    )
    table = own.join(other.add_suffix("_torchaudio")).assign(
        # The last clip is the tone.
        cents=pd.Series({each: cents_off(x[-1], each) for each, x in results.items()}, dtype=float),
        cents_torchaudio=pd.Series({each: cents_off(x[-1], each) for each, x in references.items()}, dtype=float),
        distance_db=pd.Series(
            {each: log_spectral_distance(results[each][:-1], x[:-1]) for each, x in references.items()}, dtype=float
        ),
    )
    common = table.dropna()
    note = "" if len(common) == len(table) else f"torchaudio at {signed(common.index)}; {shortfall(plain)}"
    what = f"pitch shift, {bench.size.pitch_clips} x {bench.size.seconds:g} s"
    seconds = common.seconds.mean(), common.seconds_torchaudio.mean()
    megabytes = table.megabytes.max(), table.megabytes_torchaudio.max()
    cents = table.cents.abs().max(), table.cents_torchaudio.abs().max()
    distance = table.distance_db
    return [
        Row(f"{what}, mean over semitones", *seconds, "s", seconds[1] / seconds[0], ">= 50", note),
        Row(f"{what}, peak memory", *megabytes, "MB", megabytes[1] / megabytes[0], "< 400 MB", note),
        Row("pitch shift, largest error of a tone's pitch", *cents, "cents", math.nan, "<= 0.25", note),
        Row("pitch shift, mean distance to torchaudio's", distance.mean(), math.nan, "dB", math.nan, "<= 0.5", note),
        Row("pitch shift, largest distance to it", distance.max(), math.nan, "dB", math.nan, "<= 0.5", note),
    ], table.reset_index()


def training_rows(bench: Bench) -> tuple[list[Row], pd.DataFrame]:
    """Compare the training steps; also return seconds against clips."""
    size = bench.size
    batch = size.source_per_batch + size.target_per_batch
    all_threads, one_thread = (
        [line["seconds"] for line in bench.whole("train", threads)] for threads in (size.threads, 1)
    )
    seconds = statistics.median(all_threads), statistics.median(one_thread)
    what = f"training, {size.seconds:g} s, width {size.width}, batch {batch}"
    plain, note = shift_by_shift(bench, "train_torchaudio")
    changed = bench.run("train_our_pitch")
    changed_seconds, bounded = median_seconds(changed)
    shifts = signed(line["semitones"] for line in changed.lines)
    changed_note = f"{len(changed.lines)} of {size.steps} steps, at {shifts}"
    if bounded:
        changed_note = f"at least; {changed_note}; {shortfall(changed)}"
    rows = [
        Row(
            f"{what}: {against}",
            batch / seconds[0],
            over(batch, other),
            "clips/s",
            over(other, seconds[0]),
            target,
            why,
        )
        for against, other, target, why in (
            ("the plain one, median of its steps", statistics.median(plain) if plain else math.nan, ">= 5", note),
            ("the plain one, mean of its steps", statistics.fmean(plain) if plain else math.nan, "", note),
            ("the plain one with our pitch shift", changed_seconds, ">= 2", changed_note),
        )
    ]
    rows.append(thread_row("training", size, batch / seconds[0], batch / seconds[1]))
    curve = [
        (f"training, batches of {batch}", threads, batch * (step + 1), sum(times[: step + 1]))
        for threads, times in ((size.threads, all_threads), (1, one_thread))
        for step in range(len(times))
    ]
    return rows, pd.DataFrame(curve, columns=["what", "threads", "clips", "seconds"])


def shift_by_shift(bench: Bench, name: str) -> tuple[list[float], str]:
    """Return seconds of training steps, some at each number of semitones, long ones as far as they came; and a note.

    What torchaudio's shift costs depends on the semitones: with one process for all, the first long one would hide
    the others.
    """
    low, high = bench.size.semitones
    seconds, shifts, cut, out_of_memory = [], [], 0, 0
    for semitones in range(low, high + 1):
        run = bench.run(name, semitones=semitones)
        seconds += [line["seconds"] for line in run.lines]
        shifts += [line["semitones"] for line in run.lines]
        if run.unfinished is not None:
            seconds.append(run.unfinished)
            cut += 1
        out_of_memory += run.out_of_memory
    note = f"{len(shifts)} steps, at {signed(shifts)}"
    if cut:
        note += f"; {cut} more stopped after up to {max(seconds):.0f} s"
    if out_of_memory:
        note += f"; {out_of_memory} left out for want of memory"
    return seconds, f"at least; {note}" if cut or out_of_memory else note


def profile_rows(bench: Bench) -> tuple[list[Row], pd.DataFrame]:
    """Say how much of a training step goes to convolutions and matmuls; and the rest of it by operator."""
    (line,) = bench.whole("profile_step")
    share = 100 * line["matrix_share"]
    row = Row("training, share of convolutions and matmuls", share, math.nan, "%", math.nan, ">= 75", "")
    rest = pd.DataFrame([(key, 100 * value) for key, value in line["rest"].items()], columns=["operator", "percent"])
    return [row], rest[rest.percent >= 0.5].sort_values("percent", ascending=False)


def embedding_rows(bench: Bench) -> tuple[list[Row], pd.DataFrame]:
    """Compare embedding from packed data and from files with the forward pass alone; and seconds against clips."""
    size = bench.size
    all_threads, one_thread = bench.whole("embedding"), bench.whole("embedding_packed", threads=1)

    def ends(lines: list[dict[str, Any]], kind: str) -> NDArray[np.float64]:
        return np.median([line["ends"] for line in lines if line["kind"] == kind], axis=0)

    rate = {kind: size.embed_clips / ends(all_threads, kind)[-1] for kind in ("packed", "flac", "memory", "plain")}
    alone = size.embed_clips / ends(one_thread, "packed")[-1]
    rows = [
        Row(f"embedding from {what}", rate[kind], rate[against], "clips/s", rate[kind] / rate[against], target, note)
        for what, kind, against, target, note in (
            ("flac files", "flac", "memory", ">= 0.9", "naive: forward pass on tensors in memory"),
            ("packed data", "packed", "memory", ">= 0.9", "naive: forward pass on tensors in memory"),
            ("tensors in memory", "memory", "plain", "", "naive: default memory format"),
        )
    ]
    rows.append(thread_row("embedding from packed data", size, rate["packed"], alone))
    curve = [
        ("embedding from packed data", threads, min(BATCH * (batch + 1), size.embed_clips), seconds)
        for threads, lines in ((size.threads, all_threads), (1, one_thread))
        for batch, seconds in enumerate(ends(lines, "packed"))
    ]
    return rows, pd.DataFrame(curve, columns=["what", "threads", "clips", "seconds"])


def thread_row(what: str, size: Size, many: float, one: float) -> Row:
    """Compare the clips/s of all threads with those of one."""
    return Row(f"{what}: {size.threads} threads", many, one, "clips/s", many / one, "", "naive: 1 thread")


# ---------------------------------------------------------------- figures


def median_seconds(run: Run) -> tuple[float, bool]:
    """Return the median time of a piece of work, and whether it is a lower bound: the slowest was not finished."""
    seconds = [line["seconds"] for line in run.lines]
    if run.unfinished is not None:
        seconds.append(run.unfinished)
    return statistics.median(seconds) if seconds else math.nan, run.unfinished is not None or run.out_of_memory > 0


def shortfall(run: Run) -> str:
    """Return in words what of a measurement could not be done."""
    reasons = [f"{run.out_of_memory} left out for want of memory"] if run.out_of_memory else []
    if run.unfinished is not None:
        reasons.append(f"stopped after {run.unfinished:.0f} s of one")
    return ", ".join(reasons)


def log_spectral_distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the distance of two batches (clips, samples) in dB: rms over frequency, mean over frames and clips."""
    window = torch.hann_window(1024)
    power = [torch.stft(torch.from_numpy(x), 1024, 256, window=window, return_complex=True).abs() ** 2 for x in (a, b)]
    floor = power[1].amax(dim=(1, 2), keepdim=True) * 10 ** (-FLOOR_DB / 10)
    levels = [10 * torch.log10(torch.maximum(each, floor)) for each in power]
    return float((levels[0] - levels[1]).square().mean(dim=1).sqrt().mean())


def cents_off(x: NDArray[np.float32], semitones: int) -> float:
    """Return by how many cents the tone that was shifted is off, by the top of a parabola through its log spectrum."""
    middle = x[1500:-1500].astype(np.float64)
    size = 4 * len(middle)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), size))
    peak = int(spectrum.argmax())
    left, top, right = np.log(spectrum[peak - 1 : peak + 2])
    frequency = (peak + 0.5 * (left - right) / (left - 2 * top + right)) * SAMPLE_RATE / size
    return 1200 * math.log2(frequency / TONE) - 100 * semitones


def over(a: float, b: float) -> float:
    """Return a / b; NaN where there is no b."""
    return a / b if b else math.nan


def signed(semitones: Iterable[int]) -> str:
    """Return semitones in words."""
    return ", ".join(f"{each:+d}" for each in semitones) or "none"


def as_text(table: pd.DataFrame) -> str:
    """Return a table for a terminal."""
    cells = table.map(
        lambda cell: ("" if math.isnan(cell) else f"{cell:.3g}") if isinstance(cell, float) else str(cell)
    )
    widths = [max(map(len, [name, *cells[name]])) for name in cells]
    lines = [list(cells), *cells.itertuples(index=False)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="length of the clips (at least 5)")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--source-per-batch", type=int, default=16)
    parser.add_argument("--target-per-batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3, help="training steps that are timed")
    parser.add_argument("--pitch-clips", type=int, default=8)
    parser.add_argument("--semitones", type=int, nargs=2, default=(6, 12), help="range of the shifts, both signs")
    parser.add_argument("--embed-clips", type=int, default=256, help="also the number of clips that are made")
    parser.add_argument("--rounds", type=int, default=3, help="times that every embedding is measured")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=120, help="seconds that one measurement may take")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    parser.add_argument("--memory", type=float, default=round(0.9 * memory, 1), help="GB that one may take")
    parser.add_argument("--only", nargs="+", choices=["pitch", "training", "profile", "embedding"], help="default: all")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks", help="folder of the csv files")
    options = vars(parser.parse_args())
    limit, output, only, memory_gb = (options.pop(key) for key in ("limit", "output", "only", "memory"))
    size = Size(**{**options, "semitones": tuple(options["semitones"])}, memory_gb=memory_gb)
    groups = {"pitch": pitch_rows, "training": training_rows, "profile": profile_rows, "embedding": embedding_rows}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), size, limit)
        bench.whole("make_sounds")
        measured = {name: groups[name](bench) for name in only or groups}
    tables = {"results": pd.DataFrame([row for rows, _ in measured.values() for row in rows], columns=COLUMNS)}
    tables |= {name: detail for name, (_, detail) in measured.items() if name in ("pitch", "profile")}
    if curves := [detail for name, (_, detail) in measured.items() if name in ("training", "embedding")]:
        tables["scaling"] = pd.concat(curves)
    for name, table in tables.items():
        print(f"\n{as_text(table)}")
        write_csv(table, output / f"{name}.csv")


if __name__ == "__main__":
    main()
