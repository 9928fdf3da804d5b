"""One's own recordings through the real workflow: without labels, with one machine type only."""

import copy
import json
import re

import numpy as np
import pandas as pd
import pytest

from tests.conftest import TINY, read_facts, run_snakemake


@pytest.fixture
def one_machine(tmp_path, write_clip) -> dict:
    """A single machine type, file names of one's own, no labels; return a config for it."""
    for number in range(8):
        write_clip(tmp_path / f"my recordings/press 4/train/monday/{number}.flac", seed=number, rate=48_000)
    for number in range(3):
        write_clip(tmp_path / f"my recordings/press 4/test/shift {number}.wav", seed=100 + number)
    config = copy.deepcopy(TINY) | {"dataset": "own", "seeds": [0, 1], "yardstick": None}
    config["datasets"]["own"] = {"format": "folder", "root": "my recordings", "clip_seconds": 1, "pool": "tiny"}
    config["external"] = {"n_max": "auto", "first_stage": "random"}
    config |= {"loss": {"subclusters": "auto"}, "inference": {"k_source": "auto"}}
    # A training of the epochs that are auto would take minutes.
    config["training"] |= dict.fromkeys(("source_per_batch", "target_per_batch"), "auto")
    config["pseudo_labels"] = {"k_source": "auto", "k_target": "auto"}
    return config


def test_one_machine_type_without_labels_ends_in_scores(one_machine, tmp_path):
    # The pool's files are decoded by the jobs that need them.
    one_machine["pools"]["tiny"]["packed"] = False
    done = run_snakemake(tmp_path, "results/stage2/scores.csv", "results/stage2/auc.csv", config=one_machine)
    assert done.returncode == 0, done.stdout[-4000:]
    scores = pd.read_csv(tmp_path / "results/stage2/scores.csv")
    assert scores.path.tolist() == [f"my recordings/press 4/test/shift {number}.wav" for number in range(3)]
    assert np.isfinite(scores.score).all()
    assert np.isfinite(scores.score_sd).all()
    assert scores.anomalous.isin([0, 0.5, 1]).all()
    assert scores.is_normal.isna().all()
    auc = pd.read_csv(tmp_path / "results/stage2/auc.csv")
    assert auc.auc.isna().all()
    # The external clips are stage 1's other classes, and its background noise.
    stage = tmp_path / "results/own/ba_trp_ps_ex/seed0/stage1"
    labels = pd.read_parquet(stage / "labels.parquet")
    assert (labels.origin == "external").sum() == 8
    assert labels.class_index.nunique() > 1
    history = pd.read_csv(stage / "training.csv")
    assert (history.triplet_loss > 0).all()
    # What auto came to, with eight clips.
    of_training = {"loss.subclusters": 2, "training.source_per_batch": 16, "training.target_per_batch": 4}
    assert json.loads((stage / "model.json").read_text())["resolved"] == of_training
    assert f"auto: {', '.join(f'{key} {number}' for key, number in of_training.items())}" in (
        (stage / "logs/train.log").read_text()
    )
    for file, found in {
        "stage0/selected": {"external.n_max": 8},
        "stage1/selected": {"external.n_max": 8},
        "stage1/representatives": {"inference.k_source": 1},
        "stage1/pseudo_labels": {"pseudo_labels.k_source": 2, "pseudo_labels.k_target": 1},
    }.items():
        resolved = {key: {"press 4": number} for key, number in found.items()}
        assert read_facts(stage.parent / f"{file}.parquet")["resolved"] == resolved


def test_one_machine_type_alone_is_refused_before_any_work_with_the_ways_out(one_machine, tmp_path):
    target = ("-n", "results/stage1/scores.csv")
    one_machine["seeds"] = [0]
    for first_stage, pool in (("none", "tiny"), ("none", None)):
        one_machine["external"]["first_stage"] = first_stage
        one_machine["datasets"]["own"]["pool"] = pool
        done = run_snakemake(tmp_path, *target, config=one_machine)
        assert done.returncode != 0
        assert "datasets.own: has one machine type only (press 4), so method ba_trp_ps_ex has nothing to" in done.stdout
        assert "datasets.own.pool" in done.stdout
        assert "external.first_stage: random" in done.stdout
        assert "method: raw_logmel" in done.stdout
        assert "Traceback" not in done.stdout
    # As the message says: a method without classes, or a pool and random external clips.
    assert run_snakemake(tmp_path, *target, config=one_machine | {"method": "raw_logmel"}).returncode == 0
    one_machine["datasets"]["own"]["pool"] = "tiny"
    one_machine["external"]["first_stage"] = "random"
    assert run_snakemake(tmp_path, *target, config=one_machine).returncode == 0
    # Attributes make classes within the machine type.
    labelled = one_machine | {"external": {"enabled": False}, "method": "ba_trp_ps_labelled"}
    assert run_snakemake(tmp_path, *target, config=labelled).returncode == 0


def test_one_machine_type_in_dcase_s_form_is_refused_too(tmp_path, write_dcase):
    write_dcase(tmp_path / "recordings", machines=("fan",))
    config = TINY | {"dataset": "one", "datasets": {"one": {"format": "dcase", "root": "recordings"}}}
    done = run_snakemake(tmp_path, "-n", "results/stage1/scores.csv", config=config)
    assert done.returncode != 0
    assert "datasets.one: has one machine type only (fan)" in done.stdout
    # Another method than the configured one is refused, too.
    raw = config | {"method": "raw_logmel"}
    done = run_snakemake(tmp_path, "-n", "results/one/ba/seed0/stage1/auc.csv", config=raw)
    assert done.returncode != 0
    assert "so method ba has nothing to tell apart" in done.stdout
    assert run_snakemake(tmp_path, "-n", "results/stage1/scores.csv", config=raw).returncode == 0


def test_labels_that_are_there_are_used(one_machine, tmp_path, write_clip):
    one_machine["seeds"] = [0]
    table = "file;label;domain\r\n"
    for number in range(3):
        table += f"press 4\\test\\shift {number}.wav;{'anomaly' if number else 'normal'};source\r\n"
    (tmp_path / "my recordings/clips.csv").write_bytes(b"\xef\xbb\xbf" + table.encode())
    done = run_snakemake(tmp_path, "results/stage1/auc.csv", config=one_machine)
    assert done.returncode == 0, done.stdout[-4000:]
    auc = pd.read_csv(tmp_path / "results/stage1/auc.csv").set_index("machine")
    assert 0 <= auc.auc["press 4"] <= 100
    log = tmp_path / "results/own/ba_trp_ps_ex/seed0/stage1/logs/evaluate.log"
    assert re.search(r"no .*auc_target", log.read_text())
    # Another file is noticed.
    write_clip(tmp_path / "my recordings/press 4/train/monday/9.flac", seed=9)
    plan = run_snakemake(tmp_path, "-n", "results/stage1/auc.csv", config=one_machine)
    assert re.search(r"^list_clips +1$", plan.stdout, flags=re.M)


def test_misplaced_recordings_are_explained(one_machine, tmp_path):
    one_machine["datasets"]["own"]["root"] = "my recordings/press 4/train/monday"
    done = run_snakemake(tmp_path, "-n", config=one_machine)
    assert done.returncode != 0
    assert "train" in done.stdout
    assert "Traceback" not in done.stdout
