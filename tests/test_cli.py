"""The command line: help, results as a table, messages instead of tracebacks; no import that is not needed."""

import subprocess
import sys

import pandas as pd
import pytest

from asdpipe.artifacts.tables import write_table
from asdpipe.method.metrics import METRICS
from tests.conftest import run_asdpipe

# What takes a second or more to import.
HEAVY = {"torch", "torchaudio", "sklearn", "scipy.stats", "scipy.signal"}


def loaded(*arguments: str) -> set[str]:
    """Return which of the heavy modules a command has imported when it has printed its help."""
    code = "import atexit, sys; from asdpipe.cli import main; sys.argv[0] = 'asdpipe'; "
    code += f"atexit.register(lambda: print(*({HEAVY} & sys.modules.keys()), file=sys.stderr)); main()"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_help_lists_every_step():
    done = run_asdpipe("--help")
    assert done.returncode == 0
    for step in ("manifest", "features", "train", "embed", "score", "select", "pseudo-label", "evaluate", "table"):
        assert step in done.stdout
    assert "Train one stage." in done.stdout
    assert "Args" not in done.stdout


def test_a_misspelt_step_is_named_with_the_nearest_one():
    done = run_asdpipe("evalute")
    assert done.returncode == 2
    assert "evaluate" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        *("", "download", "demo-dataset", "manifest", "manifest-pool", "features", "features-pool"),
        *("features-selected", "score", "represent", "select", "evaluate", "summarize", "scores-table"),
        *("submission", "paper-table"),
    ],
)
def test_light_steps_start_without_heavy_imports(command):
    assert loaded(*command.split(), "--help") == set()


def test_steps_with_a_network_leave_out_what_only_others_need():
    assert loaded("train", "--help") == loaded("embed", "--help") == {"torch"}
    assert loaded("pseudo-label", "--help") == {"sklearn", "scipy.stats"}


def test_table_prints_stages_side_by_side(tmp_path):
    for stage in (1, 2):
        row = {"dataset": "d", "method": "m", "stage": stage, "split": "dev", "machine": "fan", "section": "00"}
        values = dict.fromkeys(METRICS, 60.0 + stage)
        pd.DataFrame([row | values, row | {"machine": "hmean", "section": ""} | values]).to_csv(
            tmp_path / f"{stage}.csv", index=False
        )
    done = run_asdpipe("table", tmp_path / "1.csv", tmp_path / "2.csv")
    assert done.returncode == 0
    assert "stage 1" in done.stdout
    assert "61.0" in done.stdout
    assert "62.0" in done.stdout
    assert "official" in done.stdout


def test_wrong_settings_and_damaged_tables_end_in_a_message(tmp_path):
    limits = pd.DataFrame({"machine": ["fan"], "threshold": [0.0], "decision_threshold": [0.0]})
    write_table("thresholds", limits, tmp_path / "thresholds.parquet")
    files = ["--clips", tmp_path / "thresholds.parquet", "--embeddings", tmp_path / "thresholds.parquet"]
    outputs = ["--labels", tmp_path / "out.parquet"]
    wrong = run_asdpipe("pseudo-label", "--settings", '{"pseudo_label": {}}', "--seed", 0, *files, *outputs)
    foreign = run_asdpipe("pseudo-label", "--settings", "{}", "--seed", 0, *files, *outputs)
    for done, words in ((wrong, "pseudo_label"), (foreign, "is not a table of embeddings")):
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.parquet").exists()
