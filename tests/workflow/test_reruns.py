"""What a change runs again, job by job: plans of the real ``snakemake -n`` on results that count as made.

docs/operations.md has the same as a table.
"""

import copy
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, TINY, run_snakemake
from tests.workflow.plans import of, planned

LAST = 3
# Stage 1 is the one of the method that trains it.
FIRST = "tiny/ba_trp/seed0/stage1"
STAGE = {stage: f"tiny/ba_trp_ps_ex/seed0/stage{stage}" for stage in range(1, LAST + 1)}
TARGETS = (f"results/stage{LAST}/auc.csv", f"results/stage{LAST}/scores.csv")
GROWN = [f"results/grown/ba_trp_ps_ex/seed0/stage{stage}/auc.csv" for stage in STAGE]
CONFIG = TINY | {"datasets": TINY["datasets"] | {"grown": {"format": "dcase", "root": "recordings", "pool": "tiny"}}}


def changed(seeds: Iterable[int] = (0,), **sections: dict) -> dict:
    config = copy.deepcopy(CONFIG) | {"seeds": list(seeds)}
    for name, values in sections.items():
        config[name] = {**config[name], **values}
    return config


def record(folder: Path, machine: str) -> None:
    """Add a machine type's recordings; nothing here reads them."""
    file = folder / "recordings" / machine / "train/section_00_source_train_normal_0000.wav"
    file.parent.mkdir(parents=True)
    file.touch()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All results, as empty files, on record as made with CONFIG."""
    folder = tmp_path_factory.mktemp("made")
    record(folder, "fan")
    record(folder, "pump")
    listed = run_snakemake(folder, "--summary", *TARGETS, *GROWN, config=CONFIG).stdout
    for file in re.findall(r"^(results/\S+)\t", listed, flags=re.M):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        if file.endswith("/recordings"):
            (folder / file).mkdir()
        else:
            (folder / file).touch()
    done = run_snakemake(folder, "--touch", "--forceall", *TARGETS, *GROWN, config=CONFIG)
    assert done.returncode == 0, done.stdout
    assert "don't exist" not in done.stdout
    return folder


# Stage by stage; stage 1 is made in the folder of the method that owns it.
EMBEDDED = ("embed_train", "embed_test")
EXTERNAL = ("score_external_0", "score_external_1")
MODEL_1 = of(FIRST, "train", *EMBEDDED)
REPRESENTED_1 = of(FIRST, "represent", *EXTERNAL)
SCORED_1 = of(FIRST, "score")
CLUSTERS_1 = of(STAGE[1], "pseudo_label")
SELECTED_1 = of(STAGE[1], "select")
MODELS = of(STAGE[2], "train", *EMBEDDED) | of(STAGE[3], "train", *EMBEDDED)
REPRESENTED = of(STAGE[2], "represent", *EXTERNAL) | of(STAGE[3], "represent")
SCORED = of(STAGE[2], "score") | of(STAGE[3], "score")
CLUSTERS_2 = of(STAGE[2], "pseudo_label")
SELECTED_2 = of(STAGE[2], "select")
REPORTED_1 = {f"{STAGE[1]}/evaluate", "stage1/summarize"}
REPORTED = {f"{STAGE[2]}/evaluate", f"{STAGE[3]}/evaluate", "stage2/summarize", "stage3/summarize"}
STAGE_1 = MODEL_1 | REPRESENTED_1 | SCORED_1 | CLUSTERS_1 | SELECTED_1 | REPORTED_1
LATER = MODELS | REPRESENTED | SCORED | CLUSTERS_2 | SELECTED_2 | REPORTED
METRIC = REPORTED_1 | REPORTED | {"tiny/raw_logmel/seed0/stage1/evaluate"}


@pytest.mark.parametrize(
    ("change", "again"),
    [
        pytest.param({}, set(), id="nothing"),
        pytest.param({"external": {"n_max": 2}}, SELECTED_1 | LATER, id="n_max"),
        pytest.param({"external": {"n_max": "auto"}}, SELECTED_1 | LATER, id="n_max auto"),
        pytest.param({"external": {"assign": "rarest"}}, SELECTED_1 | LATER, id="assign"),
        # At random no score of a pool clip is needed.
        pytest.param(
            {"external": {"selection": "random"}}, (SELECTED_1 | LATER) - of(STAGE[2], *EXTERNAL), id="selection"
        ),
        pytest.param({"pseudo_labels": {"k_source": 1}}, CLUSTERS_1 | LATER, id="clusters"),
        pytest.param(
            {"inference": {"k_source": 2}},
            REPRESENTED_1 | SCORED_1 | SELECTED_1 | REPORTED_1 | LATER,
            id="representatives",
        ),
        pytest.param({"inference": {"backend": "knn"}}, SCORED_1 | SCORED | REPORTED_1 | REPORTED, id="back end"),
        pytest.param({"training": {"epochs": 2}}, STAGE_1 | LATER, id="training"),
        pytest.param({"training": {"epochs": "auto"}}, STAGE_1 | LATER, id="training auto"),
    ],
)
def test_a_changed_setting_runs_again_what_depends_on_it_and_nothing_else(made, change, again):
    assert planned(made, *TARGETS, config=changed(**change)) == again


def test_a_changed_metric_computes_the_auc_again_and_nothing_else(made):
    config = changed()
    config["datasets"]["tiny"]["scoring"] = "dcase2021"
    assert planned(made, *TARGETS, config=config) == METRIC


def test_a_seed_more_runs_that_seed(made):
    jobs = planned(made, *TARGETS, config=changed(seeds=[0, 1]))
    of_all_seeds = {job for job in STAGE_1 | LATER if "seed" not in job}
    of_this = {job.replace("seed0", "seed1") for job in (STAGE_1 | LATER) - of_all_seeds}
    assert jobs == of_this | of_all_seeds


def test_layout_order_comments_and_settings_of_others_change_nothing(made):
    config = {key: CONFIG[key] for key in reversed(CONFIG)}
    for section in ("training", "network", "external", "pseudo_labels", "datasets", "pools"):
        config[section] = dict(reversed(CONFIG[section].items()))
    data = CONFIG["datasets"]["tiny"]
    config["datasets"]["tiny"] = dict(reversed(data.items())) | {"machines": data["machines"][::-1]}
    # Where and how much is run, and definitions that nothing here uses.
    config |= {
        "device": "auto",
        "torch_compile": True,
        "stages": 7,
        "tables": {"methods": ["ba"]},
    }
    config["methods"] = {
        "autoencoder": {"training": {"epochs": 9}},
        "mine": {"parent": "ba", "training": {"epochs": 3}},
    }
    config["datasets"]["other"] = {"format": "demo", "machines": ["fan"]}
    config["datasets"]["grown"] = CONFIG["datasets"]["grown"] | {"machines": ["fan"]}
    text = "# A comment.\n" + yaml.safe_dump(config, sort_keys=False).replace("\n", "  # Another.\n")
    assert yaml.safe_load(text) == config
    assert not planned(made, *TARGETS, config=text)


def test_another_machines_recordings_run_all_of_their_data_set_and_no_other(made, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    record(folder, "valve")
    stages = {job.replace("tiny/", "grown/") for job in STAGE_1 | LATER if job.startswith("tiny/")}
    again = planned(folder, *GROWN, *TARGETS, config=CONFIG)
    # It has no test clips, and the others' are those that they were.
    assert again == stages | of("data/grown/train", "list_clips", "pack_clips") | of("data/grown", "label_clips")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the workflow and the package."""
    for name in ("workflow", "config", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_changed_code_runs_the_steps_that_use_it_and_text_does_not(made, tree):
    def add(text: str, *files: str) -> None:
        for file in files:
            path = tree / "src/asdpipe" / file
            path.write_text(text + path.read_text())

    def replace(file: str, old: str, new: str) -> None:
        text = (tree / "src/asdpipe" / file).read_text()
        assert old in text
        (tree / "src/asdpipe" / file).write_text(text.replace(old, new))

    # Comments and docstrings everywhere; code where no step of this target uses it, or where it decides no result.
    add('# A comment.\n"""Another docstring."""\n', "steps/train.py", "training/fit.py", "data/waveforms.py")
    add("UNUSED = 1\n", "steps/write_submission.py", "models/autoencoder.py", "data/download/fetch.py")
    add("UNUSED = 1\n", "cli.py", "plan.py", "provenance/explain.py", "config/method.py", "progress.py")
    add("UNUSED = 1\n", "artifacts/tables.py", "method/losses.py", "method/augment.py", "method/metrics.py")
    add("class Unused:\n    pass\n\n\n", "method/objectives.py", "method/scorers.py", "data/clips.py")
    assert not planned(made, *TARGETS, config=CONFIG, tree=tree)
    replace("method/metrics.py", "MAX_FPR = 0.1", "MAX_FPR = 0.2")
    assert planned(made, *TARGETS, config=CONFIG, tree=tree) == METRIC
    replace("method/pseudo_labels.py", "if len(centroids) < k", "if len(centroids) <= k")
    assert planned(made, *TARGETS, config=CONFIG, tree=tree) == METRIC | CLUSTERS_1 | LATER
    replace("data/pools/files.py", "hashlib.sha256(text)", "hashlib.sha512(text)")
    replace("data/packing.py", "MOST_LISTED = 20", "MOST_LISTED = 21")
    assert not planned(made, *TARGETS, config=CONFIG | {"track_code": False}, tree=tree)
