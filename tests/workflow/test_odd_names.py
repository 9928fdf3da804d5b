"""Names that are awkward, through the real workflow: what can be read is read, the rest is named."""

import copy
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import TINY, run_snakemake

MACHINES = ("-Lüfter 1", "pump'; touch sprung; '$(x)")
CLIPS = ("-a", "a b", "ö\u0308", "line\nbreak", 'quo"te, comma', "{wildcard}", "%s", "--help")


@pytest.fixture
def odd(tmp_path, write_clip) -> dict:
    """A data set with odd names below an odd root; return a config for it."""
    for seed, machine in enumerate(MACHINES):
        for number, name in enumerate(CLIPS):
            write_clip(tmp_path / f"-my rec's/{machine}/train/-{name}.wav", seed=100 * seed + number)
            write_clip(tmp_path / f"-my rec's/{machine}/test/{name}.wav", seed=100 * seed + number + 50)
    config = copy.deepcopy(TINY) | {"dataset": "own", "yardstick": None}
    config["datasets"]["own"] = {"format": "folder", "root": "-my rec's", "clip_seconds": 1, "machines": [*MACHINES]}
    return config


def test_names_with_spaces_quotes_dashes_and_line_breaks_end_in_scores(odd, tmp_path):
    done = run_snakemake(tmp_path, "results/stage1/scores.csv", config=odd)
    assert done.returncode == 0, done.stdout[-4000:]
    scores = pd.read_csv(tmp_path / "results/stage1/scores.csv")
    assert set(scores.path) == {f"-my rec's/{machine}/test/{name}.wav" for machine in MACHINES for name in CLIPS}
    assert np.isfinite(scores.score).all()
    assert not list(tmp_path.rglob("sprung"))


@pytest.mark.parametrize("kind", ["folder", "dcase"])
@pytest.mark.parametrize("name", [b"L\xfcfter", b"fan\n", b"fan{1}"])
def test_machine_types_that_the_workflow_cannot_take_are_named(odd, tmp_path, write_clip, kind, name):
    odd["datasets"]["own"] |= {"format": kind, "root": "recordings", "machines": None}
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/recordings/" + name))
    write_clip(tmp_path / "clip.wav")
    (folder / "train").mkdir(parents=True)
    (tmp_path / "clip.wav").rename(folder / "train/section_00_source_train_normal_0000_a.wav")
    done = run_snakemake(tmp_path, "-n", "results/stage1/scores.csv", config=odd)
    assert done.returncode != 0
    assert "the name of a folder must not have braces" in done.stdout
    assert "Traceback" not in done.stdout
