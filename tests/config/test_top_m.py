"""The methods of the second paper: every setting that the paper states, spelled out (§2-4)."""

import pytest

from asdpipe.config.checks import check
from asdpipe.config.reading import read_config
from tests.conftest import ROOT

CONFIG = read_config([ROOT / "config/top_m.yaml"], {"data_root": "x"})
PER_BACKBONE = {
    "beats": {"latent": "beats_frozen", "weights": "beats_iter3_plus_as2m", "spec_augment": False},
    "audio_mae": {"latent": "audio_mae_frozen", "weights": "audio_mae_pretraining", "spec_augment": True},
}
# Neither paper has these.
OTHERS = {"beats_trp_ps_ex", "ba_trp_topm", "beats_lora"}
FROZEN = {"beats_frozen", "audio_mae_frozen", "ced_frozen"}
METHODS = {f"topm_{backbone}_m{m}" for backbone in PER_BACKBONE for m in (1, 3, 5, 7, 10, 13, 15)}
KNOWN = {*METHODS, *FROZEN, *OTHERS, "audio_mae_pretraining"}


@pytest.mark.parametrize("backbone", PER_BACKBONE)
@pytest.mark.parametrize("m", [1, 3, 5, 7, 10, 13, 15])
def test_methods_have_the_papers_settings(backbone, m):
    method, of_backbone = CONFIG.resolve_method(f"topm_{backbone}_m{m}"), PER_BACKBONE[backbone]
    labels, candidates, training, network = method.labels, method.candidates, method.training, method.network
    assert (labels.m, labels.order) == (m, "ranked")
    assert (candidates.k1, candidates.k2, candidates.confidence) == (15, 15, 0.9)
    assert (candidates.strategy, candidates.latent) == ("auto", of_backbone["latent"])
    assert candidates.strategies == {
        "bearing": "sample",
        "slider": "sample",
        "ToyTrain": "sample",
        "fan": "cluster",
        "ToyCar": "cluster",
        "BandSealer": "direct",
    }
    assert (network.kind, network.weights) == (backbone, of_backbone["weights"])
    assert (network.layers, network.width, network.lora if backbone == "beats" else None) == (12, 768, None)
    assert (method.loss.kind, method.loss.spec_augment) == ("cross_entropy", of_backbone["spec_augment"])
    assert (training.kind, training.epochs, training.warm_up_epochs, training.batch_size) == ("fine_tune", 40, 4, 512)
    assert (training.learning_rate, training.scale_by_batch, training.weight_decay) == (2e-4, False, 1e-2)
    assert not (method.triplet.enabled or method.external.enabled or method.pseudo_labels.enabled)
    assert (method.inference.backend.kind, method.inference.backend.neighbours) == ("knn", 1)


def test_audio_mae_is_pre_trained_with_a_mask_of_80_percent_and_16_layers_of_decoder():
    method = CONFIG.resolve_method("audio_mae_pretraining")
    assert (method.network.kind, method.network.layers, method.network.decoder_layers) == ("masked_audio_mae", 12, 16)
    assert (method.loss.kind, method.loss.mask_ratio) == ("masked_reconstruction", 0.8)
    assert not method.uses_classes


def test_every_m_of_a_backbone_has_the_same_candidates_and_initial_weights():
    for backbone in PER_BACKBONE:
        owners = {CONFIG.owner_of_candidates(name) for name in METHODS if backbone in name}
        assert owners == {f"topm_{backbone}_m1"}


def test_frozen_networks_are_scored_without_training():
    for name in FROZEN:
        method = CONFIG.resolve_method(name)
        assert (method.training.trains, method.inference.backend.kind) == (False, "knn")


def test_the_paper_is_tested_on_2025_with_clips_that_fit_the_positions_of_audio_mae():
    dataset = CONFIG.resolve_dataset(CONFIG.dataset)
    assert (dataset.year, dataset.parts, dataset.clip_seconds, dataset.pool) == (2025, ("dev", "eval"), 10, None)
    for name in (*METHODS, *FROZEN, "audio_mae_pretraining"):
        assert CONFIG.resolve_method(name).network.misfit(dataset.num_samples) == ""


def test_all_years_can_be_trained_on():
    files = [ROOT / "config" / f"{name}.yaml" for name in ("top_m", "top_m_all_years")]
    config = read_config(files, {"data_root": "x"})
    dataset = config.resolve_dataset(config.dataset)
    assert dataset.datasets == tuple(f"dcase{year}" for year in range(2020, 2026))
    assert (dataset.tested, dataset.joined, dataset.clip_seconds) == (("dcase2025",), True, 10)
    strategies = CONFIG.resolve_method("topm_beats_m1").candidates.strategies
    for name in METHODS:
        assert config.resolve_method(name).candidates.strategies == strategies | {"AirCompressor": "cluster"}


@pytest.mark.parametrize(("base", "small"), [("config", "demo-top-m"), ("real-mini", "real-mini-top-m")])
def test_small_configurations_change_sizes_and_training_only(base, small):
    files = [ROOT / "config" / f"{name}.yaml" for name in (base, small)]
    config = read_config(files, {"data_root": "x"})
    check(config)
    dataset = config.resolve_dataset(config.dataset)
    for name in ("audio_mae_pretraining", "audio_mae_frozen", "audio_mae_random", "topm_cluster_m3"):
        method = config.resolve_method(name)
        assert not method.network.misfit(dataset.num_samples)
        assert (method.network.layers, method.network.width, method.inference.backend.kind) == (4, 192, "knn")
    assert config.resolve_method("audio_mae_random").network.pretrained is None
    assert config.resolve_method("topm_cluster_m3").network.pretrained == "audio_mae_pretraining"
    assert config.resolve_method("topm_cluster_m3").candidates.strategy == "cluster"
