"""The known methods are those of the paper's tables: every setting that tells them apart, spelled out."""

import pytest

from asdpipe.config.reading import read_config
from asdpipe.config.targets import targets
from asdpipe.method.data_size import Size, external_clips
from tests.config import test_top_m
from tests.conftest import ROOT

# Windows (ms), loss on every branch, triplet loss, external clips, pseudo-labels: paper §5.2, Tables 2, 3 and 5.
SYSTEMS = {
    "wilkinghoff": ((64,), False, False, False, False),
    "ba": ((256, 8), True, False, False, False),
    "ba_ex": ((256, 8), True, False, True, False),
    "ba_ps": ((256, 8), True, False, False, True),
    "ba_trp": ((256, 8), True, True, False, False),
    "ba_trp_ex": ((256, 8), True, True, True, False),
    "ba_trp_ps": ((256, 8), True, True, False, True),
    "ba_trp_ps_ex": ((256, 8), True, True, True, True),
}
# Table 4: N_max and how external clips are chosen; all else is Ba+Ex.
CHOICES = {
    "ba_ex": (1000, "score"),
    "ba_ex_500": (500, "score"),
    "ba_ex_2000": (2000, "score"),
    "ba_ex_random": (1000, "random"),
    "ba_ex_random_500": (500, "random"),
    "ba_ex_random_2000": (2000, "random"),
}
MARGIN = {"margin": 0.5, "scale": 30.0}
LOSSES = {
    "ba_arc_face": {"kind": "arc_face", **MARGIN},
    "ba_sub_center_arc_face": {"kind": "sub_center_arc_face", "subclusters": 3, **MARGIN},
    "ba_ada_proj": {"kind": "ada_proj", "subspace_dim": 32},
}
CONFIG = read_config([ROOT / "config/full.yaml"], {"data_root": "x"})


@pytest.mark.parametrize("labels", ["machine", "attribute"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_systems_have_the_papers_settings(name, labels):
    method = CONFIG.resolve_method(name if labels == "machine" else f"{name}_labelled")
    windows = tuple(window / 16 for window in method.network.windows)
    parts = (method.triplet.enabled, method.external.enabled, method.pseudo_labels.enabled)
    assert (windows, method.loss.branches, *parts) == SYSTEMS[name]
    kinds = (method.network.kind, method.loss.kind, method.training.kind, method.inference.backend.kind)
    assert kinds == ("multi_resolution", "subspace", "clips", "kmeans")
    assert (method.labels.kind, method.start_from) == (labels, None)
    # What all of them share (§5.2).
    training = method.training
    assert (training.epochs, training.learning_rate) == (50, 1e-3)
    assert training.source_per_batch + training.target_per_batch == 100
    assert (method.loss.subclusters, method.loss.feat_ex, method.inference.k_source) == (16, False, 16)
    assert (method.external.n_max, method.external.selection) == (1000, "score")
    assert (method.pseudo_labels.k_source, method.pseudo_labels.k_target) == (16, 4)
    assert (method.triplet.snr_db, method.triplet.semitones) == ((-5, 20), (6, 12))
    assert (method.triplet.tau, method.triplet.gamma) == (0.2, 0.5)


def test_table_4_of_the_demo_varies_what_its_clips_come_to_in_the_same_shares():
    demo = read_config([ROOT / "config/config.yaml"])
    clips = demo.datasets["demo"].demo
    of_all = external_clips(Size(clips.source_clips, clips.target_clips))
    for name, (of_paper, _) in CHOICES.items():
        n_max = demo.resolve_method(name).external.n_max
        assert n_max == ("auto" if of_paper == 1000 else of_paper * of_all // 1000)


@pytest.mark.parametrize("name", CHOICES)
def test_table_4_varies_how_many_external_clips_are_taken_and_how(name):
    method, ba_ex = CONFIG.resolve_method(name), CONFIG.resolve_method("ba_ex")
    assert (method.external.n_max, method.external.selection) == CHOICES[name]
    same = method.external.model_copy(update={"n_max": 1000, "selection": "score"})
    assert method.model_copy(update={"external": same, "parent": ba_ex.parent}) == ba_ex


@pytest.mark.parametrize(
    ("name", "stage2", "stage1"),
    [("ba_ps_from_ba_trp", "ba_ps", "ba_trp"), ("ba_trp_ps_from_ba", "ba_trp_ps", "ba")],
)
def test_table_5_swaps_stage_1_and_nothing_else(name, stage2, stage1):
    method, own = CONFIG.resolve_method(name), CONFIG.resolve_method(stage2)
    assert method.start_from == stage1
    assert method.model_copy(update={"start_from": None, "parent": own.parent}) == own


def test_there_are_no_other_methods_than_these_and_the_baselines():
    others = {"raw_logmel", "autoencoder", "autoencoder_mahalanobis", "ba_ps_from_ba_trp", "ba_trp_ps_from_ba"}
    others.add("ba_trp_ps_ex_log_mel")
    labelled = {f"{name}_labelled" for name in SYSTEMS}
    assert set(CONFIG.methods) == {*SYSTEMS, *labelled, *CHOICES, *others, *LOSSES, *test_top_m.KNOWN}


@pytest.mark.parametrize("name", LOSSES)
def test_other_losses_are_used_in_ba_with_the_values_of_their_papers(name):
    method, ba = CONFIG.resolve_method(name), CONFIG.resolve_method("ba")
    assert method.loss.model_dump() == LOSSES[name]
    assert method.model_copy(update={"loss": ba.loss, "parent": None}) == ba


def test_the_autoencoder_has_the_baselines_settings():
    simple, selective = (CONFIG.resolve_method(name) for name in ("autoencoder", "autoencoder_mahalanobis"))
    settings = simple.training
    assert (settings.epochs, settings.batch_size, settings.learning_rate, settings.validation) == (100, 256, 1e-3, 0.1)
    assert (simple.network.kind, settings.kind) == ("autoencoder", "frames")
    assert selective.training_settings() == simple.training_settings()
    backends = [method.inference.backend.kind for method in (simple, selective)]
    assert backends == ["reconstruction", "mahalanobis"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ba", {"classes.MachineLabels", "objectives.SubspaceObjective", "objectives.TripletObjective"}),
        ("autoencoder", {"classes.MachineLabels", "objectives.ReconstructionObjective"}),
        ("raw_logmel", set()),
    ],
)
def test_the_code_of_a_training_includes_the_classes_that_its_settings_build(name, expected):
    found = targets(CONFIG.resolve_method(name).training_settings().model_dump(mode="json"))
    assert {target.removeprefix("asdpipe.method.") for target in found if ".method." in target} == expected
