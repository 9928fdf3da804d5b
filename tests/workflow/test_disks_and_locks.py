"""Disks that are full or read-only, and two runs at once: what the real workflow says, and that it then goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from asdpipe.artifacts.schemas import SCHEMAS
from tests.conftest import ROOT, TINY, run_snakemake

PACKED = "results/data/tiny/train/waveforms.parquet"
FULL = "the disk is full (or your share of it): make room there"


def fill(folder: Path) -> Path:
    """Write a file until nothing is left."""
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return folder / "filler"


def test_a_disk_that_gets_full_stops_with_the_file_and_the_next_run_goes_on(mount, tmp_path):
    disk = mount("tmpfs", "-t", "tmpfs", "-o", "size=3600k")
    work = tmp_path / "work"
    work.mkdir()
    (work / "results").symlink_to(disk)
    # The recordings take 2.8 MB; what is packed from the training clips takes another 1.3 MB.
    done = run_snakemake(work, PACKED, config=TINY)
    assert done.returncode != 0
    assert "results/data/tiny/train/waveforms.int16: cannot be written, the disk is full" in done.stdout
    assert "make room there and run again; what was finished before is kept" in done.stdout
    assert "Traceback" not in done.stdout
    assert [each.name for each in disk.rglob("*waveforms*")] == []
    manifest = disk / "data/tiny/train/clips.parquet"
    assert pq.read_schema(manifest).names == SCHEMAS["clips"].names
    before = manifest.stat().st_mtime_ns
    subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
    done = run_snakemake(work, PACKED, config=TINY)
    assert done.returncode == 0, done.stdout[-3000:]
    assert manifest.stat().st_mtime_ns == before


@pytest.mark.parametrize("where", ["run folder", "temporary files"])
def test_a_disk_that_is_full_from_the_start_stops_before_any_job(mount, tmp_path, monkeypatch, where):
    disk, work = mount("tmpfs", "-t", "tmpfs", "-o", "size=200k"), tmp_path
    if where == "run folder":
        work = disk
    else:
        monkeypatch.setenv("TMPDIR", str(disk))
    (work / "config.yaml").write_text("")  # there is room for it later
    run_snakemake(work, "-n", PACKED, config=TINY)
    filler = fill(disk)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(work)]
    command += ["--configfile", str(work / "config.yaml"), "--cores", "1", "results/data/tiny/clips.parquet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"{disk}: {FULL}" in done.stderr
    assert ("set TMPDIR" in done.stderr) == (where == "temporary files")
    assert not (work / "results").exists()
    filler.unlink()
    assert "Nothing to be done" not in run_snakemake(work, "-n", PACKED, config=TINY).stdout


def test_results_that_cannot_be_written_stop_the_run_but_not_the_plan(mount, tmp_path):
    (tmp_path / "kept").mkdir()
    results = mount(tmp_path / "kept", "--bind")
    subprocess.run(["mount", "-o", "remount,bind,ro", results], check=True)
    work = tmp_path / "work"
    work.mkdir()
    (work / "results").symlink_to(results)
    assert run_snakemake(work, "-n", PACKED, config=TINY).returncode == 0
    done = run_snakemake(work, PACKED, config=TINY)
    assert done.returncode != 0
    assert f"{work}/results: cannot be written (a disk mounted read-only, or another user's folder)" in done.stdout
    assert "OSError" not in done.stdout


def test_a_second_run_at_once_is_refused_and_a_killed_one_is_unlocked(tmp_path):
    run_snakemake(tmp_path, "-n", PACKED, config=TINY)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
    command += ["--configfile", str(tmp_path / "config.yaml"), "--cores", "1", PACKED]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    # Its locks are written one after the other; a job that has begun has all of them.
    job = tmp_path / "results/data/tiny/logs/generate_dataset.log"
    while not job.exists():
        assert first.poll() is None
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGSTOP)
    second = run_snakemake(tmp_path, PACKED, config=TINY)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert second.returncode != 0
    assert "Directory cannot be locked" in second.stdout
    assert "--unlock" in second.stdout
    assert "Traceback" not in second.stdout
    # Killed, it has left its lock and half a job behind.
    assert run_snakemake(tmp_path, "--unlock", config=TINY).returncode == 0
    done = run_snakemake(tmp_path, "--rerun-incomplete", PACKED, config=TINY)
    assert done.returncode == 0, done.stdout[-3000:]
