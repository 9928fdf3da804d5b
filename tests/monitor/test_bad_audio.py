"""Damaged audio files, those of the fuzz harness: each has a row, with a score or with the reason why there is none."""

import csv
import math
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from asdpipe.cli import app
from tests.conftest import run_asdpipe
from tests.fuzz import audio
from tests.monitor.conftest import stage

FEW, MANY = 60, 600


def arguments(ran: Path, kind: str, count: int, folder: Path) -> list[str]:
    """Write damaged files; return the arguments that score them."""
    # Writes the files.
    assert len(list(audio.cases(0, 0, count, folder / "fan"))) == count
    return ["score", str(ran / stage(kind)), str(folder / "fan"), "--csv", str(folder / "rows.csv")]


def check(count: int, folder: Path) -> Counter[str]:
    """Check that every file has a row; return how many have which reason, "" for a score."""
    with (folder / "rows.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == sorted(map(str, (folder / "fan").iterdir()))
    assert len(rows) == count
    for row in rows:
        assert row["machine"] == "fan"
        assert bool(row["reason"]) is not bool(row["score"])
        assert "\n" not in row["reason"]
        assert row["reason"] or math.isfinite(float(row["score"])), row
    return Counter(row["reason"] for row in rows)


@pytest.mark.parametrize("kind", ["ba", "raw_logmel"])
def test_damaged_files_have_a_score_or_a_reason(ran, tmp_path, kind):
    done = CliRunner().invoke(app, arguments(ran, kind, FEW, tmp_path))
    assert done.exit_code == 0
    reasons = check(FEW, tmp_path)
    assert 5 < reasons[""] < FEW - 5
    assert len(reasons) > 5


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["ba", "raw_logmel", "autoencoder", "tiny_beats"])
def test_many_damaged_files_have_a_score_or_a_reason(ran, tmp_path, kind, capsys):
    done = run_asdpipe(*arguments(ran, kind, MANY, tmp_path))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    reasons = check(MANY, tmp_path)
    with capsys.disabled():
        print(f"{kind}: {MANY} files, {reasons['']} scored, {len(reasons) - 1} different reasons")
