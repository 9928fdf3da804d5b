"""The benchmark of Transformers, at small size and without processes of its own."""

import os
import time

import pandas as pd
import pytest

from benchmarks import transformers
from benchmarks.transformers import TINY, Cost, cost_of, gflop

NAME = "tiny beats"


@pytest.fixture
def table(monkeypatch, tmp_path):
    """Return a function that runs the benchmark and returns its rows by what they are about."""
    monkeypatch.setattr(transformers, "alone", lambda measure, *arguments, threads: measure(*arguments))

    def run(*options: str) -> pd.DataFrame:
        file = tmp_path / "table.csv"
        monkeypatch.setattr("sys.argv", ["transformers", "--output", str(file), *options])
        transformers.main()
        return pd.read_csv(file).set_index("what")

    return run


def test_embedding_is_compared_with_the_forward_pass_alone(table, monkeypatch):
    costs = [(Cost(2, 1), Cost(1, 2)), (Cost(4, 1), Cost(1, 4)), (Cost(6, 1), Cost(3, 3))]
    monkeypatch.setattr(transformers, "embedding_and_forward", lambda *_: costs)
    rows = table("--only", "embedding", "--transformers", NAME, "--clips", "8")
    # Medians of 2, 4, 6 and 1, 1, 3 seconds for 8 clips; ratios of each round 1/2, 1/4, 1/2 and 2, 4, 3.
    assert rows.loc[f"embedding with {NAME}", ["ours", "naive", "ratio"]].tolist() == [2, 8, 0.5]
    assert rows.loc[f"embedding with {NAME}, CPU time", ["ours", "naive", "ratio"]].tolist() == [8, 2.6667, 3]


def test_the_measurements_run_on_a_cpu(table):
    small = ("--transformers", NAME, "--extractors", "log_mel", "autoencoder", "--clips", "2", "--rounds", "2")
    rows = table(*small, "--trained", NAME, "--batches", "2", "4", "--micro-batch", "2")
    assert (rows.ours > 0).all()
    memory = rows[rows.index.str.startswith("fine-tuning")]
    assert len(memory) == 4
    # Until each of the two steps.
    assert memory.note.str.fullmatch(r".*until each step \d\.\d\d, \d\.\d\d").all()


def test_the_measurements_for_a_gpu_run_on_a_cpu(table):
    small = ("--transformers", NAME, "--gpu-trained", NAME, "--gpu-batch", "4", "--clips", "3", "--steps", "1")
    rows = table("--only", "gpu", *small, "--micro-batch", "2")
    assert (rows.ours > 0).all()
    trained, share = rows.loc[f"training {NAME}, batch 4"], rows.loc[f"training {NAME}, batch 4: share of peak"]
    assert share.ours == pytest.approx(gflop(NAME, trained=True) * trained.ours / 1e3, abs=1e-4)
    assert share.ratio == pytest.approx(share.ours / 989, abs=1e-4)


def test_the_work_of_a_clip_is_that_of_its_matrix_products():
    tokens, frames, width = 62 * 8, 998, TINY["width"]
    # Patches of 256 values to 16, those to the width, and groups of two channels in 128 taps.
    stem = 16 * 256 + 16 * width + 2 * 128 * width
    # Four projections, two products of all pairs of tokens, eight gates of each head, and ffn = width.
    block = 4 * width**2 + 2 * tokens * width + 8 * width + 2 * width**2
    filter_bank = frames * 257 * 128
    work = tokens * (stem + 2 * block)
    assert gflop(NAME, trained=False) == pytest.approx(2e-9 * (work + filter_bank), rel=1e-3)
    # A gradient is twice the work; that of the waveform is not computed.
    assert gflop(NAME, trained=True) == pytest.approx(2e-9 * (3 * work + filter_bank), rel=0.03)


def test_costs_are_seconds_of_the_clock_and_of_the_processor():
    waiting = cost_of(lambda: time.sleep(0.2))
    assert waiting.wall >= 0.2
    assert waiting.cpu < waiting.wall

    def work() -> None:
        end = os.times().user + 0.05
        while os.times().user < end:
            pass

    assert cost_of(work).cpu >= 0.04
