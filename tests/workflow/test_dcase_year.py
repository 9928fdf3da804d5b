"""A year of DCASE through the real workflow: fetched from a local server, interrupted, continued, scored."""

import copy
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml

from tests.conftest import ROOT, TINY, run_snakemake
from tests.dcase_trees import write_truth, write_year
from tests.http_server import serve

MACHINES = ["bandsaw", "fan", "valve"]
RECORDS = {
    "dev_fan": 7882613,
    "dev_valve": 7882613,
    "eval_data_bandsaw_train": 7830345,
    "eval_data_bandsaw_test": 7860847,
}
EVALUATOR = "nttcslab/dcase2023_task2_evaluator/c850537ff8e3b81ab09d90041279dbf86811738b"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small DCASE 2023 with the true names, as Zenodo and the evaluator's repository serve it."""
    folder = tmp_path_factory.mktemp("published")
    tree, site = folder / "tree", folder / "site"
    write_year(tree, 2023, machines=MACHINES, counts=2)
    noise = np.random.default_rng(0)
    for clip in sorted(tree.rglob("*.wav")):
        # The generator links one file many times.
        clip.unlink()
        soundfile.write(clip, 0.1 * noise.standard_normal(16_000), 16_000, subtype="PCM_16")
    for archive, record in RECORDS.items():
        part, machine = ("dev", archive[4:]) if archive.startswith("dev") else ("eval", archive.split("_")[2])
        content = folder / "content" / archive
        split = "*" if part == "dev" else archive.split("_")[3]
        for clip in (tree / f"{part}_data/raw/{machine}").glob(f"{split}/*.wav"):
            (content / machine / clip.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(clip, content / machine / clip.parent.name / clip.name)
        files = site / f"records/{record}/files"
        files.mkdir(parents=True, exist_ok=True)
        shutil.make_archive(str(files / archive), "zip", content)
    write_truth(site / EVALUATOR, 2023, tree)
    return site


def config(url: str) -> dict:
    return copy.deepcopy(TINY) | {
        "dataset": "dcase2023",
        "datasets": {
            "dcase2023": {"machines": MACHINES, "check_counts": False, "clip_seconds": 1, "pool": "tiny"},
        },
        "download": {"zenodo": url, "github": url, "checksums": "recorded", "connections": 1},
    }


def test_an_interrupted_download_is_continued_and_the_year_is_scored(published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with serve(published, bytes_per_second=60_000) as server:
        (folder / "config.yaml").write_text(yaml.safe_dump(config(server.url)))
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2"]
        command += ["--directory", str(folder), "--configfile", str(folder / "config.yaml")]
        running = subprocess.Popen(
            [*command, "--", "results/data/dcase2023/clips.parquet"],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while server.bytes_sent < 150_000 and time.monotonic() < deadline:
            time.sleep(0.05)
        # Ctrl-C reaches Snakemake and its jobs.
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(timeout=60) != 0
    assert not (folder / "results/data/dcase2023/clips.parquet").exists()
    parts = list((folder / "downloads/dcase2023/archives").glob("*.part"))
    assert parts, "nothing was half fetched: this test shows nothing"
    kept = sum(part.stat().st_size for part in parts)
    with serve(published) as server:
        done = run_snakemake(folder, "results/stage2/auc.csv", "results/stage2/scores.csv", config=config(server.url))
        assert done.returncode == 0, done.stdout[-4000:]
        total = sum(file.stat().st_size for file in published.rglob("*") if file.is_file())
        assert server.bytes_sent <= total - kept
    clips = pd.read_parquet(folder / "results/data/dcase2023/clips.parquet")
    machines = clips.groupby("part").machine.unique().map(sorted).to_dict()
    assert machines == {"dev": ["fan", "valve"], "eval": ["bandsaw"]}
    assert clips.is_normal.notna().all()
    assert clips.domain.isin(["source", "target"]).all()
    auc = pd.read_csv(folder / "results/stage2/auc.csv")
    assert {("dev", "fan"), ("dev", "valve"), ("eval", "bandsaw")} <= set(zip(auc.split, auc.machine, strict=True))
    assert auc.official.notna().all()

    # Another machine type fetches its archives only; the server is gone, so nothing else may be asked for.
    again = run_snakemake(folder, "results/stage2/auc.csv", config=config("http://127.0.0.1:9"))
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout


def test_a_machine_that_the_year_does_not_have_stops_before_any_work(tmp_path: Path) -> None:
    wrong = config("http://127.0.0.1:9")
    wrong["datasets"]["dcase2023"]["machines"] = ["pump"]
    done = run_snakemake(tmp_path, "results/stage2/auc.csv", config=wrong)
    assert done.returncode != 0
    assert "DCASE 2023 has no machine type pump" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_server_that_does_not_answer_ends_in_a_message(tmp_path: Path) -> None:
    offline = config("http://127.0.0.1:9")
    offline["download"]["attempts"] = 1
    done = run_snakemake(tmp_path, "results/data/dcase2023/clips.parquet", config=offline)
    assert done.returncode != 0
    assert "http://127.0.0.1:9/records/7882613/files/dev_fan.zip" in done.stdout
    assert "Traceback" not in done.stdout
