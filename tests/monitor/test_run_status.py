"""What asdpipe status says of runs that go on, wait, failed, were killed or are done; of files that are damaged."""

import json
import os
import re
import shlex
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from asdpipe.cli import app
from asdpipe.errors import UserError
from asdpipe.monitor import planned_jobs, run_status_table
from asdpipe.monitor.run_status import SILENCE, Seed, last_lines, read_status
from tests.conftest import ROOT, TINY, run_snakemake
from tests.monitor.conftest import stage

NOW = 2_000_000_000.0
RUNNING = {
    "step": "train",
    "state": "running",
    "host": "node 7",
    "pid": 12,
    "started": NOW - 240,
    "task": "training",
    "done": 30,
    "total": 90,
    "unit": "batch",
    "rate": 0.5,
    "epoch": 4,
    "epochs": 12,
    "losses": {"subspace_loss": 1.25, "triplet_loss": 0.5},
}


@pytest.fixture
def results(tmp_path) -> Path:
    return tmp_path / "results"


def write(path: Path, text: str = "", age: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (NOW - age, NOW - age))
    return path


def begin(results: Path, log: str, age: float = 0, **changes: object) -> None:
    """Write the files of a step that runs."""
    write(results / log, "08:00:00 INFO one\n08:00:01 ERROR two\n", age)
    write(results / log.replace(".log", ".progress.json"), json.dumps(RUNNING | changes), age)


def plan(results: Path, *logs: str, host: str = "login", age: float = 100) -> None:
    """Write what a run has planned."""
    jobs = [{"rule": Path(log).stem, "log": f"results/{log}"} for log in logs]
    run = {"host": host, "pid": 4_000_000, "started": NOW, "jobs": jobs}
    write(results / f".runs/{host}.json", json.dumps(run), age)


def shown(results: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what is printed, without the spaces between columns."""
    with monkeypatch.context() as patch:
        patch.setattr(run_status_table.time, "time", lambda: NOW)
        done = CliRunner().invoke(app, ["status", str(results)])
    assert done.exit_code == 0, done.output
    return "\n".join(" ".join(line.split()) for line in done.output.splitlines())


def test_stages_and_seeds_are_a_table(results, monkeypatch):
    for seed in (0, 1):
        write(results / f"demo/ba/seed{seed}/stage1/scores.parquet")
    write(results / "demo/ba_ps/seed0/stage1/auc.csv")
    write(results / "demo/ba_ps/seed1/stage1/model.safetensors")
    write(results / "own/raw/seed0/stage1/embeddings/test.parquet")
    begin(results, "demo/ba_ps/seed0/stage2/logs/train.log")
    logs = [f"demo/ba_ps/seed{seed}/stage{number}/logs/{rule}.log" for seed, number in ((0, 2), (0, 3), (1, 1))
            for rule in ("train", "score")]  # fmt: skip
    plan(results, *logs, "data/demo/train/logs/pack_clips.log", "stage2/logs/summarize.log")
    # Done, since its log is younger than the run and it has no progress file any more.
    write(results / "demo/ba_ps/seed1/stage1/logs/train.log")
    # Of an earlier run.
    write(results / "demo/ba_ps/seed1/stage1/logs/score.log", age=1000)
    lines = shown(results, monkeypatch).splitlines()
    assert [line for line in lines if line.startswith(("demo ", "own "))] == [
        "demo ba 0 done",
        "demo ba 1 done",
        "demo ba_ps 0 done train 4/12 waiting",
        "demo ba_ps 1 waiting, 1/2 done",
        "own raw 0 embedded",
    ]
    (running,) = (line for line in lines if line.startswith("demo/"))
    assert running.startswith("demo/ba_ps/seed0/stage2 train 4/12 subspace_loss 1.250, triplet_loss 0.500 30/90 batch ")
    assert running.endswith(" 0.5 batch/s 2 min 4 min node 7")
    assert lines[-1] == "1 running, 6 waiting; of 8 jobs that Snakemake has planned on login"


def test_what_failed_shows_the_end_of_its_log(results, monkeypatch):
    begin(results, "demo/ba/seed0/stage1/logs/train.log", state="failed", age=5000)
    begin(results, "data/demo/train/logs/pack_clips.log", state="failed")
    text = shown(results, monkeypatch)
    assert "demo ba 0 failed: train" in text
    for log in ("demo/ba/seed0/stage1/logs/train.log", "data/demo/train/logs/pack_clips.log"):
        assert f"failed: {results}/{log}\n08:00:00 INFO one\n08:00:01 ERROR two\n" in text
    assert text.endswith("2 failed; Snakemake is not running, so that nothing waits")
    # It waits again in a new run.
    plan(results, "demo/ba/seed0/stage1/logs/train.log")
    assert "demo ba 0 waiting" in shown(results, monkeypatch)


def test_a_step_without_a_sign_of_life_is_not_running(results, monkeypatch):
    log = "demo/ba/seed0/stage1/logs/train.log"
    begin(results, log, age=SILENCE)
    assert "demo ba 0 train 4/12" in shown(results, monkeypatch)
    begin(results, log, age=SILENCE + 20)
    text = shown(results, monkeypatch)
    assert "demo ba 0 silent: train" in text
    assert "demo/ba/seed0/stage1 train no sign of life for 3 min" in text
    assert text.endswith("1 without a sign of life; Snakemake is not running, so that nothing waits")


def test_a_killed_step_of_this_machine_has_failed_at_once(results, monkeypatch):
    gone = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(gone, 0)
    begin(results, "demo/ba/seed0/stage1/logs/train.log", host=socket.gethostname(), pid=gone)
    text = shown(results, monkeypatch)
    assert "demo ba 0 failed: train" in text
    assert f"killed: {results}/demo/ba/seed0/stage1/logs/train.log" in text


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "\0", '{"state": "running"}', *(
        json.dumps(RUNNING | change) for change in (
            {"done": -1}, {"total": 10**400}, {"rate": float("nan")}, {"losses": 3}, {"pid": "x"})
    )],
)  # fmt: skip
def test_damaged_files_are_no_end(results, monkeypatch, content):
    begin(results, "demo/ba/seed0/stage1/logs/train.log")
    write(results / "demo/ba/seed0/stage1/logs/train.progress.json", content)
    write(results / ".runs/login.json", content)
    assert "demo ba 0 train\n" in shown(results, monkeypatch)


def test_odd_names_and_values_are_shown_as_they_are(results, monkeypatch):
    begin(
        results, "[red]a b/ba[bold]/seed0/stage1/logs/train.log", losses={"[bold]": 1.0}, rate=0, pid=10**30, host="[x]"
    )
    # What a terminal acts on, and what is no text.
    begin(results, "a\x1b[2J/b\udcff/seed0/stage1/logs/train.log", rate=1e-300, started=-1e300)
    write(results / "demo/ba/seedling/stage1/logs/train.progress.json", json.dumps(RUNNING))
    write(results / "demo/ba/seed0/stage1")
    text = shown(results, monkeypatch)
    assert "[red]a b ba[bold] 0 train 4/12" in text
    assert "a?[2J b? 0 train 4/12" in text
    assert " years years node 7" in text
    assert "[bold] 1.000 30/90 batch 0.0 batch/s 4 min [x]" in text


def test_folders_without_runs(results, monkeypatch):
    with pytest.raises(UserError, match="results: there is no such folder"):
        read_status(results)
    results.mkdir()
    assert shown(results, monkeypatch) == f"{results}: nothing has been run yet"
    assert last_lines(results / "no.log") == []
    assert last_lines(results) == []


def test_watching_looks_again_until_ctrl_c(results, monkeypatch):
    begin(results, "demo/ba/seed0/stage1/logs/train.log")
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(run_status_table.time, "sleep", wait)
    done = CliRunner().invoke(app, ["status", str(results), "--watch", "--interval", "7"])
    assert done.exit_code == 0, done.output
    assert waits == [7, 7, 7]


def test_plans_of_processes_that_have_ended_do_not_count(results):
    planned_jobs.note(results, [("train", "results/demo/ba/seed0/stage1/logs/train.log")])
    plan(results, "demo/ba/seed1/stage1/logs/train.log", host=socket.gethostname())
    assert [run.pid for run in read_status(results).runs] == [os.getpid()]
    # The next run removes them.
    planned_jobs.note(results, [])
    assert [run.pid for run in planned_jobs.read(results).values()] == [os.getpid()]
    planned_jobs.forget(results)
    assert list(results.iterdir()) == []


def test_a_real_run_is_done(ran):
    status = read_status(ran / "results")
    assert not status.jobs
    assert not status.runs
    for method in ("ba", "raw_logmel", "mix"):
        assert status.stages[Seed("tiny", method, 0)][1].reached == "done"
    assert not list((ran / "results").rglob("*.progress.json"))
    assert (ran / stage("ba") / "logs/train.log").is_file()


def test_a_real_run_notes_its_plan_and_what_failed(tmp_path, results, write_clip):
    write_clip(tmp_path / "machines/fan/train/0.wav")
    write(tmp_path / "machines/fan/train/1.wav", "no audio")
    config = TINY | {
        "method": "raw_logmel",
        "dataset": "own",
        "datasets": {"own": {"format": "folder", "root": str(tmp_path / "machines")}},
    }
    # Read by the shell of each job before its command.
    begun = write(tmp_path / "begun.sh", "mkdir -p seen; cp -r results/.runs seen")
    target = "results/data/own/train/waveforms.int16"
    done = run_snakemake(tmp_path, target, config=config, environment={"BASH_ENV": str(begun)})
    assert done.returncode != 0
    (seen,) = planned_jobs.read(tmp_path / "seen").values()
    logs = [f"results/data/own/train/logs/{rule}.log" for rule in ("list_clips", "pack_clips")]
    assert sorted(str(job.log) for job in seen.jobs) == logs
    status = read_status(results)
    assert [(job.rule, job.state) for job in status.others] == [("pack_clips", "failed")], done.stdout
    assert "1.wav" in " ".join(last_lines(status.others[0].log))
    assert not list(results.glob(".*"))


def test_the_documented_commands_run(tmp_path, results, monkeypatch):
    for folder in (results, tmp_path / "FOLDER/results"):
        begin(folder, "demo/ba/seed0/stage1/logs/train.log")
    monkeypatch.chdir(tmp_path)
    # Ctrl-C at the first wait.
    monkeypatch.setattr(run_status_table.time, "sleep", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    (commands,) = re.findall(r"```sh\n(asdpipe status.*?)```", (ROOT / "docs/operations.md").read_text(), flags=re.S)
    assert len(commands.splitlines()) == 3
    for line in commands.splitlines():
        done = CliRunner().invoke(app, shlex.split(line, comments=True)[1:])
        assert done.exit_code == 0, done.output
        assert "train" in done.output
