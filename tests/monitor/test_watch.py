"""``asdpipe score --watch``: every recording that arrives has one row, whatever happens to files and to the program."""

import csv
import itertools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from asdpipe.artifacts.tables import read_table
from asdpipe.cli import app
from asdpipe.errors import UserError
from asdpipe.monitor import watch as watching
from asdpipe.monitor.command import CSV_HEAD
from asdpipe.monitor.journal import CSV, JSON_LINES, Journal
from asdpipe.monitor.rows import Result, Row
from asdpipe.monitor.watch import PATIENCE, Inbox, until_signal, watch
from tests.monitor.conftest import clips_of_test, stage


def row(file: Path, score: float = 0.1, reason: str = "") -> Row:
    return Row(file, "fan", None if reason else Result(score, 0.5, "fan", "a,b.wav"), reason)


def read_rows(file: Path) -> list[dict]:
    with file.open(newline="", encoding="utf-8") as source:
        return list(csv.DictReader(source)) if file.suffix == ".csv" else [json.loads(line) for line in source]


NAMES = ["a.wav", 'quo"te, and\nline.wav', os.fsdecode(b"\xff\r.wav"), os.fsdecode(b"\xfe\r.wav")]
ROWS = [row(Path("/in") / name, math.inf if name == "a.wav" else 0.1) for name in NAMES]
ROWS += [row(Path("/in/b.wav"), reason='is "bad",\nvery')]


@pytest.mark.parametrize("form", [CSV, JSON_LINES], ids=["csv", "jsonl"])
def test_a_file_of_rows_that_is_cut_anywhere_has_every_row_once_after_a_restart(form, tmp_path, monkeypatch):
    # Takes most of the time.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    whole = tmp_path / ("rows.csv" if form == CSV else "rows.jsonl")
    with Journal(whole, form) as journal:
        for each in ROWS:
            journal.append([each])
        # Ignored: it has its row.
        journal.append(ROWS[:1])
    data, expected = whole.read_bytes(), read_rows(whole)
    assert len({each["file"] for each in expected}) == len(ROWS)
    ends = [len(form.lines(ROWS[:count]).encode()) + len(CSV_HEAD) * (form == CSV) for count in range(len(ROWS) + 1)]
    cut = tmp_path / whole.name.replace("rows", "cut")
    for size in range(len(data)):
        cut.write_bytes(data[:size])
        with Journal(cut, form) as journal:
            assert [each.file in journal for each in ROWS] == [end <= size for end in ends[1:]]
            journal.append(ROWS)
        assert cut.read_bytes() == data


def test_other_files_are_left_as_they_are(tmp_path):
    for number, (form, text) in enumerate(
        [
            (CSV, "my,own,table\n1,2,3\n"),
            (CSV, "notes without an end"),
            (CSV, f"{CSV_HEAD}one column\n"),
            (CSV, CSV_HEAD.replace("score,", "")),
            (JSON_LINES, "[]\n"),
            (JSON_LINES, '{"file": 3}\n'),
            (JSON_LINES, '{"file": "a.wav"}\n{"fi\n{"file": "b.wav"}\n'),
        ]
    ):
        file = tmp_path / str(number)
        file.write_text(text)
        with pytest.raises(UserError, match=rf"{file}: is not a file of rows .* give another file"):
            Journal(file, form)
        assert file.read_text() == text


def test_two_programs_do_not_write_to_one_file(tmp_path):
    with Journal(tmp_path / "rows.csv", CSV), pytest.raises(UserError, match="another program writes to it"):
        Journal(tmp_path / "rows.csv", CSV)
    Journal(tmp_path / "rows.csv", CSV).close()


class Stage:
    """A folder, a scorer that reads texts, and actions that happen while the program waits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.csv, self.jsonl = folder.parent / "rows.csv", folder.parent / "rows.jsonl"
        self.scored: list[str] = []

    def write(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file

    def score(self, files: Sequence[Path]) -> Iterator[Row]:
        for file in files:
            self.scored.append(file.name)
            try:
                text = file.read_text()
            except OSError:
                text = ""
            # The score tells how much of the file was read.
            yield row(file, len(text), "" if text.endswith("end") else "truncated")

    def run(self, *actions: Callable[[], object] | None) -> int:
        """Watch; do an action at each wait, none for None, and then stop."""
        left = iter(actions)
        stopped = False

        def wait(seconds: float) -> bool:
            nonlocal stopped
            if seconds:
                action = next(left, self.run)
                stopped = action == self.run
                if action and not stopped:
                    action()
            return stopped

        with Journal(self.csv, CSV) as first, Journal(self.jsonl, JSON_LINES) as second:
            return watch(Inbox(self.folder), self.score, [first, second], wait, 1.0)

    def rows(self) -> dict[str, float | str]:
        """Return scores or reasons by name; both files must agree, and have no file twice."""
        found = [
            {Path(each["file"]).name: each["reason"] or float(each["score"]) for each in read_rows(file)}
            for file in (self.csv, self.jsonl)
        ]
        assert found[0] == found[1]
        assert len(read_rows(self.csv)) == len(read_rows(self.jsonl)) == len(found[0])
        return found[0]


@pytest.fixture
def place(tmp_path) -> Stage:
    return Stage(tmp_path / "inbox")


def test_a_file_is_scored_once_when_it_has_not_changed_for_an_interval(place):
    place.write("before.wav", "end")
    parts = ["a", "ab", "ab end"]
    writes = [lambda text=text: place.write("slow.wav", text) for text in parts]
    place.write("x.tmp", "moved in end")
    move = (place.folder / "x.tmp").rename
    assert place.run(*writes, lambda: move(place.folder / "x.wav"), None, None, None) == 3
    assert place.rows() == {"before.wav": 3, "slow.wav": 6, "x.wav": 12}
    assert sorted(place.scored) == ["before.wav", "slow.wav", "x.wav"]
    # A restart scores nothing again, but what is new.
    place.write("fan/new.FLAC", "end")
    place.write(".hidden.wav", "end")
    place.write("notes.txt", "end")
    (place.folder / "folder.wav").mkdir()
    (place.folder / "lost.wav").symlink_to("nowhere.wav")
    place.run(None, None, None)
    assert sorted(place.scored) == ["before.wav", "new.FLAC", "slow.wav", "x.wav"]
    assert place.rows()["new.FLAC"] == 3


def test_a_broken_file_has_its_row_when_it_has_not_changed_for_long(place):
    file = place.write("broken.wav", "half")
    place.run(*[None] * (PATIENCE - 1))
    assert place.rows() == {}
    place.run(*[None] * PATIENCE)
    assert place.rows() == {"broken.wav": "truncated"}
    # Its program was only slow.
    file = place.write("paused.wav", "half")
    place.run(*[None] * 5, lambda: file.write_text("half, and the end"), *[None] * 2)
    assert place.rows()["paused.wav"] == 17


def test_a_wav_whose_header_is_not_final_waits(place):
    file = place.folder / "open.wav"
    with soundfile.SoundFile(file, "w", 16_000, 1) as target:
        target.write([0.1] * 1000)
        target.flush()
        assert watching.is_incomplete(file)
        place.run(*[None] * (PATIENCE - 1))
        assert place.scored == []
    assert not watching.is_incomplete(file)
    assert watching.is_incomplete(place.write("empty.flac", ""))
    assert watching.is_incomplete(place.folder / "missing.wav")


def test_files_may_go_or_change_at_any_moment(place, monkeypatch):
    before = {"gone.wav": Path.unlink, "old.wav": lambda file: file.rename(file.with_name("new.wav"))}
    before["unknown.wav"] = Path.unlink
    after = {"moved.wav": Path.unlink, "longer.wav": lambda file: file.write_text("longer end")}
    score = place.score

    def disturbed(files: Sequence[Path]) -> Iterator[Row]:
        for file in files:
            before.pop(file.name, lambda file: None)(file)
            (found,) = score([file])
            after.pop(file.name, lambda file: None)(file)
            yield found._replace(machine=None) if file.name == "unknown.wav" else found

    monkeypatch.setattr(place, "score", disturbed)
    for name in (*before, *after, "stays.wav"):
        place.write(name, "end")
    place.run(*[None] * 6)
    # What was read as a whole before it was moved away has a row.
    assert place.rows() == {"moved.wav": 3, "new.wav": 3, "longer.wav": 10, "stays.wav": 3}


def test_the_folder_may_be_away_for_a_while(place, caplog):
    place.write("a.wav", "end")
    away = place.folder.with_name("away")
    place.run(lambda: place.folder.rename(away), None, lambda: away.rename(place.folder), None, None)
    assert place.rows() == {"a.wav": 3}
    assert "is not there at the moment" in caplog.text


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("seed", range(4))
def test_no_row_is_lost_or_doubled_when_the_program_is_killed_at_any_moment(place, seed, monkeypatch):
    rng = random.Random(seed)
    numbers, whole, growing = itertools.count(), {}, []
    score, os_write = place.score, os.write

    def killed_score(files: Sequence[Path]) -> Iterator[Row]:
        for each in score(files):
            if rng.random() < 0.02:
                raise Killed
            yield each

    def killed_write(descriptor: int, data: bytes) -> int:
        if rng.random() < 0.1:
            os_write(descriptor, data[: rng.randrange(len(data) + 1)])
            raise Killed
        return os_write(descriptor, data)

    def happen() -> None:
        for file in growing:
            place.write(file, f"half of {file}, and the end")
            whole[file] = len(f"half of {file}, and the end")
        growing.clear()
        for _ in range(rng.randrange(8)):
            name = f"{next(numbers)}.wav"
            if rng.random() < 0.5:
                growing.append(place.write(name, f"half of {name}").name)
            else:
                place.write("moved.part", f"{name} end").rename(place.folder / name)
                whole[name] = len(f"{name} end")
        if rng.random() < 0.05:
            raise Killed

    monkeypatch.setattr(place, "score", killed_score)
    monkeypatch.setattr(watching, "MOST_AT_ONCE", 3)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", killed_write)
        kills = 0
        for _ in range(40):
            try:
                place.run(*[happen] * 20)
                break
            except Killed:
                kills += 1
    assert kills > 3
    monkeypatch.setattr(place, "score", score)
    growing.clear()
    place.run(None, None)
    found = place.rows()
    assert {name: found[name] for name in whole} == whole
    assert len(whole) > 10


def test_a_signal_ends_the_wait_and_a_second_one_acts_at_once():
    before = signal.getsignal(signal.SIGINT)
    with until_signal() as wait:
        assert not wait(0)
        signal.raise_signal(signal.SIGINT)
        assert wait(60)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_what_users_get_wrong_is_said(ran, tmp_path):
    model, outputs = str(ran / stage("raw_logmel")), ["--csv", str(tmp_path / "rows.csv")]
    for arguments, words in (
        ([model], "give recordings, or --watch FOLDER"),
        ([model, "a.wav", "--watch", str(tmp_path), *outputs], "give recordings, or --watch FOLDER"),
        ([model, "--watch", str(tmp_path)], "needs --csv FILE or --jsonl FILE"),
    ):
        done = CliRunner().invoke(app, ["score", *arguments], env={"COLUMNS": "200"})
        assert done.exit_code == 2
        assert words in done.output
    for folder, options, words in ((tmp_path / "no", [], "is not a folder"), (tmp_path, ["--machine", "x"], "'x'")):
        done = CliRunner().invoke(app, ["score", model, "--watch", str(folder), *outputs, *options])
        assert isinstance(done.exception, UserError)
        assert words in str(done.exception)


def test_a_killed_and_restarted_program_gives_every_recording_the_score_of_the_workflow(ran, tmp_path):
    inbox, rows = tmp_path / "inbox", tmp_path / "out/rows.csv"
    inbox.mkdir()
    clips = clips_of_test(ran)
    command = [sys.executable, "-m", "asdpipe", "score", str(ran / stage("raw_logmel")), "--watch", str(inbox)]
    command += ["--csv", str(rows), "--jsonl", str(tmp_path / "rows.jsonl"), "--interval", "0.05"]

    def arrive(number: int) -> None:
        for position, file in enumerate(clips.values()):
            place = inbox / file.parent.parent.name / f"{number}_{position}.wav"
            place.parent.mkdir(exist_ok=True)
            shutil.copy(file, place)

    def watched_until(count: int, end: signal.Signals) -> int:
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and process.poll() is None:
                if rows.exists() and rows.read_bytes().count(b"\n") > count:
                    break
                time.sleep(0.02)
            process.send_signal(end)
            _, said = process.communicate(timeout=60)
        assert "Traceback" not in said
        return process.returncode

    arrive(0)
    assert watched_until(1, signal.SIGKILL) == -signal.SIGKILL
    arrive(1)
    assert watched_until(2 * len(clips), signal.SIGTERM) == 0
    found = {Path(each["file"]).stem: each for each in read_rows(rows)}
    assert len(read_rows(rows)) == len(read_rows(tmp_path / "rows.jsonl")) == len(found) == 2 * len(clips)
    scores = read_table("scores", ran / stage("raw_logmel") / "scores.parquet").set_index("clip_id").score
    for number, (position, name) in itertools.product(range(2), enumerate(clips)):
        assert float(found[f"{number}_{position}"]["score"]) == pytest.approx(scores[name], rel=1e-6)
