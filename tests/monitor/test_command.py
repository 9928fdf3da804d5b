"""``asdpipe score``: a row per recording, for people, spreadsheets and scripts."""

import csv
import json
import math
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.testing
from typer.testing import CliRunner

from asdpipe.artifacts.tables import read_table
from asdpipe.cli import app
from asdpipe.errors import UserError
from asdpipe.monitor.command import most_anomalous_first, recordings, score
from asdpipe.monitor.rows import Result, Row
from tests.conftest import run_asdpipe
from tests.monitor.conftest import clips_of_test, stage


def run(*arguments: object) -> typer.testing.Result:
    """Run a command in this process, which has PyTorch already."""
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def inbox(ran, tmp_path_factory) -> Path:
    """A folder with recordings of one machine type, damaged ones, and other files."""
    folder = tmp_path_factory.mktemp("inbox")
    place = folder / "fan/monday [1]"
    place.mkdir(parents=True)
    for number, file in enumerate(clips_of_test(ran, "fan").values()):
        shutil.copy(file, place / f"{number}.wav")
    (folder / "fan/broken.flac").write_bytes(b"no audio")
    (folder / "fan/notes.txt").touch()
    (folder / ".hidden").mkdir()
    shutil.copy(place / "0.wav", folder / ".hidden/0.wav")
    return folder


def test_rows_have_the_scores_of_the_workflow(ran, inbox, tmp_path):
    outputs = ["--csv", tmp_path / "out/rows.csv", "--jsonl", tmp_path / "rows.jsonl"]
    done = run_asdpipe("score", ran / stage("ba"), inbox, *outputs, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "1 .txt, such as" in done.stderr
    assert "9 recordings" in done.stderr
    with (tmp_path / "out/rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    records = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["file"] for row in rows] == [record["file"] for record in records]
    # In the order of the files.
    assert [Path(row["file"]).name for row in rows] == ["broken.flac", *(f"{number}.wav" for number in range(8))]
    assert "not audio" in rows[0]["reason"]
    assert records[0]["score"] is None
    scores = read_table("scores", ran / stage("ba") / "scores.parquet").set_index("clip_id").score
    for name, row, record in zip(clips_of_test(ran, "fan"), rows[1:], records[1:], strict=True):
        assert float(row["score"]) == pytest.approx(scores[name], abs=1e-6)
        assert record["score"] == float(row["score"])
        assert record["alarm"] is (record["score"] > record["limit"])
        assert row["alarm"] == str(record["alarm"])
        assert record["machine"] == "fan"
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert lines[0] == ["file", "machine", "score", "limit", "alarm", "nearest_clip", "reason"]
    printed = [float(line[2]) for line in lines[1:-1]]
    assert printed == sorted(printed, reverse=True)
    assert lines[-1][0].endswith("broken.flac")


def test_a_terminal_has_a_table(ran, inbox):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "asdpipe", "score", str(ran / stage("ba")), str(inbox / "fan/monday [1]/0.wav")]
    environment = os.environ | {"COLUMNS": "300", "TERM": "xterm"}
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, env=environment, check=False)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0, done.stderr
    assert "monday [1]/0.wav" in shown
    assert "nearest clip" in shown
    assert "\x1b[" in shown


def test_an_alarm_can_be_an_exit_code(ran, inbox, tmp_path, write_clip):
    model, clip = ran / stage("raw_logmel"), inbox / "fan/monday [1]/0.wav"
    noise = write_clip(tmp_path / "fan/noise.wav", seconds=3)
    done = run("score", model, clip, noise, "--fail-on-alarm", "--hop", 1)
    assert done.exit_code == 3
    header, first, *_ = (line.split("\t") for line in done.stdout.splitlines())
    assert first[header.index("file")] == str(noise)
    assert first[header.index("alarm")] == "yes"
    assert float(first[header.index("start")]) in (0, 1, 2)
    assert run("score", model, noise).exit_code == 0


def test_what_users_get_wrong_is_said(ran, inbox, tmp_path):
    model, clip = ran / stage("ba"), inbox / "fan/monday [1]/0.wav"
    for arguments, words in (
        ((model, tmp_path / "no"), "does not exist"),
        ((model, clip, "--machine", "pump"), "no machine type 'pump'"),
        ((model, clip, "--hop", 0), "hop: 0"),
    ):
        error = run("score", *arguments).exception
        assert isinstance(error, UserError)
        assert words in str(error)
    done = run_asdpipe("score", tmp_path, clip)
    assert done.returncode == 1
    assert "is not the folder of a stage" in done.stderr
    assert "Traceback" not in done.stderr


def test_files_of_no_machine_type_are_rows_unless_all_are(ran, inbox, tmp_path):
    (tmp_path / "unknown").mkdir()
    shutil.copy(inbox / "fan/monday [1]/0.wav", tmp_path / "unknown/0.wav")
    with pytest.raises(UserError, match=r"say which machine type it is: fan, valve \(--machine\)"):
        score(ran / stage("ba"), [tmp_path])
    rows = score(ran / stage("ba"), [tmp_path, inbox / "fan/monday [1]/0.wav"])
    assert [row.machine for row in rows] == [None, "fan"]
    assert "say which machine type" in rows[0].reason
    assert score(ran / stage("ba"), [tmp_path], "fan")[0].result == rows[1].result


def test_folders_are_searched_without_what_is_hidden(inbox, tmp_path, caplog):
    found = recordings([inbox, inbox / "fan/notes.txt", inbox / "fan/broken.flac"])
    # What is given by name counts whatever its ending, and counts once.
    place = inbox / "fan/monday [1]"
    assert found == [
        inbox / "fan/broken.flac",
        *(place / f"{number}.wav" for number in range(8)),
        inbox / "fan/notes.txt",
    ]
    assert "1 .txt" in caplog.text
    with pytest.raises(UserError, match="holds no recording"):
        recordings([tmp_path])


def test_the_most_anomalous_are_first_and_those_without_a_score_last():
    def row(score: float, limit: float) -> Row:
        return Row(Path("x"), "fan", Result(score, limit, "fan", None))

    rows = [row(-0.5, -0.3), Row(Path("x"), None, None, "bad"), row(0, math.inf), row(5, 1), row(-0.1, -0.3)]
    assert most_anomalous_first(rows) == [rows[3], rows[4], rows[0], rows[2], rows[1]]


def test_file_names_that_are_no_text_are_written(ran, inbox, tmp_path):
    name = os.fsdecode(b"fan/b\xff\nd.wav")
    (tmp_path / "fan").mkdir()
    shutil.copy(inbox / "fan/monday [1]/0.wav", tmp_path / name)
    done = run("score", ran / stage("raw_logmel"), tmp_path / "fan", "--csv", tmp_path / "rows.csv")
    assert done.exit_code == 0
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["file"].endswith("b\\xff\nd.wav")
    assert len(done.stdout.splitlines()) == 2
