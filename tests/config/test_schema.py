"""The configuration: defaults are the paper's, methods inherit from their parents."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from asdpipe.config.base import canonical_json
from asdpipe.config.reading import load_config, read_config
from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.errors import UserError
from asdpipe.models import multi_resolution as network
from tests.conftest import ROOT, TINY


def test_defaults_are_the_papers_values():
    method = read_config([ROOT / "config/full.yaml"], {"data_root": "x"}).resolve_method("ba_trp_ps_ex")
    assert (method.network.width, method.network.windows, method.network.f_min) == (128, (4096, 128), 200)
    assert (method.network.dft_kernels, method.network.dft_strides) == ((256, 64, 16), (64, 32, 4))
    assert (method.training.epochs, method.training.source_per_batch, method.training.target_per_batch) == (50, 80, 20)
    assert (method.training.learning_rate, method.training.weight_decay) == (1e-3, 0.01)
    assert (method.loss.subclusters, method.loss.scale, method.loss.mixup_probability) == (16, "fixed", 0.5)
    assert (method.triplet.tau, method.triplet.gamma, method.triplet.snr_db) == (0.2, 0.5, (-5, 20))
    assert (method.triplet.semitones, method.triplet.margin) == ((6, 12), "gamma_plus_one")
    assert (method.triplet.noise_from, method.triplet.reduction) == ("other_machine", "mean")
    assert (method.inference.k_source, method.external.n_max, method.external.assign) == (16, 1000, "most_similar")
    assert (method.pseudo_labels.k_source, method.pseudo_labels.k_target) == (16, 4)


def test_wilkinghoffs_system_has_two_branches_and_one_loss_with_fixed_sub_clusters():
    config = read_config([ROOT / "config/full.yaml"], {"data_root": "x"})
    method = config.resolve_method("wilkinghoff")
    # A window of 64 ms, beside the DFT branch.
    assert method.network.windows == (1024,)
    assert (method.loss.branches, method.loss.feat_ex, method.loss.subclusters) == (False, False, 16)
    assert not (method.triplet.enabled or method.external.enabled or method.pseudo_labels.enabled)
    assert method.training == config.resolve_method("ba_trp").training


def test_full_size_is_18_seconds_and_five_seeds():
    config = read_config([ROOT / "config/full.yaml"], {"data_root": "x"})
    assert config.resolve_dataset(config.dataset).num_samples == 18 * 16_000
    assert len(config.seeds) == 5
    assert config.stages == 5


@pytest.mark.parametrize("name", ["config", "real-mini", "full", "own", "top_m"])
def test_shipped_files_are_valid(name):
    read_config([ROOT / f"config/{name}.yaml"], {"data_root": "somewhere"})


def test_the_years_of_dcase_are_known_with_their_clip_lengths_and_scores():
    config = load_config(TINY)
    found = {year: config.resolve_dataset(f"dcase{year}") for year in range(2020, 2026)}
    assert [each.clip_seconds for each in found.values()] == [10, 10, 10, 18, 12, 12]
    assert [each.official for each in found.values()] == ["dcase2020", "dcase2021", *["dcase2022"] * 4]
    # Fetched unless a root says that they are there.
    assert {(each.root, each.download) for each in found.values()} == {
        (f"downloads/dcase{year}", True) for year in range(2020, 2026)
    }
    there = load_config(TINY | {"datasets": {**TINY["datasets"], "dcase2023": {"root": "x", "clip_seconds": 6}}})
    dataset = there.resolve_dataset("dcase2023")
    assert (dataset.root, dataset.download, dataset.year, dataset.clip_seconds) == ("x", False, 2023, 6)


def test_a_union_has_the_score_of_the_years_that_it_tests():
    years = ["dcase2020", "dcase2021", "dcase2025"]

    def official(**keys):
        union = {"format": "union", "datasets": years, "clip_seconds": 10, **keys}
        return load_config(TINY | {"datasets": {**TINY["datasets"], "all": union}}).resolve_dataset("all").official

    assert [official(tested=[year]) for year in years] == ["dcase2020", "dcase2021", "dcase2022"]
    # Years that differ: that of the newest.
    assert official() == official(tested=years[:2]) == "dcase2022"
    assert official(tested=years[:1], scoring="dcase2022") == "dcase2022"


def test_a_method_overrides_only_what_it_names():
    config = load_config(
        TINY | {"methods": {"mine": {"training": {"epochs": 7}}, "ba_trp_ps_ex": {"labels": "attribute"}}}
    )
    mine = config.resolve_method("mine").training
    assert (mine.epochs, mine.source_per_batch) == (7, TINY["training"]["source_per_batch"])
    assert config.resolve_method("ba_trp_ps_ex").external.enabled


def test_a_method_starts_with_its_parents_settings():
    methods = {
        "mine": {"parent": "ba_trp_ps", "training": {"epochs": 7}},
        "its_child": {"parent": "mine", "pseudo_labels": {"k_source": 5}, "training": {"learning_rate": 0.5}},
    }
    config = load_config(TINY | {"methods": methods})
    assert config.lineage("its_child") == ["its_child", "mine", "ba_trp_ps", "ba_trp", "ba"]
    child = config.resolve_method("its_child")
    assert (child.training.epochs, child.training.learning_rate, child.training.source_per_batch) == (7, 0.5, 16)
    assert (child.triplet.enabled, child.external.enabled, child.pseudo_labels.enabled) == (True, False, True)
    assert (child.pseudo_labels.k_source, child.pseudo_labels.k_target) == (5, TINY["pseudo_labels"]["k_target"])
    # Another loss, another stage 1: each of them trains its own.
    assert [config.owner_of_first_model(name) for name in methods] == ["mine", "its_child"]


def test_stage_1_is_shared_by_methods_that_start_alike_and_by_no_others():
    config = load_config(TINY | {"methods": {"knn": {"parent": "ba_trp_ps_ex", "inference": {"backend": "knn"}}}})
    owners = {name: config.owner_of_first_model(name) for name in config.methods}
    shared = {
        "ba": ["ba_ex", "ba_ps", "ba_ex_500", "ba_ex_2000", "ba_ex_random", "ba_ex_random_500", "ba_ex_random_2000"],
        "ba_trp": ["ba_trp_ex", "ba_trp_ps", "ba_trp_ps_ex", "ba_ps_from_ba_trp", "knn"],
        "ba_labelled": ["ba_ex_labelled", "ba_ps_labelled"],
        "ba_trp_labelled": ["ba_trp_ex_labelled", "ba_trp_ps_labelled", "ba_trp_ps_ex_labelled"],
        "autoencoder": ["autoencoder_mahalanobis"],
    }
    shared["ba"].append("ba_trp_ps_from_ba")
    assert owners == {name: name for name in config.methods} | {
        name: owner for owner, names in shared.items() for name in names
    }
    # All stages are shared by methods that only score otherwise.
    models = {name: config.owner_of_models(name) for name in config.methods}
    rescored = {"knn": "ba_trp_ps_ex", "autoencoder_mahalanobis": "autoencoder"}
    assert {name: owner for name, owner in models.items() if owner != name} == rescored


def test_a_changed_loss_is_not_taken_from_another_methods_stage_1():
    changed = load_config(TINY | {"methods": {"ba_trp_ps_ex": {"triplet": {"tau": 0.5}}}})
    assert changed.owner_of_first_model("ba_trp_ps_ex") == "ba_trp_ps_ex"
    assert changed.owner_of_first_model("ba_trp_ps") == "ba_trp"
    # Stage 1 with random external clips differs from one without, and by their number.
    drawn = load_config(TINY | {"external": {"first_stage": "random"}})
    assert [drawn.owner_of_first_model(name) for name in ("ba_ex", "ba_ex_500", "ba_ps")] == [
        "ba_ex",
        "ba_ex_500",
        "ba",
    ]


def test_canonical_json_does_not_depend_on_order():
    assert canonical_json({"a": 1, "b": {"c": 2, "d": 3}}) == canonical_json({"b": {"d": 3, "c": 2}, "a": 1})


def test_the_dft_branch_needs_4_4_seconds_with_the_papers_kernels():
    full = {"dataset": "d", "datasets": {"d": {"format": "demo", "clip_seconds": 4.4}}}
    load_config(full)
    full["datasets"]["d"]["clip_seconds"] = 4.3
    with pytest.raises(UserError, match=r"clip_seconds = 4.3 s, method ba_trp_ps_ex: clips are too short"):
        load_config(full)


def test_generated_documents_are_up_to_date():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/write_docs.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_schema_describes_every_key():
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    models = [schema, *schema["$defs"].values()]
    fields = [(name, field) for model in models for name, field in model.get("properties", {}).items()]
    assert len(fields) > 50
    missing = [name for name, field in fields if "description" not in field and "$ref" not in field]
    assert not missing
    assert Path(ROOT / "config/README.md").read_text().count("| `") > 50


def test_the_method_and_the_config_mean_the_same_sample_rate():
    assert network.SAMPLE_RATE == SAMPLE_RATE == 16_000
