"""Top-M pseudo-labels on the real workflow: what methods share, what a change runs again, and one small run."""

import copy
import json
from pathlib import Path

import pandas as pd
import pytest

from asdpipe.artifacts.files import file_digest
from asdpipe.artifacts.tables import read_table
from asdpipe.config.reading import load_config
from asdpipe.errors import UserError
from tests.conftest import TINY, run_snakemake
from tests.models.checkpoints import NETWORKS, official_beats, saved
from tests.workflow.plans import of, planned

SMALL = {"frames": 112, "layers": 2, "width": 16, "heads": 2}
BEATS = {name: size for name, size in NETWORKS["beats"].items() if name in ("layers", "width", "ffn", "heads")}
TRAINING = {"epochs": 2, "batch_size": 8, "micro_batch": 4, "warm_up_epochs": 1}
CONFIG = TINY | {
    "datasets": {"tiny": TINY["datasets"]["tiny"] | {"machines": ["fan", "valve"]}},
    "methods": {
        "audio_mae_pretraining": {
            "network": SMALL | {"decoder_layers": 1, "decoder_width": 16, "decoder_heads": 2},
            "training": TRAINING,
        },
        "audio_mae_frozen": {"network": SMALL},
        "topm_audio_mae_m1": {
            "network": SMALL,
            "training": TRAINING,
            # Seven training clips per machine type.
            "labels": {"candidates": {"k1": 4, "k2": 4}},
        },
        "new_scorer": {"parent": "topm_audio_mae_m3", "inference": {"backend": "shrinkage_mahalanobis"}},
    },
}
EMBEDDED = ("embed_train", "embed_test")
M1, M3 = "tiny/topm_audio_mae_m1/seed0", "tiny/topm_audio_mae_m3/seed0"
TARGETS = tuple(f"results/{folder}/stage1/auc.csv" for folder in (M1, M3))
STAGE = ("train", *EMBEDDED, "score", "evaluate")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results for M = 1 and 3."""
    folder = tmp_path_factory.mktemp("top_m")
    done = run_snakemake(folder, *TARGETS, config=CONFIG)
    assert done.returncode == 0, done.stdout
    return folder


def test_candidates_and_pre_training_are_made_once(tmp_path):
    jobs = planned(tmp_path, *TARGETS, config=CONFIG)
    assert {job for job in jobs if not job.startswith("data/")} == (
        of("tiny/audio_mae_pretraining/seed0/stage1", "train")
        | of("tiny/audio_mae_frozen/seed0/stage1", "embed_train")
        | of(f"{M1}/stage0", "rank_labels")
        | of(f"{M1}/stage1", *STAGE)
        | of(f"{M3}/stage1", *STAGE)
    )


@pytest.mark.parametrize(
    ("targets", "methods", "again"),
    [
        pytest.param(TARGETS, {}, set(), id="nothing"),
        pytest.param(
            ["results/tiny/topm_audio_mae_m15/seed0/stage1/auc.csv"],
            {},
            of("tiny/topm_audio_mae_m15/seed0/stage1", *STAGE),
            id="another M",
        ),
        pytest.param(
            ["results/tiny/new_scorer/seed0/stage1/auc.csv"],
            {},
            of("tiny/new_scorer/seed0/stage1", "score", "evaluate"),
            id="another back end",
        ),
        pytest.param(
            TARGETS,
            {"topm_audio_mae_m1": {"labels": {"candidates": {"k1": 4, "k2": 3}}}},
            of(f"{M1}/stage0", "rank_labels") | of(f"{M1}/stage1", *STAGE) | of(f"{M3}/stage1", *STAGE),
            id="other candidates",
        ),
        pytest.param(
            TARGETS,
            {"topm_audio_mae_m3": {"labels": {"order": "sorted"}}},
            of(f"{M3}/stage1", *STAGE),
            id="order",
        ),
        # Neither the pre-training nor the embeddings of the network without training.
        pytest.param(
            [target.replace("seed0", "seed1") for target in TARGETS],
            {},
            of("tiny/topm_audio_mae_m1/seed1/stage0", "rank_labels")
            | of("tiny/topm_audio_mae_m1/seed1/stage1", *STAGE)
            | of("tiny/topm_audio_mae_m3/seed1/stage1", *STAGE),
            id="another seed",
        ),
    ],
)
def test_a_change_runs_again_what_depends_on_it(ran, targets, methods, again):
    config = copy.deepcopy(CONFIG)
    for name, settings in methods.items():
        config["methods"][name] = config["methods"].get(name, {}) | settings
    assert planned(ran, *targets, config=config) == again


def test_classes_are_the_best_candidates(ran):
    candidates = read_table("pseudo_labels", ran / f"results/{M1}/stage0/pseudo_labels.parquet")
    assert (
        candidates.groupby("clip_id")["rank"].apply(list).map(lambda ranks: ranks == [*range(1, len(ranks) + 1)]).all()
    )
    for folder, m in ((M1, 1), (M3, 3)):
        labels = read_table("labels", ran / f"results/{folder}/stage1/labels.parquet")
        best = candidates[candidates["rank"] <= m].sort_values("rank").groupby("clip_id").label.agg("_".join)
        expected = labels.machine + "_" + labels.clip_id.map(best)
        pd.testing.assert_series_equal(labels.class_name, expected, check_names=False)
        # Names are as different as classes here.
        assert labels.groupby("class_name").class_index.nunique().eq(1).all()


def test_the_training_starts_from_the_pre_trained_model(ran):
    digest = file_digest(ran / "results/tiny/audio_mae_pretraining/seed0/stage1/model.safetensors")
    assert json.loads((ran / f"results/{M3}/stage1/model.json").read_text())["pretrained_sha256"] == digest
    history = pd.read_csv(ran / "results/tiny/audio_mae_pretraining/seed0/stage1/training.csv")
    # Targets are normalised per patch: 1 is the loss of a constant prediction.
    assert history.reconstruction_loss.between(0.5, 3).all()
    assert pd.read_csv(ran / f"results/{M3}/stage1/auc.csv").auc.between(0, 100).all()


def test_beats_starts_from_a_checkpoint_and_is_iterated_like_the_first_papers_network(tmp_path):
    file = saved(official_beats(), tmp_path / "BEATs.pt")
    network = {"kind": "beats", "weights": "mine", **BEATS}
    patch = {"patch_width": NETWORKS["beats"]["patch_width"]}
    iterated = {"network": network | patch, "training": {"kind": "fine_tune", **TRAINING}}
    config = CONFIG | {
        "checkpoints": {"mine": {"layout": "beats", "file": str(file)}},
        "methods": {"beats_trp_ps_ex": iterated},
    }
    jobs = planned(tmp_path, "results/tiny/beats_trp_ps_ex/seed0/stage2/auc.csv", config=config)
    first, second = (f"tiny/beats_trp_ps_ex/seed0/stage{stage}" for stage in (1, 2))
    assert {job for job in jobs if not job.startswith(("data/", "external/"))} == (
        of("checkpoints/mine", "import_checkpoint")
        | of(
            first, "train", "embed_train", "represent", "score_external_0", "score_external_1", "select", "pseudo_label"
        )
        | of(second, "train", *EMBEDDED, "represent", "score", "evaluate")
    )


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ({"parent": "topm_beats_m1", "network": {"weights": "nowhere"}}, "no checkpoint and no method 'nowhere'"),
        ({"parent": "topm_beats_m1", "network": {"weights": "raw_logmel"}}, "raw_logmel is not trained"),
        ({"parent": "topm_beats_m1", "network": {"weights": "ced_tiny"}}, "it has weights of ced"),
        ({"parent": "topm_beats_m1", "network": {"weights": "x"}}, "in a circle: x -> x"),
        ({"parent": "ba_trp_topm", "labels": {"candidates": {"latent": "nothing"}}}, "there is no method 'nothing'"),
        ({"parent": "ba_trp_topm", "labels": {"candidates": {"latent": "x"}}}, "in a circle: x -> x"),
    ],
)
def test_impossible_weights_and_latent_spaces_are_refused(method, expected):
    with pytest.raises(UserError, match=expected) as error:
        load_config(TINY | {"method": "x", "methods": {"x": method}})
    assert "methods.x" in str(error.value)
