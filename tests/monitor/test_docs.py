"""The examples of docs/monitor.md run."""

import csv
import re
import shlex
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from asdpipe.cli import app
from asdpipe.monitor import watch
from tests.conftest import ROOT, run_snakemake
from tests.monitor.conftest import clips_of_test, stage

DOCUMENTED = Path("results/own/ba_trp_ps_ex/seed0/stage1")
EXAMPLES = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs/monitor.md").read_text(), flags=re.S)


@pytest.fixture(scope="module")
def place(ran, tmp_path_factory) -> Path:
    """A folder with the recordings and the results that the examples name."""
    folder = tmp_path_factory.mktemp("place")
    run = folder / DOCUMENTED.parent.parent
    run.parent.mkdir(parents=True)
    run.symlink_to((ran / stage("ba")).parent.parent)
    (folder / "inbox/fan").mkdir(parents=True)
    clip = next(iter(clips_of_test(ran, "fan").values()))
    shutil.copy(clip, folder / "inbox/fan/a.wav")
    samples, rate = soundfile.read(clip, dtype="int16")
    soundfile.write(folder / "inbox/fan/long.wav", np.tile(samples, 7), rate)
    return folder


def test_from_a_folder_to_alarms(tmp_path, monkeypatch):
    (commands,) = (text for kind, text in EXAMPLES if kind == "sh" and text.startswith("cp config/own.yaml"))
    copied, workflow, *lines = commands.splitlines()
    rng = np.random.default_rng(0)
    for place, clips in (("FOLDER/machines/fan/train", 12), ("normals/fan", 9), ("inbox/fan", 1)):
        (tmp_path / place).mkdir(parents=True)
        for number in range(clips):
            soundfile.write(tmp_path / place / f"{'abcdefghijkl'[number]}.wav", 0.1 * rng.normal(size=16_000), 16_000)
    soundfile.write(tmp_path / "inbox/fan/b.wav", 0.1 * np.cumsum(rng.normal(size=16_000)) / 100, 16_000)
    monkeypatch.chdir(tmp_path)
    _, source, target = copied.split()
    shutil.copy(ROOT / source, target)
    program, *arguments = shlex.split(workflow)
    assert program == "snakemake"
    done = run_snakemake(tmp_path, *arguments)
    assert done.returncode == 0, done.stdout
    codes = []
    for line in lines:
        program, *arguments = shlex.split(line, comments=True)
        assert program == "asdpipe"
        run = CliRunner().invoke(app, arguments)
        codes.append(run.exit_code)
        assert "Traceback" not in run.output
    # Another sound is an alarm.
    assert codes == [0, 0, 0, 3]
    with (tmp_path / "today.csv").open() as table:
        rows = {Path(row["file"]).name: row for row in csv.DictReader(table)}
    assert rows["b.wav"]["alarm"] == "True"
    assert float(rows["b.wav"]["p_value"]) == 0.1


@pytest.mark.parametrize("number", [number for number, (kind, _) in enumerate(EXAMPLES) if kind == "python"])
def test_examples_in_python_run(place, monkeypatch, number):
    monkeypatch.chdir(place)
    found: dict = {}
    exec(EXAMPLES[number][1], found)
    assert found["result"].machine == "fan"


def test_commands_run(place, monkeypatch):
    (commands,) = (text for kind, text in EXAMPLES if kind == "sh" and "--watch" in text)
    assignment, *lines = commands.splitlines()
    assert assignment == f"MODEL={DOCUMENTED}"
    monkeypatch.chdir(place)
    assert len(lines) > 3

    # Watching ends after the second look at the folder, without waiting.
    looks: list[float] = []

    def wait(seconds: float) -> bool:
        looks.extend([seconds] if seconds else [])
        return len(looks) == 2

    monkeypatch.setattr(watch, "until_signal", lambda: nullcontext(wait))
    for line in lines:
        program, *arguments = shlex.split(line.replace("$MODEL", str(DOCUMENTED)), comments=True)
        assert program == "asdpipe"
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
    assert len((place / "rows.jsonl").read_text().splitlines()) == 2
    assert len((place / "new.csv").read_text().splitlines()) == 3


def test_commands_that_calibrate_run(ran, tmp_path, monkeypatch):
    (commands,) = (text for kind, text in EXAMPLES if kind == "sh" and "--add-references" in text)
    assignment, *lines = map(str.strip, commands.strip().splitlines())
    assert assignment == f"MODEL={DOCUMENTED}"
    shutil.copytree(ran / "results/data/tiny", tmp_path / "results/data/tiny")
    # The record of the results names their folder.
    model = tmp_path / stage("ba")
    shutil.copytree(ran / stage("ba"), model)
    for name, clips in (("normals", 10), ("references", 2)):
        (tmp_path / name / "fan").mkdir(parents=True)
        samples, rate = soundfile.read(next(iter(clips_of_test(ran, "fan").values())))
        for number in range(clips):
            soundfile.write(tmp_path / name / f"fan/{number}.wav", np.roll(samples, 100 * number), rate)
    monkeypatch.chdir(tmp_path)
    assert len(lines) > 3
    for line in lines:
        program, *arguments = shlex.split(line.replace("$MODEL", str(model)), comments=True)
        assert program == "asdpipe"
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
    assert {file.name for file in (model / "monitor").iterdir()} == {
        "calibration.parquet",
        "limits.csv",
        "references.parquet",
    }


def test_commands_that_explain_run(place, monkeypatch):
    (commands,) = (text for kind, text in EXAMPLES if kind == "sh" and "--output why" in text)
    monkeypatch.chdir(place)
    for line in commands.splitlines()[1:]:
        program, *arguments = shlex.split(line.replace("$MODEL", str(DOCUMENTED)), comments=True)
        assert program == "asdpipe"
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert "1. " in done.output
    names = {file.stem for file in (place / "inbox/fan").iterdir()}
    assert {file.name for file in (place / "why").iterdir()} == {
        f"{name}.{end}" for name in names for end in ("npz", "png")
    }


def test_a_bundle_is_exported_and_scored(ran, place, monkeypatch):
    (commands,) = (text for kind, text in EXAMPLES if kind == "sh" and "asdpipe export" in text)
    monkeypatch.chdir(place)
    for line in commands.splitlines():
        # Written in a second.
        program, *arguments = shlex.split(line.replace(str(DOCUMENTED), str(ran / stage("raw_logmel"))), comments=True)
        assert program == "asdpipe"
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
    assert "inbox/fan/a.wav" in done.stdout
