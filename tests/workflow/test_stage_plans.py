"""Which artifacts feed which: the plan of every method's stages, as the real snakemake makes it."""

import re
import shlex
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import TINY, run_snakemake

# Method: the method whose stage 1 it takes, and what a later stage takes from the one before.
BOTH = {"pseudo_labels", "selected"}
PLANS: dict[str, tuple[str, set[str]]] = {
    "wilkinghoff": ("wilkinghoff", set()),
    "ba": ("ba", set()),
    "ba_ex": ("ba", {"selected"}),
    "ba_ps": ("ba", {"pseudo_labels"}),
    "ba_trp": ("ba_trp", set()),
    "ba_trp_ex": ("ba_trp", {"selected"}),
    "ba_trp_ps": ("ba_trp", {"pseudo_labels"}),
    "ba_trp_ps_ex": ("ba_trp", BOTH),
    "wilkinghoff_labelled": ("wilkinghoff_labelled", set()),
    "ba_labelled": ("ba_labelled", set()),
    "ba_ex_labelled": ("ba_labelled", {"selected"}),
    "ba_ps_labelled": ("ba_labelled", {"pseudo_labels"}),
    "ba_trp_labelled": ("ba_trp_labelled", set()),
    "ba_trp_ex_labelled": ("ba_trp_labelled", {"selected"}),
    "ba_trp_ps_labelled": ("ba_trp_labelled", {"pseudo_labels"}),
    "ba_trp_ps_ex_labelled": ("ba_trp_labelled", BOTH),
    "ba_ex_500": ("ba", {"selected"}),
    "ba_ex_2000": ("ba", {"selected"}),
    "ba_ex_random": ("ba", {"selected"}),
    "ba_ex_random_500": ("ba", {"selected"}),
    "ba_ex_random_2000": ("ba", {"selected"}),
    "ba_ps_from_ba_trp": ("ba_trp", {"pseudo_labels"}),
    "ba_trp_ps_from_ba": ("ba", {"pseudo_labels"}),
}
LATER = (2, 3)
# The options of a command that name what it makes.
PACKED = ("--index", "--samples", "--skipped")
OUTPUTS = {
    "generate-dataset": (),
    "generate-pool": (),
    "list-clips": ("--clips",),
    "label-clips": ("--clips",),
    "list-pool-clips": ("--clips", "--shards", "--left-out"),
    "pack-clips": PACKED,
    "pack-pool": PACKED,
    "train": ("--labels", "--weights", "--description", "--history"),
    "embed": ("--embeddings",),
    "represent": ("--representatives",),
    "score": ("--scores", "--thresholds"),
    "score-external": ("--scores", "--skipped"),
    "select": ("--selected",),
    "pseudo-label": ("--labels",),
    "evaluate": ("--auc",),
}
EMBEDDINGS = ("embeddings/train.parquet", "embeddings/test.parquet")


def folder(method: str, stage: int) -> str:
    return f"results/tiny/{method}/seed0/stage{stage}"


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Plan the stages of all methods at once: the files that are given to the command that makes a file."""
    targets = [
        f"{folder(method, stage)}/auc.csv"
        for method, (_, taken) in PLANS.items()
        for stage in ((1, *LATER) if taken else (1,))
    ]
    done = run_snakemake(tmp_path_factory.mktemp("plan"), "-n", "--printshellcmds", "--", *targets, config=TINY)
    assert done.returncode == 0, done.stdout[-3000:]
    commands = [shlex.split(line.partition(": ")[2]) for line in done.stdout.splitlines() if line.startswith("Shell")]
    makes: dict[str, set[str]] = {}
    for command in commands:
        words = command[1:] if command[0] == "exec" else command
        files = {each for each in words if re.fullmatch(r"results/.*\.(parquet|int16|safetensors|json|csv)", each)}
        assert words[:4] == ["python", "-m", "asdpipe", "--log"]
        made = {words[words.index(name) + 1] for name in OUTPUTS[words[6]]}
        makes |= dict.fromkeys(made, files - made)
    return makes


def test_table_2_trains_every_stage_1_once_a_seed(tmp_path: Path) -> None:
    seeds = [0, 1, 2, 3, 4]
    done = run_snakemake(
        tmp_path, "-n", "--printshellcmds", "--", "results/tables/table2.csv", config=TINY | {"seeds": seeds}
    )
    trained = Counter(re.findall(r"--weights (results/tiny/\S+)/model.safetensors .*--history", done.stdout))
    first = {each.split("/")[2] for each in trained if each.endswith("stage1")}
    assert first == {"wilkinghoff", "wilkinghoff_labelled", "ba", "ba_labelled", "ba_trp", "autoencoder"}
    later = [("ba_trp_ex", 2), ("ba_trp_ps", 2), *(("ba_trp_ps_ex", stage) for stage in (2, 3, 4, 5))]
    expected = [(name, 1) for name in first] + later
    assert trained == {f"results/tiny/{name}/seed{seed}/stage{stage}": 1 for name, stage in expected for seed in seeds}
    # Stage 1's external scores: one job a shard and seed, for all methods that start like ba_trp.
    shards = re.findall(r"--scores results/tiny/(\S+)/seed\d/stage1/external/\d.parquet --skipped", done.stdout)
    assert Counter(shards) == {"ba_trp": 2 * len(seeds)}


def of_stages(files: set[str]) -> set[str]:
    """Return what models made, not the data set and not the pool."""
    return {each for each in files if re.search(r"/stage\d+/", each)}


@pytest.mark.parametrize("method", PLANS)
def test_stage_1_is_trained_on_the_data_set_alone_or_is_that_of_the_method_it_starts_like(plan, method):
    owner = PLANS[method][0]
    names = {"clips.parquet", "waveforms.parquet", "waveforms.int16"}
    train, test = ({f"results/data/tiny/{split}/{name}" for name in names} for split in ("train", "test"))
    model = {f"{folder(owner, 1)}/{name}" for name in ("model.safetensors", "model.json")}
    assert plan[f"{folder(owner, 1)}/model.safetensors"] == train
    assert plan[f"{folder(owner, 1)}/embeddings/train.parquet"] == train | model
    assert plan[f"{folder(owner, 1)}/embeddings/test.parquet"] == test | model
    scores = f"{folder(owner, 1)}/scores.parquet"
    assert plan[f"{folder(method, 1)}/auc.csv"] == {"results/data/tiny/clips.parquet", scores}
    made = {file.removeprefix(f"{folder(method, 1)}/") for file in plan if file.startswith(f"{folder(method, 1)}/")}
    if owner != method:
        # What it shares lies with the owner; its own is what the next stage takes.
        assert made - {"auc.csv"} <= {f"{name}.parquet" for name in PLANS[method][1]}


@pytest.mark.parametrize("stage", LATER)
@pytest.mark.parametrize("method", [method for method, (_, taken) in PLANS.items() if taken])
def test_a_later_stage_takes_from_the_one_before_what_the_method_says(plan, method, stage):
    taken = PLANS[method][1]
    here, before = folder(method, stage), folder(method, stage - 1)
    given = plan[f"{here}/model.safetensors"]
    assert of_stages(given) == {f"{before}/{name}.parquet" for name in taken}
    assert ("results/external/tiny/1/waveforms.int16" in given) == ("selected" in taken)
    for file in EMBEDDINGS:
        assert of_stages(plan[f"{here}/{file}"]) == {f"{here}/model.safetensors", f"{here}/model.json"}
    made = {*EMBEDDINGS, "representatives.parquet"}
    assert of_stages(plan[f"{here}/scores.parquet"]) == {f"{here}/{name}" for name in made}
    assert of_stages(plan[f"{here}/auc.csv"]) == {f"{here}/scores.parquet"}


@pytest.mark.parametrize("method", [method for method, (_, taken) in PLANS.items() if taken])
def test_external_clips_are_chosen_by_the_scores_of_the_stage_before_or_at_random_without(plan, method):
    owner, taken = PLANS[method]
    for stage in (1, 2):
        here = folder(method, stage)
        file = f"{here}/selected.parquet"
        assert (file in plan) == ("selected" in taken)
        if "selected" in taken:
            # Representatives and scores of stage 1 are those of the method that trained it.
            scored = folder(owner, 1) if stage == 1 else here
            scores = {f"{scored}/external/{shard}.parquet" for shard in (0, 1)}
            by_score = set() if "random" in method else scores
            assert of_stages(plan[file]) == {f"{scored}/representatives.parquet", *by_score}
            for shard in by_score:
                model = {f"{scored}/{name}" for name in ("model.safetensors", "model.json", "representatives.parquet")}
                assert of_stages(plan[shard]) == model


def test_pseudo_labels_come_from_the_embeddings_of_the_stage_before(plan):
    for method, (owner, taken) in PLANS.items():
        for stage in (1, 2):
            model = folder(owner if stage == 1 else method, stage)
            file = f"{folder(method, stage)}/pseudo_labels.parquet"
            assert (file in plan) == ("pseudo_labels" in taken)
            if file in plan:
                assert of_stages(plan[file]) == {f"{model}/embeddings/train.parquet"}


def test_n_max_0_leaves_external_clips_out(tmp_path: Path) -> None:
    config = TINY | {"external": {"n_max": 0}}
    both = f"{folder('ba_trp_ps_ex', 2)}/auc.csv"
    done = run_snakemake(tmp_path, "-n", "--printshellcmds", "--", both, config=config)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "--pseudo-labels" in done.stdout
    assert "--selected" not in done.stdout
    assert "score-external" not in done.stdout
    # Without pseudo-labels nothing is left that a second stage could learn from.
    done = run_snakemake(tmp_path, "-n", f"{folder('ba_ex', 2)}/auc.csv", config=config)
    assert done.returncode != 0
    assert "ba_ex has no stage 2" in done.stdout
    assert "n_max above 0" in done.stdout


def test_stage_6_is_planned_where_the_configuration_has_it_and_stage_0_is_refused(tmp_path: Path) -> None:
    done = run_snakemake(tmp_path, "-n", "results/stage6/auc.csv", config=TINY)
    assert done.returncode != 0
    assert "the configuration has 5 stages (stages: 5), results/stage1 to results/stage5" in done.stdout
    assert "--config stages=6" in done.stdout
    done = run_snakemake(tmp_path, "-n", "results/stage6/auc.csv", config=TINY | {"stages": 6})
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"^train +6$", done.stdout, flags=re.M)
    for target in ("results/stage0/auc.csv", f"{folder('ba', 0)}/auc.csv"):
        done = run_snakemake(tmp_path, "-n", target, config=TINY)
        assert done.returncode != 0
        assert "There is no stage 0: stages begin with 1" in done.stdout
