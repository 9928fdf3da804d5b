"""The configuration: defaults are the paper's, wrong keys are named with their file and the nearest known key."""

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
from tests.conftest import ROOT, TINY, run_snakemake


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


@pytest.mark.parametrize("name", ["config", "real-mini", "full", "own"])
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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trainning": {}}, ["unknown key 'trainning'", "did you mean 'training'"]),
        ({"training": {"epoch": 3}}, ["unknown key 'training.epoch'", "did you mean 'training.epochs'"]),
        ({"datasets": {"tiny": {"format": "demo", "clip_second": 2}}}, ["datasets.tiny.clip_seconds"]),
        ({"methods": {"mine": {"triplet": {"gama": 1}}}}, ["methods.mine.triplet.gamma"]),
        ({"external": {"n_max": -1}}, ["external.n_max = -1", "greater than or equal to 0"]),
        ({"training": {"learning_rate": "fast"}}, ["training.learning_rate = 'fast'"]),
        ({"device": "tpu"}, ["device = 'tpu'", "cpu"]),
        ({"dataset": "other"}, ["there is no data set 'other'", "tiny"]),
        ({"method": "ba_trp_ps_xe"}, ["there is no method 'ba_trp_ps_xe'", "ba_trp_ps_ex"]),
        ({"methods": {"mine": {"start_from": "nobody"}}}, ["methods.mine.start_from", "nobody"]),
        ({"methods": {"mine": {"start_from": "ba_trp_ps_from_ba"}}}, ["no stage 1 of its own"]),
        ({"methods": {"mine": {"start_from": "mine"}}}, ["no stage 1 of its own"]),
        ({"methods": {"mine": {"start_from": "raw_logmel"}}}, ["methods.mine.start_from", "raw_logmel has none"]),
        ({"methods": {"mine": {"parent": "nobody"}}}, ["methods.mine.parent: there is no method 'nobody'", "ba_trp"]),
        ({"methods": {"a": {"parent": "b"}, "b": {"parent": "a"}}}, ["circle: a -> b -> a", "remove one"]),
        ({"methods": {"mine": {"parent": "mine"}}}, ["circle: mine -> mine"]),
        ({"external": {"enabled": False}}, ["external.enabled: false has no effect", "methods.ba_trp_ps_ex.external"]),
        ({"stages": 0}, ["stages = 0", "greater than or equal to 1"]),
        ({"tables": {"datasets": ["dcase2022", "dcase3"]}}, ["tables.datasets: there is no data set 'dcase3'", "tiny"]),
        ({"tables": {"methods": ["bar"]}}, ["tables.methods: there is no method 'bar'", "ba_trp"]),
        ({"network": {"width": 12}}, ["network.width = 12", "multiple of 8"]),
        ({"network": {"windows": [511]}}, ["network.windows", "even"]),
        (
            {"network": {"dft_kernels": [256, 64, 16], "dft_strides": [64, 32, 4]}},
            ["too short for the DFT branch", "network.dft_kernels"],
        ),
        ({"triplet": {"snr_db": [20, -5]}}, ["triplet", "[lowest, highest]"]),
        ({"seeds": []}, ["seeds"]),
        ({"datasets": {"stage1": {"format": "demo"}, **TINY["datasets"]}}, ["datasets.stage1", "another name"]),
        ({"datasets": {"dcase2023": {"machines": ["pump"]}}}, ["DCASE 2023 has no machine type pump; it has", "fan"]),
        ({"datasets": {"dcase2023": {"machines": ["fan"], "parts": ["eval"]}}}, ["no machine type fan", "bandsaw"]),
        ({"datasets": {"dcase2019": {"format": "dcase", "year": 2019}}}, ["datasets.dcase2019.year = 2019", "2020"]),
        ({"datasets": {"mine": {"format": "dcase", "download": True}}}, ["download needs the year"]),
        ({"datasets": {"mine": {"format": "folder", "year": 2023}}}, ["for format: dcase, not folder"]),
        (
            {
                "datasets": {"tiny": {**TINY["datasets"]["tiny"], "pool": None}},
                "external": {"first_stage": "random"},
            },
            ["external.first_stage: random needs an external pool"],
        ),
    ],
)
def test_wrong_values_are_named_with_file_reason_and_way_out(tmp_path, change, words):
    file = tmp_path / "mine.yaml"
    base = {**TINY, "network": {**TINY["network"], **change.get("network", {})}}
    file.write_text(yaml.safe_dump({**base, **{key: value for key, value in change.items() if key != "network"}}))
    with pytest.raises(UserError) as error:
        read_config([file])
    for word in words:
        assert word in str(error.value)
    if "=" in words[0] or "unknown" in words[0]:
        assert str(file) in str(error.value)


def test_the_dft_branch_needs_4_4_seconds_with_the_papers_kernels():
    full = {"dataset": "d", "datasets": {"d": {"format": "demo", "clip_seconds": 4.4}}}
    load_config(full)
    full["datasets"]["d"]["clip_seconds"] = 4.3
    with pytest.raises(UserError, match=r"clip_seconds = 4.3 s is too short"):
        load_config(full)


def test_missing_data_root_says_what_to_add():
    with pytest.raises(UserError, match=r"--config data_root=FOLDER"):
        read_config([ROOT / "config/real-mini.yaml"])


def test_files_that_are_no_config(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_config([tmp_path / "none.yaml"])
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(UserError, match="not valid YAML"):
        read_config([broken])


# Nine times nine times nine ... of one value.
ALIASES = b"\n".join(
    [b"a0: &a0 [1]", *(b"a%d: &a%d [%s]" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 9))]
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"\xff\xfe", "not valid YAML"),
        (b"dataset: 2026-02-30", "not valid YAML"),
        (b"- dataset", "must be a mapping"),
        (b"dataset: !!python/object/apply:os.getcwd []", "not valid YAML"),
        (b"{a: " * 5000, "not valid YAML|nested too deeply"),
        (b"a: &a {a: *a}", "nested too deeply|more than 100000 values"),
        (ALIASES, "more than 100000 values"),
        (b"dataset: " + b"x" * 10**6 + b"\nseeds: " + b"y" * 10**6, "seeds = 'y+...y+'"),
        (b"dataset: tiny\ntriplet: {snr_db: [.nan, 1]}", "triplet.snr_db.0.* finite"),
        (b"dataset: tiny\ntraining: {learning_rate: .inf}", "training.learning_rate.* finite"),
        (b"dataset: root\ndatasets: {root: {format: demo, rot: 1}}", "unknown key 'datasets.root.rot'; did you mean"),
        (b"dataset: p\npools: {p: {format: demo, shards: 1000000000}}", "pools.p.shards = 1000000000"),
        (b"{1: 2, null: 3}", "1"),
    ],
)
def test_strange_yaml_ends_in_a_short_message(tmp_path, text, words):
    file = tmp_path / "strange.yaml"
    file.write_bytes(text)
    with pytest.raises(UserError, match=words) as error:
        read_config([file])
    assert len(str(error.value)) < 2000


def test_snakemake_shows_the_message_without_traceback(tmp_path):
    done = run_snakemake(tmp_path, "-n", config=TINY | {"trainings": {"epochs": 3}})
    assert done.returncode != 0
    assert "unknown key 'trainings'; did you mean 'training'?" in done.stdout
    assert str(tmp_path / "config.yaml") in done.stdout
    assert "Traceback" not in done.stdout


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
