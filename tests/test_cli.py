"""The command line: help, results as a table, messages instead of tracebacks, and no needless imports."""

import importlib
import inspect
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest

import asdpipe
from asdpipe.artifacts.tables import write_table
from asdpipe.method.metrics import METRICS
from asdpipe.steps import STEPS
from tests.conftest import run_asdpipe

# Packages that take a second or more to import.
HEAVY = {"torch", "torchaudio", "sklearn", "scipy.stats", "scipy.signal"}
# What steps need of them; all others need none.
NEEDED = {
    **{step: {"torch"} for step in ("train", "embed", "score_external")},
    "import_checkpoint": {"torch", "torchaudio"},
    **{step: {"scipy.signal", "scipy.stats"} for step in ("generate_dataset", "generate_pool")},
    "pseudo_label": {"sklearn", "scipy.stats"},
}


# Each step starts in a fork of a process that has what all of them import.
LOADED = f"""
import json, os, sys
import asdpipe.cli, asdpipe.config.targets, asdpipe.provenance.records, pandas, pyarrow.parquet
from asdpipe.steps import STEPS
assert not {HEAVY} & sys.modules.keys()
for step in STEPS:
    if os.fork() == 0:
        sys.argv = ["asdpipe", "step", step.replace("_", "-"), "--help"]
        try:
            asdpipe.cli.main()
        except SystemExit as end:
            assert not end.code
        sys.stdout.flush()
        print(json.dumps([step, sorted({HEAVY} & sys.modules.keys())]), file=sys.stderr, flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """Which of the heavy modules each step has imported when it has printed its help."""
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    return {step: set(names) for step, names in map(json.loads, done.stderr.splitlines())}


def test_help_lists_what_people_use_and_below_step_every_step_in_order():
    people = run_asdpipe("--help").stdout.split()
    assert {"score", "table", "explain", "step"} <= set(people)
    assert not {step.replace("_", "-") for step in STEPS} - {"score", "calibrate"} & set(people)
    done = run_asdpipe("step", "--help")
    assert done.returncode == 0
    words = done.stdout.split()
    positions = [words.index(step.replace("_", "-")) for step in STEPS]
    assert positions == sorted(positions)
    assert STEPS["train"] in done.stdout


@pytest.mark.parametrize("arguments", ["--help", "score --help", "step --help"])
def test_help_imports_no_step_and_nothing_that_takes_time(arguments):
    code = f"import sys; from asdpipe.cli import app; app({arguments.split()}, standalone_mode=False); "
    slow = ("asdpipe.steps.", "numpy.", "pandas.")
    code += f"sys.exit([name for name in sys.modules if name.startswith({slow})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("step", STEPS)
def test_a_step_has_a_file_and_a_function_of_its_name_and_the_listed_summary(step):
    function = getattr(importlib.import_module(f"asdpipe.steps.{step}"), step)
    assert inspect.getdoc(function).partition("\n")[0] == STEPS[step]


def test_every_file_of_the_steps_is_listed():
    files = {file.stem for file in Path(asdpipe.__file__).parent.joinpath("steps").glob("*.py")}
    assert files - {"__init__", "options"} == set(STEPS)


@pytest.mark.parametrize("name", ["evalute", "evaluate-"])
def test_a_misspelt_step_is_refused_with_the_nearest_one(name):
    done = run_asdpipe("step", name)
    assert done.returncode == 2
    assert "Did you mean 'evaluate'?" in done.stderr


def test_an_argument_that_names_a_step_is_an_argument(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "asdpipe", "table", "train"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "'train' does not exist" in done.stderr


def test_the_version_is_that_of_the_installed_package():
    try:
        assert asdpipe.__version__ == metadata.version("asdpipe")
    except metadata.PackageNotFoundError:
        assert asdpipe.__version__ == "unknown"


@pytest.mark.parametrize("step", STEPS)
def test_steps_start_without_heavy_imports_that_only_others_need(loaded, step):
    assert loaded[step] == NEEDED.get(step, set())


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
    wrong = run_asdpipe("step", "pseudo-label", "--settings", '{"pseudo_label": {}}', "--seed", 0, *files, *outputs)
    whole = '{"pseudo_labels": {"enabled": true, "k_source": 2, "k_target": 1}}'
    foreign = run_asdpipe("step", "pseudo-label", "--settings", whole, "--seed", 0, *files, *outputs)
    for done, words in ((wrong, "pseudo_label"), (foreign, "is not a table of embeddings")):
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.parquet").exists()
