"""The whole DAG, run by the real snakemake on small generated data; what a change runs again: test_reruns.py."""

import copy
import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from asdpipe.artifacts.files import file_digest
from asdpipe.artifacts.schemas import SCHEMAS
from tests import golden
from tests.conftest import TINY, run_asdpipe, run_snakemake
from tests.workflow.plans import states

# The chain repeats itself after stage 2; make demo runs all five.
LAST = 3
STAGES = range(1, LAST + 1)
TARGET = f"results/stage{LAST}/auc.csv"
FOLDER = Path("results/tiny/ba_trp_ps_ex/seed0")
# What a stage trains and scores lies with the method that owns it: the first one is that of ba_trp.
OWNED = {stage: FOLDER / f"stage{stage}" for stage in STAGES} | {1: Path("results/tiny/ba_trp/seed0/stage1")}
TABLES = {
    "labels.parquet": "labels",
    "embeddings/train.parquet": "embeddings",
    "embeddings/test.parquet": "embeddings",
    "representatives.parquet": "representatives",
    "scores.parquet": "scores",
    "thresholds.parquet": "thresholds",
}
PASSED_ON = {"selected.parquet": "selected", "pseudo_labels.parquet": "pseudo_labels"}
DATA = {
    "clips.parquet": "clips",
    "train/clips.parquet": "clips",
    "test/clips.parquet": "clips",
    "train/waveforms.parquet": "waveforms",
    "test/waveforms.parquet": "waveforms",
}


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the stages once."""
    folder = tmp_path_factory.mktemp("run")
    done = run_snakemake(folder, TARGET, config=TINY, environment=golden.PINNED)
    assert done.returncode == 0, done.stdout[-5000:]
    return folder


def planned(folder: Path, *arguments: str, config: dict) -> Counter[str]:
    """Return how many jobs of each rule snakemake -n plans."""
    plan = run_snakemake(folder, "-n", *arguments, config=config)
    assert plan.returncode == 0, plan.stdout
    text = plan.stdout
    if "Nothing to be done" in text:
        return Counter()
    table = text.split("Job stats:")[1].split("total")[0]
    return Counter({name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", table, flags=re.M)})


def changed(**sections: dict) -> dict:
    config = copy.deepcopy(TINY)
    for name, values in sections.items():
        config[name] = {**config[name], **values}
    return config


def test_every_artifact_is_there_with_its_documented_columns(run: Path) -> None:
    tables = {Path("results/data/tiny") / file: table for file, table in DATA.items()}
    for stage in STAGES:
        tables |= {OWNED[stage] / file: table for file, table in TABLES.items()}
        if stage < LAST:
            tables |= {FOLDER / f"stage{stage}" / file: table for file, table in PASSED_ON.items()}
            tables |= {OWNED[stage] / f"external/{shard}.parquet": "external_scores" for shard in range(2)}
        for file in ("model.safetensors", "model.json", "training.csv"):
            assert (run / OWNED[stage] / file).stat().st_size > 0
        assert (run / FOLDER / f"stage{stage}/auc.csv").stat().st_size > 0
    for file, table in tables.items():
        assert pq.read_schema(run / file).names == SCHEMAS[table].names, file
    assert not [file for file in (run / "results").rglob("*") if file.is_symlink()]


def test_the_result_keeps_its_contract(run: Path) -> None:
    for stage in STAGES:
        frame = pd.read_csv(run / f"results/stage{stage}/auc.csv", dtype={"section": str})
        metrics = ["auc", "auc_source", "auc_target", "pauc", "official"]
        head = ["dataset", "method", "stage", "split", "machine", "section", "seeds"]
        assert list(frame.columns) == [*head, *metrics, *(f"{metric}_var" for metric in metrics)]
        assert set(frame.split) == {"dev", "eval"}
        for _, part in frame.groupby("split"):
            machines = part[~part.machine.isin(["mean", "hmean"])]
            assert part.machine.tolist()[-2:] == ["mean", "hmean"]
            assert set(machines.section) == {"00"}
            assert machines[metrics].to_numpy().min() >= 0
            assert machines[metrics].to_numpy().max() <= 100
            by_row = part.set_index("machine")
            assert by_row.auc["mean"] == pytest.approx(machines.auc.mean(), abs=1e-3)
            assert by_row.auc["hmean"] == pytest.approx(len(machines) / (1 / machines.auc).sum(), abs=1e-2)
            # The official score is the harmonic mean of all AUCs and pAUCs.
            values = np.maximum(machines[["auc_source", "auc_target", "pauc"]].to_numpy().ravel(), 1e-12)
            assert by_row.official["hmean"] == pytest.approx(len(values) / (1 / values).sum(), abs=1e-2)
        assert (frame.seeds == 1).all()
        assert frame.auc_var.isna().all()


def test_the_results_are_those_that_were_written_down(run: Path) -> None:
    found, expected = golden.results(run), pd.read_csv(golden.FILE, dtype={"clips": str})
    pd.testing.assert_frame_equal(found.iloc[:, :3], expected.iloc[:, :3])
    hint = "; if the method was changed on purpose, run: python -m tests.golden"
    # After one epoch, cosines differ in the sixth decimal only. On another kind of CPU, rounding may decide which clips
    # pass a threshold or share a cluster. From there on, stages are trained on other clips, and nothing is to compare.
    same = found.clips == expected.clips
    assert same[found.stage == 1].all(), hint
    compared = found.stage < found.stage[~same].min() if not same.all() else same
    found, expected = found[compared], expected[compared]
    assert found.loss.tolist() == pytest.approx(expected.loss.tolist(), rel=golden.LOSS_TOLERANCE), hint
    difference = (found[golden.METRICS] - expected[golden.METRICS]).abs().max()
    assert difference.max() <= golden.AUC_TOLERANCE, f"{difference}{hint}"


def test_a_second_run_does_nothing(run: Path) -> None:
    again = run_snakemake(run, TARGET, config=TINY)
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout


def test_stage_1_is_trained_once_and_read_where_it_lies(run: Path) -> None:
    for file in ("model.safetensors", "embeddings", "representatives.parquet", "scores.parquet", "external"):
        assert (run / OWNED[1] / file).exists()
        assert not (run / FOLDER / "stage1" / file).exists()
    plan = planned(run, "results/tiny/ba_trp_ps/seed0/stage2/auc.csv", config=TINY)
    # Only stage 2 is trained: stage 1 and its embeddings are those of ba_trp.
    assert (plan["train"], plan["embed"], plan["score_external"], plan["pseudo_label"]) == (1, 2, 0, 1)
    # A method with other representatives takes the model, and scores it itself.
    more = TINY | {"methods": {"mine": {"parent": "ba_trp_ps", "inference": {"k_source": 2}}}}
    plan = planned(run, "results/tiny/mine/seed0/stage1/auc.csv", config=more)
    assert plan == {"represent": 1, "score": 1, "evaluate": 1}


def test_another_back_end_scores_the_same_models_again_and_trains_nothing(run: Path) -> None:
    settings = {"backend": {"kind": "knn", "smote_ratio": 0.6}}
    more = TINY | {"methods": TINY["methods"] | {"mine": {"parent": "ba_trp_ps_ex", "inference": settings}}}
    target = "results/tiny/mine/seed0/stage2/auc.csv"
    assert planned(run, target, config=more) == {"score": 1, "evaluate": 1}
    done = run_snakemake(run, target, config=more)
    assert done.returncode == 0, done.stdout[-3000:]
    assert not (run / target).with_name("model.safetensors").exists()
    one, other = (pd.read_parquet((run / each).parent / "scores.parquet") for each in (target, FOLDER / "stage2/x"))
    assert (one.clip_id == other.clip_id).all()
    assert not np.allclose(one.score, other.score)


def test_a_change_leaves_every_other_file_as_it_was(run: Path, tmp_path: Path) -> None:
    # A copy with the times of the files is as good as the original.
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    before = states(folder)
    done = run_snakemake(folder, "results/stage2/auc.csv", config=changed(external={"n_max": 2}))
    assert done.returncode == 0, done.stdout[-3000:]
    after = states(folder)
    of_select = {f"{FOLDER}/stage1/{file}" for file in ("selected.parquet", "provenance/selected.parquet.json")}
    written = {name for name in before if before[name] != after[name]}
    assert of_select <= written
    assert {name for name in written if not name.startswith((f"{FOLDER}/stage2/", "results/stage2/"))} == of_select
    assert f"{FOLDER}/stage2/model.safetensors" in written


def test_results_on_another_disk_are_used_after_touch(run: Path, tmp_path: Path) -> None:
    # Without .snakemake, and every file as old as its copy, written in no order.
    shutil.copytree(run / "results", tmp_path / "results", copy_function=shutil.copy)
    inputs, outputs = "results/data/tiny/train/waveforms.int16", FOLDER / "stage2/model.safetensors"
    os.utime(tmp_path / inputs)
    assert planned(tmp_path, TARGET, config=TINY)["train"] == LAST
    before = file_digest(tmp_path / outputs)
    touched = run_snakemake(tmp_path, "--touch", TARGET, config=TINY)
    assert touched.returncode == 0, touched.stdout[-3000:]
    assert not planned(tmp_path, TARGET, config=TINY)
    assert file_digest(tmp_path / outputs) == before
    # From here on settings are watched again.
    assert planned(tmp_path, TARGET, config=changed(training={"epochs": 2}))["train"] == LAST


def test_explain_leads_from_a_result_to_the_recordings(run: Path) -> None:
    done = run_asdpipe("explain", run / TARGET)
    assert done.returncode == 0, done.stderr
    text = done.stdout
    steps = ("summarize", "evaluate", "label_clips", "score", "embed", "train", "select", "pack_clips", "list_clips")
    for step in (*steps, "pseudo_label", "pack_pool", "score_external", "list_pool_clips", "generate_dataset"):
        assert f"  {step}\n" in text, step
    shared = [f"{OWNED[1]}/{file}" for file in ("embeddings/train.parquet", "model.safetensors")]
    for file in ("results/data/tiny/clips.parquet", f"{FOLDER}/stage3/model.safetensors", TARGET, *shared):
        assert f"{file}  {file_digest(run / file)[:12]}  " in text
    assert "changed" not in text
    assert "not made by a step" not in text
    record = json.loads((run / f"results/stage{LAST}/provenance/auc.csv.json").read_text())
    assert record["seeds"] == TINY["seeds"]
    (training,) = record["config"]["train"]
    defaults = {"kind": "clips", "epoch": "all", "learning_rate": 0.001, "weight_decay": 0.01, "precision": "auto"}
    assert training["training"] == TINY["training"] | defaults
    assert [each["method"] for each in record["config"]["evaluate"]] == ["ba_trp_ps_ex", "raw_logmel"]
    assert str(run) not in json.dumps(record)


def test_labels_of_a_stage_follow_from_the_stage_before(run: Path) -> None:
    clips = pd.read_parquet(run / "results/data/tiny/clips.parquet")
    train = clips[clips.split == "train"].set_index("clip_id")
    first = pd.read_parquet(run / OWNED[1] / "labels.parquet")
    assert (first.class_name == first.machine).all()
    assert set(first.clip_id) == set(train.index)
    for stage in STAGES[1:]:
        labels = pd.read_parquet(run / OWNED[stage] / "labels.parquet")
        before = run / FOLDER / f"stage{stage - 1}"
        pseudo = pd.read_parquet(before / "pseudo_labels.parquet").set_index("clip_id")
        original = labels[labels.origin == "original"]
        expected = [f"{clip.machine}_{clip.domain}_{pseudo.label[clip.clip_id]}" for clip in original.itertuples()]
        assert original.class_name.tolist() == expected
        selected = pd.read_parquet(before / "selected.parquet")
        external = labels[labels.origin == "external"]
        assert external.clip_id.tolist() == selected.clip_id.tolist()
        assert external.class_name.tolist() == (selected.machine + "_" + selected.mid).tolist()
        assert (external.domain == "source").all()
        assert not set(external.class_index) & set(original.class_index)


def test_selection_obeys_thresholds_and_cap(run: Path) -> None:
    taken = 0
    for stage in STAGES[:-1]:
        selected = pd.read_parquet(run / FOLDER / f"stage{stage}/selected.parquet")
        limit = pd.read_parquet(run / OWNED[stage] / "thresholds.parquet").set_index("machine").threshold
        assert (selected.score.to_numpy() <= limit[selected.machine].to_numpy()).all()
        assert (selected.machine.value_counts() <= TINY["external"]["n_max"]).all()
        assert selected.clip_id.is_unique
        taken += len(selected)
    assert taken > 0, "no stage selected a clip: this test shows nothing"


def test_thresholds_are_the_largest_training_scores(run: Path) -> None:
    clips = pd.read_parquet(run / "results/data/tiny/clips.parquet")
    for stage in STAGES:
        folder = run / OWNED[stage]
        scores = clips.merge(pd.read_parquet(folder / "scores.parquet"), on="clip_id")
        largest = scores[scores.split == "train"].groupby("machine").score.max()
        limit = pd.read_parquet(folder / "thresholds.parquet").set_index("machine").threshold
        pd.testing.assert_series_equal(limit.sort_index(), largest, check_names=False)


def test_scores_are_cosines_to_the_representatives(run: Path) -> None:
    clips = pd.read_parquet(run / "results/data/tiny/clips.parquet").set_index("clip_id")
    folder = run / FOLDER / "stage3"
    parts = [pd.read_parquet(folder / f"embeddings/{split}.parquet") for split in ("train", "test")]
    embeddings = pd.concat(parts).set_index("clip_id").embedding
    representatives = pd.read_parquet(folder / "representatives.parquet")
    scores = pd.read_parquet(folder / "scores.parquet").set_index("clip_id").score
    for machine, part in representatives.groupby("machine"):
        assert (part.domain == "target").sum() == TINY["datasets"]["tiny"]["demo"]["target_clips"]
        assert (part.domain == "source").sum() == TINY["inference"]["k_source"]
        for clip_id in clips.index[clips.machine == machine]:
            z = embeddings[clip_id]
            cosines = [z @ c / np.linalg.norm(z) / np.linalg.norm(c) for c in part.vector]
            assert scores[clip_id] == pytest.approx(-max(cosines), abs=1e-5)


def test_same_seed_same_bytes_and_another_seed_differs(run: Path, tmp_path: Path) -> None:
    targets = ["results/stage2/auc.csv", "results/tiny/ba_trp/seed1/stage1/auc.csv"]
    done = run_snakemake(tmp_path, *targets, config=TINY, environment=golden.PINNED)
    assert done.returncode == 0, done.stdout[-3000:]
    compared = 0
    for file in sorted((tmp_path / "results").rglob("*")):
        if file.suffix in (".parquet", ".csv", ".safetensors", ".json", ".int16", ".wav") and "seed1" not in file.parts:
            assert file.read_bytes() == (run / file.relative_to(tmp_path)).read_bytes(), file
            compared += 1
    assert compared >= 40
    one, other = (tmp_path / f"results/tiny/ba_trp/seed{seed}/stage1" for seed in (0, 1))
    for file in (
        "model.safetensors",
        "embeddings/train.parquet",
        "embeddings/test.parquet",
        "scores.parquet",
        "training.csv",
    ):
        assert (one / file).read_bytes() != (other / file).read_bytes()
    assert (one / "labels.parquet").read_bytes() == (other / "labels.parquet").read_bytes()


def test_logs_show_rate_and_progress(run: Path) -> None:
    log = (run / FOLDER / "stage2/logs/train.log").read_text()
    assert re.search(r"training: \d+/\d+ batch, [\d.]+ batch/s, ETA \d:\d\d:\d\d", log)
    assert "stage 1" in (run / f"results/stage{LAST}/logs/summarize.log").read_text()


def test_model_json_names_what_was_trained(run: Path) -> None:
    facts = json.loads((run / FOLDER / "stage2/model.json").read_text())
    assert facts["stage"] == 2
    assert facts["network"]["width"] == TINY["network"]["width"]
    assert facts["num_samples"] == 16_000
    assert len(facts["classes"]) == pd.read_parquet(run / FOLDER / "stage2/labels.parquet").class_index.nunique()


def test_a_data_set_without_pool_trains_without_external_clips(tmp_path: Path) -> None:
    config = copy.deepcopy(TINY)
    config["datasets"]["tiny"]["pool"] = None
    plan = planned(tmp_path, "results/stage2/auc.csv", config=config)
    assert plan["train"] == 2
    assert plan["select"] == plan["score_external"] == plan["pack_pool"] == 0


def test_table_2_has_our_results_beside_the_papers(run: Path) -> None:
    done = run_snakemake(run, "results/tables/table2.csv", config=TINY)
    assert done.returncode == 0, done.stdout[-3000:]
    table = pd.read_csv(run / "results/tables/table2.csv")
    ours = table[table.dataset == "tiny"]
    assert ours.groupby("split").size().to_dict() == {"dev": 14, "eval": 14}
    for row in ours.itertuples():
        auc = pd.read_csv(run / f"results/tiny/{row.run}/seed0/stage{row.stage}/auc.csv")
        expected = auc[(auc.split == row.split) & ~auc.machine.isin(["mean", "hmean"])].auc.mean()
        assert row.mean == pytest.approx(expected, abs=2e-4)
    assert ours.variance.isna().all()
    assert ours.paper_mean.isna().all()
    # The paper's data sets were not run.
    paper = table[table.dataset != "tiny"]
    assert paper["mean"].isna().all()
    assert paper.paper_mean.notna().sum() == 66
    assert "Ba" in (run / "results/tables/table2.md").read_text()
    # Labelled classes are machine types with their attributes.
    labels = pd.read_parquet(run / "results/tiny/ba_labelled/seed0/stage1/labels.parquet")
    clips = pd.read_parquet(run / "results/data/tiny/clips.parquet").set_index("clip_id").loc[labels.clip_id]
    assert labels.class_name.tolist() == (clips.machine + "_" + clips.attributes).tolist()
    again = run_snakemake(run, "results/tables/table2.csv", config=TINY)
    assert "Nothing to be done" in again.stdout
