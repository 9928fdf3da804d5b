"""What ``make bench`` makes of its measurements."""

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from asdpipe.config.method import Method
from benchmarks import bench, gpu, probes
from benchmarks.probes import Size

SIZE = Size(5, 16, 4, 2, 2, 2, (12, 12), 7, 1, 1, 8.0)


def run(*seconds: float, unfinished: float | None = None, out_of_memory: int = 0) -> bench.Run:
    return bench.Run([{"seconds": each, "semitones": 7} for each in seconds], unfinished, out_of_memory)


def test_a_step_that_was_not_finished_makes_the_median_a_bound():
    assert bench.median_seconds(run(3, 1, 2)) == (2, False)
    assert bench.median_seconds(run(3, 1, unfinished=90)) == (3, True)
    assert bench.median_seconds(run(unfinished=90)) == (90, True)
    assert bench.median_seconds(run(3, 1, out_of_memory=1)) == (2, True)
    assert math.isnan(bench.median_seconds(run(out_of_memory=2))[0])


def test_what_could_not_be_done_is_said():
    assert bench.shortfall(run(1)) == ""
    assert bench.shortfall(run(1, unfinished=90.4)) == "stopped after 90 s of one"
    assert bench.shortfall(run(1, unfinished=5, out_of_memory=2)).startswith("2 left out for want of memory, stopped")


def test_a_process_is_stopped_at_its_limit_and_says_how_far_it_came(tmp_path):
    # Nobody makes the sounds of a million clips in two seconds.
    stopped = bench.Bench(tmp_path, SIZE._replace(embed_clips=1_000_000), limit=2).run("make_sounds")
    assert stopped.lines == []
    assert stopped.unfinished > 1
    assert stopped.out_of_memory == 0


def test_work_that_needs_too_much_memory_is_left_out_and_other_errors_are_not():
    assert probes.attempt(lambda: torch.empty(10**15)) is None
    assert probes.attempt(lambda: 3) == 3
    with pytest.raises(RuntimeError, match="shape"):
        probes.attempt(lambda: torch.empty(2).reshape(3))


def test_what_has_to_come_to_its_end_ends_the_benchmark_if_it_does_not(tmp_path):
    with pytest.raises(SystemExit, match=r"make_sounds: stopped after .* raise --limit"):
        bench.Bench(tmp_path, SIZE._replace(embed_clips=1_000_000), limit=1).whole("make_sounds")


def test_a_process_that_fails_ends_the_benchmark_with_its_message(tmp_path):
    with pytest.raises(SystemExit, match="waveforms"):
        bench.Bench(tmp_path, SIZE, limit=600).run("pitch_ours")


def test_log_spectral_distance_is_the_level_of_what_is_louder_and_nothing_of_what_is_silent():
    x = np.random.default_rng(0).normal(size=(2, 16_000)).astype(np.float32)
    assert bench.log_spectral_distance(2 * x, x) == pytest.approx(20 * math.log10(2), abs=1e-3)
    assert bench.log_spectral_distance(x, x) == 0
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)[None]
    assert bench.log_spectral_distance(tone + 1e-5 * x[:1], tone) < 0.1


@pytest.mark.parametrize("off", [-3.0, 0.0, 0.2])
def test_cents_off_are_read_from_the_tone(off):
    frequency = 1000 * 2 ** ((700 + off) / 1200)
    tone = np.sin(2 * np.pi * frequency * np.arange(32_000) / 16_000).astype(np.float32)
    assert bench.cents_off(tone, 7) == pytest.approx(off, abs=1e-3)


def test_the_table_leaves_empty_what_was_not_measured():
    table = pd.DataFrame([bench.Row("a", 1.23456, math.nan, "s", math.nan, ">= 2", "")], columns=bench.COLUMNS)
    header, row = bench.as_text(table).splitlines()
    assert row.split() == ["a", "1.23", "s", ">=", "2"]
    assert header.index("unit") == row.index("s ")


class Canned(bench.Bench):
    """Measurements that were made before, by name and threads."""

    def __init__(self, folder: Path, runs: dict[tuple[str, int], bench.Run]) -> None:
        super().__init__(folder, SIZE._replace(threads=2, steps=3, semitones=(6, 8)), limit=1)
        self.runs = runs

    def run(self, name: str, threads: int | None = None, semitones: int | None = None) -> bench.Run:
        return self.runs[name, semitones or threads or 2]


def test_training_is_compared_with_both_plain_ones_and_with_one_thread(tmp_path):
    runs = {
        ("train", 2): run(1, 2, 3),
        ("train", 1): run(4, 4, 4),
        ("train_torchaudio", 6): run(20, 24),
        ("train_torchaudio", 7): run(32, unfinished=44),
        ("train_torchaudio", 8): run(40, out_of_memory=1),
        ("train_our_pitch", 2): run(4, 6, 5),
    }
    rows, curve = bench.training_rows(Canned(tmp_path, runs))
    # Of 20, 24, 32, 40 and 44 seconds, or more.
    assert [row.ratio for row in rows] == [16, 16, 2.5, 2]
    assert [row.ours for row in rows] == [3, 3, 3, 3]
    assert [row.note for row in rows[:2]] == [
        "at least; 4 steps, at +7, +7, +7, +7; 1 more stopped after up to 44 s; 1 left out for want of memory"
    ] * 2
    assert rows[2].note == "3 of 3 steps, at +7, +7, +7"
    assert curve.seconds.tolist() == [1, 3, 6, 4, 8, 12]
    assert curve.clips.tolist() == [6, 12, 18] * 2
    runs["train", 1] = run(4, unfinished=50)
    with pytest.raises(SystemExit, match="train: stopped after 50 s"):
        bench.training_rows(Canned(tmp_path, runs))


def test_embedding_is_compared_with_the_forward_pass_alone(tmp_path):
    ends = {"packed": 2.0, "flac": 2.5, "memory": 1.0, "plain": 4.0}
    lines = [{"kind": kind, "ends": [0.5, off * end]} for kind, end in ends.items() for off in (1, 1, 9)]
    alone = bench.Run([{"kind": "packed", "ends": [1.5, 3.0]}], None, 0)
    runs = {("embedding", 2): bench.Run(lines, None, 0), ("embedding_packed", 1): alone}
    rows, curve = bench.embedding_rows(Canned(tmp_path, runs))
    assert [row.ratio for row in rows] == pytest.approx([1 / 2.5, 1 / 2, 4, 3 / 2])
    assert curve.seconds.tolist() == [0.5, 2, 1.5, 3]


def test_pitch_shifts_are_compared_where_both_were_made(tmp_path):
    t = np.arange(16_000) / 16_000
    noise = np.random.default_rng(0).normal(size=16_000)
    for how, semitones, off in (("ours", 6, 0.2), ("ours", 7, 0.0), ("torchaudio", 6, 0.1)):
        tone = np.sin(2 * np.pi * 1000 * 2 ** ((100 * semitones + off) / 1200) * t)
        loud = 1 if how == "torchaudio" else 10 ** (1 / 20)
        np.save(tmp_path / f"{how}{semitones}.npy", np.stack([loud * noise, tone]).astype(np.float32))
    lines = [{"semitones": each, "seconds": 0.5 * each, "megabytes": 10 * each} for each in (6, 7)]
    other = [{"semitones": 6, "seconds": 30, "megabytes": 6000}]
    runs = {("pitch_ours", 2): bench.Run(lines, None, 0), ("pitch_torchaudio", 2): bench.Run(other, None, 1)}
    rows, table = bench.pitch_rows(Canned(tmp_path, runs))
    assert [row.ours for row in rows] == pytest.approx([3, 70, 0.2, 1, 1], abs=1e-2)
    assert [row.naive for row in rows[:3]] == pytest.approx([30, 6000, 0.1], abs=1e-2)
    assert rows[0].ratio == 10
    assert rows[0].note == "torchaudio at +6; 1 left out for want of memory"
    assert table.semitones.tolist() == [6, 7]


def test_the_profile_lists_what_is_no_matrix_work(tmp_path):
    line = {"matrix_share": 0.7, "rest": {"a": 0.05, "b": 0.2, "c": 0.001}}
    rows, rest = bench.profile_rows(Canned(tmp_path, {("profile_step", 2): bench.Run([line], None, 0)}))
    assert rows[0].ours == pytest.approx(70)
    assert rest.operator.tolist() == ["b", "a"]


def test_the_benchmark_for_a_gpu_runs_on_a_cpu(monkeypatch, capsys):
    sizes = {"seconds": 5, "width": 16, "source-per-batch": 3, "target-per-batch": 2, "steps": 2, "embed-clips": 4}
    options = [each for name, value in sizes.items() for each in (f"--{name}", str(value))]
    monkeypatch.setattr("sys.argv", ["gpu", "--device", "cpu", *options])
    gpu.main()
    out = capsys.readouterr().out
    training, ratio = (float(re.findall(f"{name}: ([0-9.]+)", out)[0]) for name in ("training", "ratio"))
    assert training > 0
    assert ratio > 0


def test_the_work_of_a_forward_pass_is_that_of_the_paper():
    assert gpu.gflop(Method(), 18 * 16_000) == pytest.approx(2.853, abs=0.01)


def test_a_stage_of_dcase_2023_has_8662_steps():
    assert pytest.approx(8662.5) == gpu.STAGE_STEPS
