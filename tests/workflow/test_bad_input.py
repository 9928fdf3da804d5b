"""Bad input through the real workflow: a clear message, nothing lost, no wrong number."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from tests.conftest import TINY, run_snakemake

BAD = {
    "section_00_source_train_normal_0100.wav": "truncated",
    "section_00_source_train_normal_0101.wav": "the file is empty",
    "section_00_source_train_normal_0102.wav": "not audio",
    "section_00_source_train_normal_0103.wav": "not finite",
    "section_00_source_train_normal_0104.wav": "every sample is zero",
    "section_00_source_train_normal_0105.wav": "too few",
}


@pytest.fixture
def messy(tmp_path, write_dcase, write_clip) -> dict:
    """A data set with everything that goes wrong in real ones; return a config for it."""
    root = write_dcase(tmp_path / "recordings", source=3, target=2)
    train = root / "fan/train"
    noise = 0.1 * np.random.default_rng(0).standard_normal(16_000)
    write_clip(train / "section_00_source_train_normal_0100.wav")
    truncated = train / "section_00_source_train_normal_0100.wav"
    truncated.write_bytes(truncated.read_bytes()[:9000])
    (train / "section_00_source_train_normal_0101.wav").touch()
    (train / "section_00_source_train_normal_0102.wav").write_text("no audio")
    damaged = noise.copy()
    damaged[5] = np.nan
    soundfile.write(train / "section_00_source_train_normal_0103.wav", damaged, 16_000, subtype="FLOAT")
    soundfile.write(train / "section_00_source_train_normal_0104.wav", 0 * noise, 16_000, subtype="PCM_16")
    soundfile.write(train / "section_00_source_train_normal_0105.wav", noise[:1], 16_000, subtype="PCM_16")
    # These are unusual, but usable.
    write_clip(train / "section_00_source_train_normal_0200.wav", channels=2, seed=200)
    write_clip(train / "section_00_source_train_normal_0201.wav", rate=44_100, seed=201)
    write_clip(train / "section_00_source_train_normal_0202.wav", seconds=120, seed=202)
    # One machine type has no target clips for training.
    for clip in (root / "pump/train").glob("*_target_*"):
        clip.unlink()
    config = copy.deepcopy(TINY) | {"dataset": "messy", "yardstick": "raw_logmel"}
    config["datasets"] = {
        "messy": {"format": "dcase", "root": "recordings", "clip_seconds": 1, "on_bad_clip": "skip", "pool": "pool"}
    }
    config["pools"] = {"pool": {"format": "audioset", "root": "pool"}}
    # More clusters than some machine types have clips.
    config["inference"] = {"k_source": 16}
    config["pseudo_labels"] = {"k_source": 16, "k_target": 4}
    pool = tmp_path / "pool"
    rows = []
    for number in range(4):
        write_clip(pool / f"audios/balanced_train_segments/Y{number:011d}.wav", seed=500 + number)
        rows.append(f'{number:011d}, 0.000, 1.000, "/m/02mk9"')
    (pool / "audios/balanced_train_segments/Y00000000003.wav").write_bytes(b"broken")
    (pool / "metadata").mkdir()
    (pool / "metadata/balanced_train_segments.csv").write_text("\n".join(["# a", "# b", "# c", *rows]) + "\n")
    (pool / "metadata/class_labels_indices.csv").write_text('index,mid,display_name\n0,/m/02mk9,"Engine"\n')
    return config


def test_bad_clips_are_skipped_and_listed_and_the_rest_gets_scores(messy, tmp_path):
    done = run_snakemake(tmp_path, "results/stage2/auc.csv", config=messy)
    assert done.returncode == 0, done.stdout[-4000:]
    data = tmp_path / "results/data/messy"
    skipped = pd.read_csv(data / "train/skipped.csv")
    assert {Path(path).name for path in skipped.path} == set(BAD)
    for path, reason in zip(skipped.path, skipped.reason, strict=True):
        assert BAD[Path(path).name] in reason
    assert "6 of 17 clips left out" in (data / "train/logs/pack_clips.log").read_text()
    assert len(pd.read_csv(data / "test/skipped.csv")) == 0
    assert len(pd.read_csv(tmp_path / "results/external/pool/0/skipped.csv")) == 1
    # Stereo, 44.1 kHz and two minutes are used, and the long one is mentioned.
    index = pd.read_parquet(data / "train/waveforms.parquet").set_index("clip_id").num_samples
    assert index["fan/train/section_00_source_train_normal_0200.wav"] == 16_000
    assert index["fan/train/section_00_source_train_normal_0201.wav"] == 16_000
    assert index["fan/train/section_00_source_train_normal_0202.wav"] == 120 * 16_000
    stage = tmp_path / "results/messy/ba_trp_ps_ex/seed0/stage2"
    assert "only their beginning counts" in (stage / "logs/embed_train.log").read_text()
    assert "pump has no target training clips" in (stage / "logs/represent.log").read_text()
    clusters = (tmp_path / "results/messy/ba_trp_ps_ex/seed0/stage1/logs/pseudo_label.log").read_text()
    assert "fan, source: 6 clusters instead of 16" in clusters
    assert "fan, target: 2 clusters instead of 4" in clusters
    assert np.isfinite(pd.read_parquet(stage / "scores.parquet").score).all()
    auc = pd.read_csv(tmp_path / "results/stage2/auc.csv")
    assert auc.auc.notna().all()

    # A machine type more, then a changed mind: what is computed stays, and fail lists every bad clip.
    before = (stage / "scores.parquet").read_bytes()
    messy["datasets"]["messy"]["on_bad_clip"] = "fail"
    failed = run_snakemake(tmp_path, "results/stage2/auc.csv", config=messy)
    assert failed.returncode != 0
    assert "6 of 17 clips cannot be used" in failed.stdout
    for name, reason in BAD.items():
        assert name in failed.stdout
        assert reason in failed.stdout
    assert "on_bad_clip: skip" in failed.stdout
    assert "Traceback" not in failed.stdout
    assert (stage / "scores.parquet").read_bytes() == before


def test_missing_folders_stop_before_any_work(messy, tmp_path):
    shutil.rmtree(tmp_path / "recordings")
    done = run_snakemake(tmp_path, "results/stage2/auc.csv", config=messy)
    assert done.returncode != 0
    assert "recordings: there is no such folder" in done.stdout
    assert "Traceback" not in done.stdout


def test_an_empty_pool_is_an_error_that_names_the_way_out(messy, tmp_path):
    for clip in (tmp_path / "pool/audios").rglob("*.wav"):
        clip.unlink()
    done = run_snakemake(tmp_path, "results/external/pool/clips.parquet", config=messy)
    assert done.returncode != 0
    assert "the external pool is empty" in done.stdout
    assert "Traceback" not in done.stdout
    # Without the pool the stage is planned without external clips.
    messy["datasets"]["messy"]["pool"] = None
    assert run_snakemake(tmp_path, "-n", "results/stage2/auc.csv", config=messy).returncode == 0


def test_a_stage_that_would_repeat_the_one_before_is_refused(messy, tmp_path):
    done = run_snakemake(tmp_path, "-n", "results/messy/ba_trp/seed0/stage2/auc.csv", config=messy)
    assert done.returncode != 0
    assert "ba_trp has no stage 2" in done.stdout
