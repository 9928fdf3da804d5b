"""The plan: owners, inputs of every rule, splits, tables and errors, without Snakemake."""

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from asdpipe.config.reading import load_config
from asdpipe.errors import UserError
from asdpipe.paper import published as paper
from asdpipe.paper import top_m
from asdpipe.plan import Plan
from asdpipe.steps.list_pool_clips import list_pool_clips
from asdpipe.steps.pack_pool import pack_pool
from asdpipe.table_plan import TablePlan
from tests.conftest import TINY

# Every method of Tables 2 to 5, by the method that trains its stage 1.
FIRST = {
    "wilkinghoff": ("wilkinghoff",),
    "wilkinghoff_labelled": ("wilkinghoff_labelled",),
    "ba": (
        *("ba", "ba_ex", "ba_ps", "ba_trp_ps_from_ba", "ba_ex_500", "ba_ex_2000"),
        *("ba_ex_random", "ba_ex_random_500", "ba_ex_random_2000"),
    ),
    "ba_labelled": ("ba_labelled", "ba_ex_labelled", "ba_ps_labelled"),
    "ba_trp": ("ba_trp", "ba_trp_ex", "ba_trp_ps", "ba_trp_ps_ex", "ba_ps_from_ba_trp"),
    "ba_trp_labelled": ("ba_trp_labelled", "ba_trp_ex_labelled", "ba_trp_ps_labelled", "ba_trp_ps_ex_labelled"),
    "autoencoder": ("autoencoder", "autoencoder_mahalanobis"),
    "raw_logmel": ("raw_logmel",),
}
FUSED = TINY["methods"] | {"mix": {"fusion": {"methods": ["autoencoder", "raw_logmel"]}}}
OWNER = {method: owner for owner, methods in FIRST.items() for method in methods}
OF_TABLES = sorted({run.method for table in paper.TABLES for run in paper.runs(table)} | {"ba_ps", "ba_trp"})


def plan_of(**changes: Any) -> Plan:
    return Plan(load_config(copy.deepcopy(TINY) | changes))


def with_methods(**methods: Any) -> Plan:
    return plan_of(methods=TINY["methods"] | methods)


PLAN = plan_of()


def folder(method: str, stage: int) -> str:
    return f"results/tiny/{method}/seed0/stage{stage}"


def run(method: str, stage: int) -> dict[str, str]:
    """Return the wildcards of a stage."""
    return {"dataset": "tiny", "method": method, "seed": "0", "stage": str(stage)}


# -------------------------------------------------------------------- owners


@pytest.mark.parametrize("method", OF_TABLES)
def test_stage_1_belongs_to_the_method_that_starts_like_it_and_later_stages_to_the_method(method: str) -> None:
    scored_alone = {"autoencoder_mahalanobis"}
    assert PLAN.model_owner(method, 1) == OWNER[method]
    assert PLAN.representatives_owner(method, 1) == OWNER[method]
    assert PLAN.scores_owner(method, 1) == (method if method in scored_alone else OWNER[method])
    if PLAN.method(method).iterates:
        assert PLAN.model_owner(method, 2) == PLAN.representatives_owner(method, 2) == method
        assert PLAN.scores_owner(method, 2) == method


@pytest.mark.parametrize(
    ("child", "stage", "model", "representatives", "scores"),
    [
        # Another back end or limit: scores only.
        ({"inference": {"backend": "knn"}}, 1, "ba_trp", "ba_trp", "mine"),
        ({"inference": {"backend": "knn"}}, 3, "ba_trp_ps_ex", "ba_trp_ps_ex", "mine"),
        ({"inference": {"decision_quantile": 0.5}}, 2, "ba_trp_ps_ex", "ba_trp_ps_ex", "mine"),
        # Other representatives select other external clips, which later models are trained on.
        ({"inference": {"k_source": 2}}, 1, "ba_trp", "mine", "mine"),
        ({"inference": {"k_source": 2}}, 2, "mine", "mine", "mine"),
        ({"inference": {"similarity": "dot"}}, 1, "ba_trp", "mine", "mine"),
        ({"inference": {"similarity": "dot"}}, 2, "mine", "mine", "mine"),
        # What only later stages take leaves stage 1 as it is.
        ({"external": {"n_max": 2}}, 1, "ba_trp", "ba_trp", "ba_trp"),
        ({"external": {"n_max": 2}}, 2, "mine", "mine", "mine"),
        ({"pseudo_labels": {"k_source": 1}}, 1, "ba_trp", "ba_trp", "ba_trp"),
        ({"pseudo_labels": {"k_source": 1}}, 2, "mine", "mine", "mine"),
        # Another training, or external clips in stage 1: all of it.
        ({"training": {"epochs": 2}}, 1, "mine", "mine", "mine"),
        ({"training": {"epochs": "auto"}}, 1, "mine", "mine", "mine"),
        ({"external": {"n_max": "auto"}}, 1, "ba_trp", "ba_trp", "ba_trp"),
        ({"external": {"n_max": "auto"}}, 2, "mine", "mine", "mine"),
        ({"training": {"epochs": 2}}, 2, "mine", "mine", "mine"),
        ({"external": {"first_stage": "random"}}, 1, "mine", "mine", "mine"),
        # A stage 1 that is named.
        ({"start_from": "ba"}, 1, "ba", "ba", "ba"),
        ({"start_from": "ba"}, 2, "mine", "mine", "mine"),
        # Nothing else: another name of the parent.
        ({}, 1, "ba_trp", "ba_trp", "ba_trp"),
        ({}, 2, "ba_trp_ps_ex", "ba_trp_ps_ex", "ba_trp_ps_ex"),
    ],
)
def test_a_child_shares_what_its_settings_leave_the_same(
    child: dict[str, Any], stage: int, model: str, representatives: str, scores: str
) -> None:
    plan = with_methods(mine={"parent": "ba_trp_ps_ex", **child})
    owners = (
        plan.model_owner("mine", stage),
        plan.representatives_owner("mine", stage),
        plan.scores_owner("mine", stage),
    )
    assert owners == (model, representatives, scores)


def test_a_method_without_a_model_embeds_by_itself() -> None:
    plan = with_methods(mine={"parent": "raw_logmel", "inference": {"backend": "knn"}})
    assert plan.model_owner("mine", 1) == plan.scores_owner("mine", 1) == "mine"


# -------------------------------------------------------------------- inputs of the rules

DATA = "results/data/tiny"
TRAIN = {
    "clips": f"{DATA}/train/clips.parquet",
    "index": f"{DATA}/train/waveforms.parquet",
    "samples": f"{DATA}/train/waveforms.int16",
}
POOL = "results/external/tiny"
INDEX = [f"{POOL}/{shard}/waveforms.parquet" for shard in (0, 1)]
SAMPLES = [f"{POOL}/{shard}/waveforms.int16" for shard in (0, 1)]


def test_candidates_are_ranked_from_training_clips_for_methods_whose_classes_are_made_of_them() -> None:
    latent = {"kind": "top_m", "candidates": {"latent": "ba_trp"}}
    plan = with_methods(mine={"parent": "ba", "labels": "top_m"}, yours={"parent": "mine", "labels": latent})
    assert plan.rank_labels("tiny", "mine", "0") == TRAIN
    embeddings = f"{folder('ba_trp', 1)}/embeddings/train.parquet"
    assert plan.rank_labels("tiny", "yours", "0") == TRAIN | {"embeddings": embeddings}
    with pytest.raises(UserError, match="ba has no candidate labels"):
        plan.rank_labels("tiny", "ba", "0")


def test_what_trainings_take() -> None:
    assert PLAN.train(**run("ba_trp", 1)) == TRAIN
    before = folder("ba_trp_ps_ex", 1)
    both = {"pseudo_labels": f"{before}/pseudo_labels.parquet", "selected": f"{before}/selected.parquet"}
    packed = {"pool_index": INDEX, "pool_samples": SAMPLES}
    assert PLAN.train(**run("ba_trp_ps_ex", 2)) == TRAIN | both | packed
    before = folder("ba_ps", 2)
    assert PLAN.train(**run("ba_ps", 3)) == TRAIN | {"pseudo_labels": f"{before}/pseudo_labels.parquet"}
    assert PLAN.train(**run("ba_ex", 2)) == TRAIN | packed | {"selected": f"{folder('ba_ex', 1)}/selected.parquet"}
    assert PLAN.train(**run("autoencoder", 1)) == TRAIN


def test_stage_1_takes_random_external_clips_where_asked_to() -> None:
    plan = plan_of(external={"n_max": 3, "first_stage": "random"})
    before = folder("ba_trp_ps_ex", 0)
    drawn = {"selected": f"{before}/selected.parquet", "pool_index": INDEX, "pool_samples": SAMPLES}
    assert plan.train(**run("ba_trp_ps_ex", 1)) == TRAIN | drawn
    everything = {"pool_clips": f"{POOL}/clips.parquet", "pool_index": INDEX}
    assert plan.select(**run("ba_trp_ps_ex", 0)) == everything | {"clips": TRAIN["clips"]}
    counted = {"clips": TRAIN["clips"], "index": TRAIN["index"]}
    plan = plan_of(external={"n_max": "auto", "first_stage": "random"})
    assert plan.train(**run("ba_trp_ps_ex", 1)) == TRAIN | drawn
    assert plan.select(**run("ba_trp_ps_ex", 0)) == everything | counted


def test_a_pool_that_is_not_packed_is_decoded_by_the_jobs_that_need_it() -> None:
    plan = plan_of(pools={"tiny": TINY["pools"]["tiny"] | {"packed": False}})
    before = folder("ba_ex", 1)
    inputs = plan.train(**run("ba_ex", 2))
    assert inputs["pool_samples"] == f"{before}/selected_waveforms.int16"
    assert inputs["pool_index"] == f"{before}/selected_waveforms.parquet"
    scored = plan.score_external(**run("ba", 1), shard="1")
    assert scored["pool_clips"] == f"{POOL}/clips.parquet"
    assert not scored.keys() & {"index", "samples"}
    assert plan.select(**run("ba_ex", 1))["pool_index"] == []


def test_what_embeddings_representatives_and_pseudo_labels_take() -> None:
    test = {name: file.replace("/train/", "/test/") for name, file in TRAIN.items()}
    here = folder("ba_trp_ps_ex", 2)
    model = {"weights": f"{here}/model.safetensors", "description": f"{here}/model.json"}
    assert PLAN.embed(**run("ba_trp_ps_ex", 2), split="train") == TRAIN | model
    assert PLAN.embed(**run("ba_trp_ps_ex", 2), split="test") == test | model
    assert PLAN.embed(**run("raw_logmel", 1), split="test") == test
    embedded = {"clips": TRAIN["clips"], "embeddings": f"{here}/embeddings/train.parquet"}
    assert PLAN.represent(**run("ba_trp_ps_ex", 2)) == embedded
    assert PLAN.train_embeddings(**run("ba_trp_ps_ex", 2)) == embedded
    of_first = f"{folder('ba_trp', 1)}/embeddings/train.parquet"
    assert PLAN.train_embeddings(**run("ba_trp_ps_ex", 1))["embeddings"] == of_first


def test_what_scores_take() -> None:
    def clips(model: str) -> dict[str, str]:
        return {
            **{f"{split}_clips": f"{DATA}/{split}/clips.parquet" for split in ("train", "test")},
            **{f"{split}_embeddings": f"{model}/embeddings/{split}.parquet" for split in ("train", "test")},
        }

    here = folder("ba_trp", 1)
    by_centroids = {"representatives": f"{here}/representatives.parquet"}
    assert PLAN.score(**run("ba_trp", 1)) == clips(here) | by_centroids
    # Of the owner of the model, and without representatives where the back end compares clips with clips.
    assert PLAN.score(**run("autoencoder_mahalanobis", 1)) == clips(folder("autoencoder", 1))
    plan = with_methods(mine={"parent": "ba_trp_ps_ex", "inference": {"backend": "knn"}})
    assert plan.score(**run("mine", 2)) == clips(folder("ba_trp_ps_ex", 2))
    plan = with_methods(mine={"parent": "ba_trp", "inference": {"decision_quantile": 0.5}})
    assert plan.score(**run("mine", 1)) == clips(here) | by_centroids


def test_what_external_scores_and_selections_take() -> None:
    first, here = folder("ba_trp", 1), folder("ba_trp_ps_ex", 2)
    assert PLAN.score_external(**run("ba_trp_ps_ex", 2), shard="1") == {
        "weights": f"{here}/model.safetensors",
        "description": f"{here}/model.json",
        "representatives": f"{here}/representatives.parquet",
        "index": INDEX[1],
        "samples": SAMPLES[1],
    }
    chosen_from = {"pool_clips": f"{POOL}/clips.parquet", "pool_index": INDEX}
    for stage, owner in ((1, first), (2, here)):
        assert PLAN.select(**run("ba_trp_ps_ex", stage)) == chosen_from | {
            "representatives": f"{owner}/representatives.parquet",
            "scores": [f"{owner}/external/{shard}.parquet" for shard in (0, 1)],
        }
    random = chosen_from | {"representatives": f"{folder('ba', 1)}/representatives.parquet"}
    assert PLAN.select(**run("ba_ex_random", 1)) == random
    # The training clips are counted.
    plan = plan_of(external={"n_max": "auto"})
    counted = {"clips": TRAIN["clips"], "index": TRAIN["index"]}
    assert plan.select(**run("ba_trp_ps_ex", 2)) == PLAN.select(**run("ba_trp_ps_ex", 2)) | counted
    # A method with representatives of its own scores the shards itself, with the model of another.
    plan = with_methods(mine={"parent": "ba_trp_ps_ex", "inference": {"k_source": 2}})
    inputs = plan.score_external(**run("mine", 1), shard="0")
    assert inputs["weights"] == f"{first}/model.safetensors"
    assert inputs["representatives"] == f"{folder('mine', 1)}/representatives.parquet"


def test_what_results_take() -> None:
    plan = plan_of(seeds=[0, 1])
    labelled = {"clips": f"{DATA}/clips.parquet"}
    scores = {"scores": f"{folder('ba_trp', 1)}/scores.parquet"}
    assert plan.evaluate(**run("ba_trp_ps_ex", 1)) == labelled | scores
    limits = {"thresholds": f"{folder('ba_trp', 1)}/thresholds.parquet"}
    assert plan.submission(**run("ba_trp_ps_ex", 1)) == labelled | scores | limits

    def of_seeds(method: str, stage: int, file: str) -> list[str]:
        return [f"results/tiny/{method}/seed{seed}/stage{stage}/{file}" for seed in (0, 1)]

    yardstick = f"{folder('raw_logmel', 1)}/auc.csv"
    assert plan.summarize("1") == labelled | {
        "aucs": of_seeds("ba_trp_ps_ex", 1, "auc.csv"),
        "scores": of_seeds("ba_trp", 1, "scores.parquet"),
        "thresholds": of_seeds("ba_trp", 1, "thresholds.parquet"),
        "others": [yardstick],
    }
    assert plan.summarize("3")["others"] == [yardstick, "results/stage1/auc.csv", "results/stage2/auc.csv"]
    assert plan_of(yardstick=None).summarize("1")["others"] == []
    assert (plan.last_stage, plan_of(method="ba").last_stage) == (5, 1)


def test_held_out_clips_are_a_split_of_their_own_that_nothing_is_trained_on() -> None:
    plan = plan_of(monitor={"holdout": 0.2}, seeds=[0, 1])
    train, held_out = (f"{DATA}/holdout/{split}.parquet" for split in ("train", "calibration"))
    here = folder("ba_trp", 1)
    packed = {name: TRAIN[name] for name in ("index", "samples")}
    model = {"weights": f"{here}/model.safetensors", "description": f"{here}/model.json"}
    assert plan.embed(**run("ba_trp", 1), split="train") == packed | model | {"clips": train}
    assert plan.embed(**run("ba_trp", 1), split="calibration") == packed | model | {"clips": held_out}
    assert plan.calibrate(**run("ba_trp", 1)) == {
        "train_clips": train,
        "train_embeddings": f"{here}/embeddings/train.parquet",
        "representatives": f"{here}/representatives.parquet",
        "calibration_clips": held_out,
        "calibration_embeddings": f"{here}/embeddings/calibration.parquet",
    }
    for inputs in (plan.train(**run("ba_trp", 1)), plan.represent(**run("ba_trp", 1))):
        assert inputs["clips"] == train
    assert plan.summarize("1")["calibrations"] == [
        f"results/tiny/ba_trp/seed{seed}/stage1/calibration.parquet" for seed in (0, 1)
    ]
    with pytest.raises(UserError, match="has the calibration of ba_trp; ask for the files in"):
        plan.calibrate(**run("ba_trp_ps_ex", 1))
    mixed = plan_of(methods=FUSED, method="mix", monitor={"holdout": 0.2})
    assert "calibrations" not in mixed.summarize("1")
    assert mixed.fuse_scores(**run("mix", 1))["train_clips"] == train
    with pytest.raises(UserError, match=r"monitor\.holdout is 0"):
        PLAN.calibrate(**run("ba_trp", 1))


def test_fused_scores_are_of_the_same_stage_and_seed_where_there_are_several() -> None:
    methods = {
        "knn": {"parent": "ba_ps", "inference": {"backend": "knn"}},
        "pair": {"fusion": {"methods": ["knn", "raw_logmel"]}},
        "more": {"fusion": {"methods": ["pair", "ba"]}},
        "still": {"fusion": {"methods": ["autoencoder", "raw_logmel"]}},
    }
    plan = plan_of(methods=TINY["methods"] | methods, method="more", seeds=[3, 4], external={"enabled": False})
    given = {"dataset": "tiny", "seed": "4"}

    def scores(method: str, stage: str) -> list[str]:
        taken = plan.fuse_scores(**given, method=method, stage=stage)
        assert {name: taken[name] for name in ("train_clips", "test_clips")} == {
            f"{split}_clips": f"{DATA}/{split}/clips.parquet" for split in ("train", "test")
        }
        return [file.removeprefix("results/tiny/").removesuffix("/scores.parquet") for file in taken["scores"]]

    assert scores("pair", "1") == ["knn/seed4/stage1", "raw_logmel/seed3/stage1"]
    assert scores("more", "3") == ["pair/seed4/stage3", "ba/seed4/stage1"]
    assert scores("still", "1") == ["autoencoder/seed4/stage1", "raw_logmel/seed3/stage1"]
    assert plan.last_stage == 5
    assert plan.evaluate(**given, method="more", stage="2")["scores"] == "results/tiny/more/seed4/stage2/scores.parquet"
    assert plan.summarize("2")["scores"][0] == "results/tiny/more/seed3/stage2/scores.parquet"
    with pytest.raises(UserError, match="still has no stage 2"):
        plan.fuse_scores(**given, method="still", stage="2")
    with pytest.raises(UserError, match="more fuses the scores of other methods and has no scores"):
        plan.score(**given, method="more", stage="2")


# -------------------------------------------------------------------- data sets and pools


def test_splits_and_what_tells_of_other_clips(tmp_path: Path) -> None:
    recordings = ["results/data/tiny/recordings"]
    assert PLAN.splits("tiny") == ["train", "test"]
    assert [PLAN.sources("tiny", split) for split in ("train", "test", "supplemental")] == [recordings, recordings, []]
    for name in ("fan", "pump"):
        for split in ("train", "test"):
            (tmp_path / name / split).mkdir(parents=True)
            (tmp_path / name / split / "1.wav").touch()
    plan = plan_of(dataset="own", datasets={"own": {"format": "folder", "root": str(tmp_path)}})
    # No folder of the one split has to do with the other.
    for split in ("train", "test"):
        assert plan.sources("own", split) == [f"{tmp_path}/{name}/{split}" for name in ("fan", "pump")]
    lists = [f"results/data/own/{split}/clips.parquet" for split in ("train", "test")]
    assert plan.labelled_from("own") == {"lists": lists, "truth": []}
    # Downloads are known by their index; supplemental clips came with 2025.
    assert plan.splits("dcase2024") == ["train", "test"]
    assert plan.splits("dcase2025") == ["train", "test", "supplemental"]
    index = ["results/data/dcase2025/download.json"]
    assert all(plan.sources("dcase2025", split) == index for split in plan.splits("dcase2025"))
    assert plan.facts("dcase2025", "train") == ""
    assert plan.labelled_from("dcase2025")["truth"] == []


def test_a_row_of_the_csv_concerns_its_split_only(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / "fan" / split).mkdir(parents=True)
        (tmp_path / "fan" / split / "1.wav").touch()
    table = tmp_path / "clips.csv"
    plan = plan_of(dataset="own", method="raw_logmel", datasets={"own": {"format": "folder", "root": str(tmp_path)}})

    def facts(test_label: str, train_domain: str) -> tuple[str, str]:
        table.write_text(f"file,label,domain\nfan/test/1.wav,{test_label},\nfan/train/1.wav,,{train_domain}\n")
        return plan.facts("own", "train"), plan.facts("own", "test")

    train, test = facts("normal", "source")
    assert facts("anomaly", "source")[0] == train
    assert facts("anomaly", "source")[1] != test
    assert facts("normal", "target")[0] != train
    assert facts("normal", "target")[1] == test


def test_a_union_takes_the_lists_of_its_members(tmp_path: Path) -> None:
    for part, machine in (("dev_data", "fan"), ("dev_data", "valve"), ("eval_data", "ToyPet")):
        for split in ("train", "test", "supplemental"):
            (tmp_path / part / machine / split).mkdir(parents=True)
    datasets = TINY["datasets"] | {
        "dcase2025": {"root": str(tmp_path)},
        "own": {"format": "dcase", "root": str(tmp_path), "machines": ["fan"]},
        "all": {
            "format": "union",
            "datasets": ["tiny", "dcase2025", "own"],
            "tested": ["dcase2025"],
            "clip_seconds": 1,
        },
    }
    plan = plan_of(datasets=datasets, dataset="all", method="ba_trp_ps")
    plan.check()
    assert plan.united_datasets == ["all"]

    def lists(*places: str) -> list[str]:
        return [f"results/data/{place}/clips.parquet" for place in places]

    assert plan.united_from("all", "train/") == lists("dcase2025/train", "own/train", "tiny/train")
    assert plan.united_from("all", "test/") == lists("dcase2025/test")
    assert plan.united_from("all", "supplemental/") == lists("dcase2025/supplemental", "own/supplemental")
    # What is not tested needs no labels.
    everything = lists("dcase2025", "own/train", "own/supplemental", "tiny/train")
    assert plan.united_from("all", "") == everything
    assert plan.splits("all") == ["train", "test", "supplemental"]
    names = plan.machine_types("all")
    assert names[:4] == ["dcase2025_fan", "dcase2025_valve", "dcase2025_ToyPet", "own_fan"]
    assert set(names[4:]) == {f"tiny_{name}" for name in TINY["datasets"]["tiny"]["machines"]}
    assert json.loads(plan.settings("unite_clips", dataset="all")) == {"joined": False}
    assert plan.split_files("all", "train")["index"] == "results/data/all/train/waveforms.parquet"
    for function in (plan.dataset_root, plan.truth):
        with pytest.raises(UserError, match=r"datasets\.all: has no recordings, but those of dcase2025, own, tiny"):
            function("all")

    joined = datasets | {"all": datasets["all"] | {"joined": True}}
    assert plan_of(datasets=joined).machine_types("all").count("fan") == 1
    missing = datasets | {"own": {"format": "dcase", "root": f"{tmp_path}/none"}}
    with pytest.raises(UserError, match="none: there is no such folder"):
        plan_of(datasets=missing, dataset="all", method="ba_trp_ps").check()


def test_a_shard_is_packed_again_when_its_own_clips_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_clip: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    table = Path("sounds/labels.csv")

    def add(name: str) -> None:
        write_clip(Path("sounds") / name, seconds=0.2)
        rows = table.read_text() if table.exists() else "file,label\n"
        table.write_text(f"{rows}{name},engine\n")

    def list_and_pack(*shards: int) -> None:
        plan, external = make_plan(), Path("results/external/sounds")
        external.mkdir(parents=True, exist_ok=True)
        files = (external / "clips.parquet", external / "shards.json", external / "left_out.csv")
        list_pool_clips("sounds", Path("sounds"), plan.settings("list_pool_clips", pool="sounds"), *files)
        for shard in shards:
            (external / str(shard)).mkdir(exist_ok=True)
            packed = [external / str(shard) / name for name in ("waveforms.int16", "waveforms.parquet", "skipped.csv")]
            pack_pool(plan.settings("pack_pool", pool="sounds"), shard, files[0], *packed)

    def make_plan() -> Plan:
        # As every run of Snakemake does.
        return plan_of(pools=TINY["pools"] | {"sounds": {"format": "folder", "root": "sounds", "shards": 2}})

    def contents(recorded: tuple[str, str] = ("", "")) -> tuple[str, str]:
        plan = make_plan()
        return plan.shard_contents("sounds", "0", recorded[0]), plan.shard_contents("sounds", "1", recorded[1])

    for number in range(4):
        add(f"{number}.wav")
    # Never packed: missing files are reason enough.
    assert contents() == ("", "")
    list_and_pack(0, 1)
    assert contents() == ("", "")
    # Files were touched, but are those that were packed.
    os.utime("sounds")
    assert contents() == ("", "")
    add("9.wav")
    changed = contents()
    assert sorted(map(bool, changed)) == [False, True]
    shard = int(bool(changed[1]))
    # Listed, but not yet packed, as after an interruption.
    list_and_pack()
    assert contents() == changed
    list_and_pack(shard)
    assert contents(changed) == changed
    # What cannot be read is made again: the list now, the shard by its job.
    Path("results/external/sounds/shards.json").write_text("[1")
    assert contents(changed) == changed
    Path(f"results/external/sounds/{1 - shard}/waveforms.parquet").write_text("damaged")
    assert contents(changed)[1 - shard] != ""


def test_what_is_generated_or_fetched() -> None:
    plan = plan_of(datasets=TINY["datasets"] | {"dcase2023": {"root": "x"}})
    assert (plan.generated_datasets, plan.generated_pools) == (["tiny"], ["tiny"])
    assert set(plan.fetched_datasets) == {f"dcase{year}" for year in (2020, 2021, 2022, 2024, 2025)}
    assert plan.packed_shards("tiny", "x") == [f"{POOL}/0/x", f"{POOL}/1/x"]


# -------------------------------------------------------------------- settings


def test_settings_are_complete_and_do_not_depend_on_the_order_of_keys() -> None:
    turned = {name: dict(reversed(part.items())) if isinstance(part, dict) else part for name, part in TINY.items()}
    other = Plan(load_config(dict(reversed(turned.items()))))
    for step in ("train", "embed", "represent", "score", "score_external", "select", "pseudo_label"):
        names = {"dataset": "tiny", "method": "ba_trp_ps_ex"}
        settings = PLAN.settings(step, **names)
        assert json.loads(settings)
        assert settings == other.settings(step, **names), step
    for step in ("generate_dataset", "list_clips", "label_clips", "pack_clips"):
        assert json.loads(PLAN.settings(step, dataset="tiny"))
    for step in ("generate_pool", "list_pool_clips", "pack_pool"):
        assert json.loads(PLAN.settings(step, pool="tiny"))


# -------------------------------------------------------------------- tables


@pytest.mark.parametrize("table", paper.TABLES)
def test_tables_take_every_run_of_theirs_once_a_seed(table: str) -> None:
    inputs = TablePlan(plan_of(seeds=[0, 1])).inputs(table)
    expected = {
        f"results/tiny/{method}/seed{seed}/stage{stage}/auc.csv"
        for method, stage in paper.runs(table)
        for seed in (0, 1)
        # It trains nothing, so that seeds are the same.
        if method != "raw_logmel" or seed == 0
    }
    assert set(inputs["aucs"]) == expected
    assert len(inputs["aucs"]) == len(expected)
    groups = [f"results/tiny/ba_ex/seed{seed}/stage1/selected.parquet" for seed in (0, 1)]
    assert inputs["selected"] == (groups if table == "4" else [])


def test_tables_without_a_pool_leave_out_what_takes_external_clips() -> None:
    tables = TablePlan(plan_of(datasets={"tiny": TINY["datasets"]["tiny"] | {"pool": None}}))
    methods = {run.method for run in tables.runs("2", "tiny")}
    assert "ba_trp_ps" in methods
    assert not [name for name in methods if "_ex" in name]
    assert tables.inputs("4")["selected"] == []
    some = TablePlan(plan_of(tables={"methods": ["ba"]}))
    assert {run.method for run in some.runs("2", "tiny")} == {"ba"}


@pytest.mark.parametrize("backbone", top_m.BACKBONES)
def test_tables_of_the_top_m_paper_take_every_m_the_baselines_and_frozen_extractors(backbone: str) -> None:
    tables = TablePlan(plan_of(seeds=[0, 1]))
    trained = [*(f"topm_{backbone}_m{m}" for m in (1, 3, 5, 7, 10, 13, 15)), "autoencoder", "autoencoder_mahalanobis"]
    # What trains nothing is the same for every seed. No address is known of the weights of BEATs.
    frozen = ["raw_logmel", "ced_frozen", *(["audio_mae_frozen"] if backbone == "audio_mae" else [])]
    aucs = tables.top_m_inputs(backbone)["aucs"]
    expected = {f"results/tiny/{name}/seed{seed}/stage1/auc.csv" for name in trained for seed in (0, 1)}
    expected |= {f"results/tiny/{name}/seed0/stage1/auc.csv" for name in frozen}
    assert set(aucs) == expected
    assert len(aucs) == len(expected)
    some = TablePlan(plan_of(tables={"methods": ["autoencoder", f"topm_{backbone}_m3", "ba"]}))
    assert some.top_m_methods(backbone) == [f"topm_{backbone}_m3", "autoencoder"]


def test_frozen_beats_is_in_the_table_if_its_weights_can_be_had(tmp_path: Path) -> None:
    def is_there(**changes: Any) -> bool:
        return "beats_frozen" in TablePlan(plan_of(**changes)).top_m_methods("beats")

    file = tmp_path / "beats.pt"
    checkpoints = {"beats_iter3_plus_as2m": {"file": str(file)}}
    assert not is_there()
    assert not is_there(checkpoints=checkpoints)
    file.touch()
    assert is_there(checkpoints=checkpoints)
    # Whoever asks for it is told what is missing.
    assert is_there(tables={"methods": ["beats_frozen"]})


def test_the_machine_types_of_2025_have_the_papers_names() -> None:
    union = {"format": "union", "datasets": ["dcase2024", "dcase2025"], "clip_seconds": 1}
    unions = {
        "all": union,
        "tested": union | {"tested": ["dcase2025"], "joined": True},
        "other": union | {"tested": ["dcase2024"]},
    }
    names = ["tiny", "dcase2025", "dcase2024", *unions]
    tables = TablePlan(plan_of(datasets=TINY["datasets"] | unions, tables={"datasets": names}))
    of_2025 = {machine: machine for machine in top_m.MACHINES}
    assert json.loads(tables.top_m_machines()) == {
        **{name: {} for name in ("tiny", "dcase2024", "other")},
        **dict.fromkeys(("dcase2025", "tested"), of_2025),
        "all": {f"dcase2025_{machine}": machine for machine in top_m.MACHINES},
    }
    with pytest.raises(UserError, match="topm_ced: the paper has no such backbone; choose audio_mae or beats"):
        tables.top_m_inputs("ced")


# -------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("method", ["bo"], "there is no method 'bo'; the config has: audio_mae_frozen, "),
        ("dataset", ["toy"], "there is no data set 'toy'; the config has: dcase2020, "),
        ("pool_root", ["sea"], "there is no pool 'sea'; the config has: tiny"),
        ("summarize", ["6"], "add --config stages=6"),
        ("summarize", ["0"], "There is no stage 0"),
        ("evaluate", ["tiny", "ba", "0", "0"], "There is no stage 0"),
        ("evaluate", ["tiny", "ba", "0", "2"], "ba has no stage 2, only stage 1"),
        ("train", ["tiny", "ba_trp_ps_ex", "0", "1"], f"has the model of ba_trp; .* {folder('ba_trp', 1)}$"),
        ("embed", ["tiny", "ba_ps", "0", "1", "test"], f"has the embeddings of ba; .* {folder('ba', 1)}$"),
        ("represent", ["tiny", "ba_ps", "0", "1"], f"has the representatives of ba; .* {folder('ba', 1)}$"),
        ("score", ["tiny", "ba_ex", "0", "1"], f"has the scores of ba; .* {folder('ba', 1)}$"),
        ("score_external", ["tiny", "ba_ex", "0", "1", "0"], "has the scores of external clips of ba; "),
    ],
)
def test_what_there_is_not_is_answered_with_what_there_is(function: str, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        getattr(PLAN, function)(*arguments)


def test_without_a_pool_there_are_no_external_clips() -> None:
    plan = plan_of(datasets={"tiny": TINY["datasets"]["tiny"] | {"pool": None}})
    assert plan.pool("tiny", "ba_ex") is None
    with pytest.raises(UserError, match=r"datasets\.tiny\.pool is not set"):
        plan.score_external(**run("ba_trp", 1), shard="0")
    with pytest.raises(UserError, match=r"ba_ex has no stage 2 on tiny: .* no pool \(datasets\.tiny\.pool\)"):
        plan.train(**run("ba_ex", 2))
    assert "selected" not in plan.train(**run("ba_trp_ps_ex", 2))


def test_one_machine_type_is_refused_unless_something_else_makes_classes() -> None:
    one = TINY["datasets"]["tiny"] | {"machines": ["fan"]}
    plan = plan_of(datasets={"tiny": one})
    for refused in (plan.check, lambda: plan.train(**run("ba_trp", 1))):
        with pytest.raises(UserError, match=r"one machine type only \(fan\).*external\.first_stage: random"):
            refused()
    assert plan.train(**run("ba_labelled", 1))
    assert plan.train(**run("autoencoder", 1))
    plan_of(datasets={"tiny": one}, method="raw_logmel").check()
    plan_of(datasets={"tiny": one}, external={"n_max": 3, "first_stage": "random"}).check()


def test_missing_folders_are_named_with_their_keys_and_the_ways_out(tmp_path: Path) -> None:
    plan = plan_of(dataset="own", datasets={"own": {"format": "folder", "root": f"{tmp_path}/none"}})
    with pytest.raises(UserError, match="none: there is no such folder; check the root of the data set"):
        plan.check()
    pools = {"tiny": {"format": "audioset", "root": f"{tmp_path}/none"}}
    message = r"none: there is no such folder\n.*pools\.tiny\.root.*method: ba_trp_ps.*datasets\.tiny\.pool: null"
    with pytest.raises(UserError, match=message):
        plan_of(pools=pools).check()
    # A method without external clips needs no pool.
    plan_of(pools=pools, method="ba_trp_ps").check()


# -------------------------------------------------------------------- pre-trained weights


def test_a_checkpoint_is_made_from_its_file_or_is_fetched(tmp_path):
    file = tmp_path / "official.pt"
    file.touch()
    given = {"beats_iter3_plus_as2m": {"file": "{data_root}/official.pt"}, "ced_tiny": {"sha256": "0" * 64}}
    plan = plan_of(checkpoints=given, data_root=str(tmp_path))
    assert plan.import_checkpoint("beats_iter3_plus_as2m") == {"file": str(file)}
    assert plan.import_checkpoint("ced_tiny") == {}
    settings = json.loads(plan.settings("import_checkpoint", checkpoint="ced_tiny"))
    assert settings.pop("url").startswith("{huggingface}/mispeech/ced-tiny/")
    assert settings == {"layout": "ced", "fine_tuned": True, "sha256": "0" * 64}
    file.unlink()
    with pytest.raises(UserError, match=r"official.pt: there is no such file .checkpoints.beats_iter3_plus_as2m.file"):
        plan.import_checkpoint("beats_iter3_plus_as2m")


@pytest.mark.parametrize(
    ("checkpoints", "name", "said"),
    [
        ({}, "beats", "there is no checkpoint 'beats'; the config has: audio_mae_as2m, "),
        ({}, "audio_mae_as2m", r"checkpoints.audio_mae_as2m.file is not set.*--config 'checkpoints=\{audio_mae_as2m: "),
        (
            {"mine": {"layout": "ced", "file": "{data_root}/x"}},
            "mine",
            "checkpoints.mine.file is .*data_root is not set",
        ),
    ],
)
def test_a_checkpoint_that_cannot_be_had_is_answered_with_what_to_do(checkpoints, name, said):
    with pytest.raises(UserError, match=said):
        plan_of(checkpoints=checkpoints).import_checkpoint(name)


def test_a_network_without_weights_is_refused_and_told_what_they_are():
    with pytest.raises(UserError, match=r"key 'methods.mine.network.weights' is missing .*a name in checkpoints"):
        with_methods(mine={"network": "beats", "training": "none"})
