"""The five-stage run, killed again and again: it ends with the bytes of an undisturbed one."""

import copy
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from asdpipe.steps.train import CHECKPOINT
from tests.conftest import ROOT, TINY

pytestmark = pytest.mark.soak

KILLS, SEED = 24, 0
TARGET = "results/stage5/auc.csv"
# Long enough trainings to be hit within.
CONFIG = copy.deepcopy(TINY) | {"stages": 5}
CONFIG["training"]["epochs"] = 10
# These hold times and the order in which things happened.
NO_ARTIFACTS = {"logs", "benchmarks"}


def command(folder: Path, *arguments: str) -> list[str]:
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)),
        *("--configfile", str(file), "--set-threads", "train=1", "embed=1", "score_external=1", "--cores", "2"),
        *arguments,
    ]


def start(folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the workflow as the leader of a process group of its own."""
    with log.open("ab") as file:
        arguments = command(folder, "--rerun-incomplete", TARGET)
        return subprocess.Popen(arguments, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)


def unlock(folder: Path) -> None:
    subprocess.run(command(folder, "--unlock"), check=True, capture_output=True)


def artifacts(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below results, hidden ones and what links point to included."""
    results = folder / "results"
    files = [each for each in results.rglob("*") if each.is_file() and not NO_ARTIFACTS & set(each.parts)]
    return {str(each.relative_to(results)): each.read_bytes() for each in files}


def assert_same(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], float]:
    """Return the artifacts of an undisturbed run, and how long it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    begin = time.monotonic()
    assert start(folder, folder / "log").wait() == 0, (folder / "log").read_text()[-3000:]
    return artifacts(folder), time.monotonic() - begin


def test_a_workflow_killed_at_random_moments_ends_with_the_same_bytes(undisturbed, tmp_path, capsys):
    expected, seconds = undisturbed
    draw = random.Random(SEED)
    count: Counter[str] = Counter()
    # A run that is through before it was killed often enough is followed by another one.
    while count["kills"] < KILLS:
        folder = tmp_path / f"run{count['runs']}"
        folder.mkdir()
        count["runs"] += 1
        while True:
            process = start(folder, folder / "log")
            # Half of a kill's time goes into the start; none is too short for the longest job.
            moment = draw.uniform(0.5, max(20, seconds / 6)) if count["kills"] < KILLS else None
            try:
                code = process.wait(moment)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                count["kills"] += 1
                count["kills within a training"] += any(folder.rglob(CHECKPOINT))
                count["half files left behind"] += sum(1 for each in folder.glob("results/**/.*.????????"))
                unlock(folder)
                continue
            assert code == 0, (folder / "log").read_text()[-3000:]
            break
        logs = (each.read_text() for each in folder.rglob("train.log"))
        count["trainings that went on from a checkpoint"] += sum("resuming after epoch" in each for each in logs)
        assert_same(artifacts(folder), expected)
    with capsys.disabled():
        print(f"\n{seconds:.0f} s undisturbed; {len(expected)} files the same; {dict(count)}")
    assert count["kills within a training"] > 0


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_workflow_that_is_asked_to_end_while_it_trains_saves_and_goes_on(undisturbed, tmp_path, which, capsys):
    folder, log = tmp_path, tmp_path / "log"
    asked = 0
    for stage in (1, 2):
        process = start(folder, log)
        while not any(folder.glob(f"results/tiny/*/seed0/stage{stage}/{CHECKPOINT}")):
            assert process.poll() is None, log.read_text()[-3000:]
            time.sleep(0.01)
        # To the group, as a terminal does it for Ctrl-C, and a scheduler for a job.
        os.killpg(process.pid, which)
        assert process.wait(120) != 0
        text = log.read_text()
        asked += 1
        assert text.count("nothing is lost: run the same command again") == asked
        assert any(folder.glob(f"results/tiny/*/seed0/stage{stage}/{CHECKPOINT}"))
    assert start(folder, log).wait() == 0, log.read_text()[-3000:]
    assert_same(artifacts(folder), undisturbed[0])
    with capsys.disabled():
        print(f"\n{which.name}: asked to end {asked} times, saved and went on")
