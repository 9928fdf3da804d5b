"""Candidate labels of small machine types: one for each strategy, and what is wrong with some."""

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.base import as_json
from asdpipe.config.labels import Candidates
from asdpipe.config.method import RankLabelsSettings
from asdpipe.errors import UserError
from asdpipe.method import candidates as method
from asdpipe.method.candidates import rank_by_clusters, rank_by_neighbours
from asdpipe.method.classes import TopMLabels
from asdpipe.models.mfcc import MfccStatistics
from asdpipe.steps.rank_labels import rank_labels
from asdpipe.steps.unite_clips import unite_clips
from asdpipe.training.labels import assemble_labels
from tests.conftest import read_facts

SAMPLES = 2000
LABELS: dict[str, list[str | None]] = {
    # Few and consistent: sample. Many: cluster.
    "bearing": ["vel_1", "vel_2"] * 8,
    "fan": [f"m-n_{number}" for number in range(16)],
    # None, and some: attributes in one year only.
    "pump": [None] * 16,
    "ToyCar": [None] * 8 + ["car_A", "car_B"] * 4,
}


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    monkeypatch.setattr(method, "TREES", 30)


def write_inputs(folder: Path, labels: dict[str, list[str | None]], sections: int = 1) -> dict[str, Path]:
    """Write manifest, packed noise and latent embeddings of training clips."""
    rows = [(machine, label) for machine, given in labels.items() for label in given]
    clips = pd.DataFrame(rows, columns=["machine", "attributes"])
    count = len(clips)
    names = [f"{machine}/{number}" for number, machine in enumerate(clips.machine)]
    facts = {"split": "train", "part": "dev", "is_normal": True, "sample_rate": 16_000, "num_frames": SAMPLES}
    clips = clips.assign(clip_id=names, path=names, dataset="d", domain=["source", None] * (count // 2), **facts)
    clips = clips.assign(section=[f"0{number % sections}" for number in range(count)])
    files = {name: folder / name for name in ("clips", "index", "samples", "embeddings")}
    write_table("clips", clips, files["clips"])
    rng = np.random.default_rng(0)
    loudness = rng.uniform(100, 3000, (count, 1))
    files["samples"].write_bytes((loudness * rng.standard_normal((count, SAMPLES))).astype("<i2").tobytes())
    index = pd.DataFrame({"clip_id": names, "offset": SAMPLES * np.arange(count), "num_samples": SAMPLES})
    write_table("waveforms", index, files["index"])
    vectors = rng.standard_normal((count, 5)).astype(np.float32)
    embedded = pd.DataFrame({"clip_id": names, "embedding": list(vectors)})
    write_table("embeddings", embedded.sample(frac=1, random_state=0), files["embeddings"])
    return files


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_inputs(tmp_path_factory.mktemp("inputs"), LABELS)


def run(files: dict[str, Path], folder: Path, seed: int = 0, **settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run the step; return its two tables."""
    text = as_json(RankLabelsSettings(candidates=Candidates(**settings)))
    outputs = {"labels": folder / "pseudo_labels.parquet", "classes": folder / "label_classes.csv"}
    rank_labels(text, SAMPLES, seed, **files, **outputs)
    return read_table("pseudo_labels", outputs["labels"]), pd.read_csv(outputs["classes"])


def listed(table: pd.DataFrame, machine: str) -> list[tuple[str, ...]]:
    """Return the candidates of a machine type's clips, in the order of the table."""
    of_machine = table[table.machine == machine].sort_values("rank", kind="stable")
    return [tuple(labels) for _, labels in of_machine.groupby("clip_id", sort=False).label]


@pytest.fixture(scope="module")
def ranked(inputs, tmp_path_factory) -> tuple[pd.DataFrame, pd.DataFrame, Path]:
    folder = tmp_path_factory.mktemp("ranked")
    before, method.TREES = method.TREES, 30
    try:
        return *run(inputs, folder, k1=4, k2=4, confidence=0.0), folder
    finally:
        method.TREES = before


def test_every_machine_type_has_the_strategy_that_its_labels_allow(ranked):
    table, _, folder = ranked
    strategies = {"bearing": "sample", "fan": "cluster", "pump": "cluster", "ToyCar": "cluster"}
    assert read_facts(folder / "pseudo_labels.parquet") == {"strategies": strategies}
    assert table.columns.tolist() == ["clip_id", "machine", "domain", "rank", "label", "confidence"]
    assert set(table[table.machine == "bearing"].label) == {"vel_1", "vel_2"}
    assert set(table[table.machine == "fan"].label) <= set(LABELS["fan"])
    assert set(table[table.machine == "pump"].label) == {"0", "1", "2", "3"}
    own = table[(table.machine == "ToyCar") & (table["rank"] == 1)].label[-8:]
    assert own.tolist() == LABELS["ToyCar"][8:]
    # Clips of unknown domain count as source.
    assert set(table.domain) == {"source"}
    for _, ranks in table.groupby("clip_id")["rank"]:
        assert ranks.tolist() == list(range(1, len(ranks) + 1))
    assert table.clip_id.nunique() == 64


def test_candidates_are_ranked_in_mfcc_space_or_in_latent_space(inputs, ranked):
    table = ranked[0]
    raw = np.frombuffer(inputs["samples"].read_bytes(), dtype="<i2").reshape(-1, SAMPLES)[:16]
    features = MfccStatistics(SAMPLES)(torch.from_numpy(raw.astype(np.float32) / 2**15))[:, 0].numpy()
    sample = rank_by_neighbours(features, LABELS["bearing"], k1=4, confidence=0, seed=0)
    assert listed(table, "bearing") == sample.labels
    embedded = read_table("embeddings", inputs["embeddings"]).set_index("clip_id").embedding
    for machine in ("fan", "pump", "ToyCar"):
        clip_ids = table[table.machine == machine].clip_id.unique()
        found = rank_by_clusters(np.stack(list(embedded[clip_ids])), LABELS[machine], k2=4, seed=0)
        assert found.labels == listed(table, machine)


def test_classes_are_counted_per_machine_type_m_and_order(ranked):
    table, counts, _ = ranked
    assert counts.columns.tolist() == [
        *("machine", "strategy", "order", "m", "clips", "classes", "singletons", "entropy"),
    ]
    assert len(counts) == 4 * 2 * 7
    for row in counts.itertuples():
        best = [each[: row.m] for each in listed(table, row.machine)]
        best = [tuple(sorted(each)) for each in best] if row.order == "sorted" else best
        assert (row.clips, row.classes) == (16, len(set(best)))
        shares = np.array([best.count(each) / 16 for each in set(best)])
        assert row.entropy == pytest.approx(np.sum(shares * np.log2(1 / shares)), abs=1e-4)
        assert row.singletons == pytest.approx(np.mean(shares == 1 / 16), abs=1e-4)


def test_the_best_m_candidates_are_those_of_a_training_for_every_m(inputs, ranked):
    clips = read_table("clips", inputs["clips"]).assign(domain="source")
    for m in (1, 3):
        labels, _ = assemble_labels(clips, TopMLabels(m, "ranked"), candidates=ranked[0])
        expected = ["_".join((machine, *each[:m])) for machine in LABELS for each in listed(ranked[0], machine)]
        assert labels.class_name.tolist() == expected


def test_the_same_seed_gives_the_same_bytes(inputs, tmp_path):
    files = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        run(inputs, folder, seed=1)
        files.append([(folder / name).read_bytes() for name in ("pseudo_labels.parquet", "label_classes.csv")])
    assert files[0] == files[1]


def test_a_strategy_can_be_set_and_labels_have_sections_where_there_are_several(tmp_path):
    files = write_inputs(tmp_path, {"fan": ["x"] * 6 + ["y"] * 6, "pump": [None] * 6}, sections=2)
    table, _ = run(files, tmp_path, strategy="direct")
    assert listed(table, "fan")[:2] == [("00_x",), ("01_x",)]
    # A section is a label, too.
    assert listed(table, "pump")[:2] == [("00",), ("01",)]
    assert (table.confidence == 1).all()
    # Nothing is clustered: no embeddings are needed.
    run({name: file for name, file in files.items() if name != "embeddings"}, tmp_path, strategy="direct")


@pytest.mark.parametrize(("joined", "machines"), [(True, ["slider"]), (False, ["new_slider", "old_slider"])])
def test_attributes_of_one_year_are_those_of_all_years_where_a_union_joins_its_types(tmp_path, joined, machines):
    files = write_inputs(tmp_path, {"slider": [None] * 10 + ["ac_1", "ac_2"] * 5})
    whole = read_table("clips", files["clips"])
    years = whole.clip_id.where(whole.attributes.isna(), "old").where(whole.attributes.notna(), "new")
    lists = [tmp_path / year for year in ("new", "old")]
    for file in lists:
        write_table("clips", whole[years == file.name].assign(dataset=file.name), file)
    unite_clips(json.dumps({"joined": joined}), lists, files["clips"])
    for kind, name in (("waveforms", "index"), ("embeddings", "embeddings")):
        table = read_table(kind, files[name])
        year = table.clip_id.map(dict(zip(whole.clip_id, years, strict=True)))
        write_table(kind, table.assign(clip_id=year + "/" + table.clip_id), files[name])
    table, _ = run(files, tmp_path, k1=4, k2=4)
    assert sorted(set(table.machine)) == machines
    by_year = table.groupby(table.clip_id.str[:3]).label.agg(set)
    assert by_year["old"] == {"ac_1", "ac_2"}
    # Clusters hand the attributes to clips without; alone, these have numbers.
    assert by_year["new"] == ({"ac_1", "ac_2"} if joined else {"0", "1", "2", "3"})


def test_few_clips_few_candidates_and_one_attribute_are_said_in_the_log(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    files = write_inputs(tmp_path, {"fan": ["x_1"] * 8, "pump": [None] * 6, "valve": [None] * 1 + ["y_1"]})
    table, counts = run(files, tmp_path, strategies={"valve": "sample", "gearbox": "cluster"})
    assert "fan: 7 neighbours instead of k1 = 15: there are no more clips" in caplog.messages
    assert "pump: 6 clusters instead of k2 = 15, one per distinct clip" in caplog.messages
    assert "fan: all clips have the same best candidate, so M = 1 has one class: nothing to tell apart" in caplog.text
    assert "labels.candidates.strategies: there are no training clips of gearbox" in caplog.messages
    assert "pump: one class with M = 7, 10, 13, 15 (sorted): nothing to tell apart" in caplog.messages
    exploded = "pump: too many classes with M = 1, 3, 5, 7, 10, 13, 15 (ranked): most clips are alone in their class"
    assert exploded in caplog.messages
    assert counts[(counts.machine == "pump") & (counts.order == "ranked")].classes.tolist() == [6] * 7
    assert listed(table, "valve") == [("y_1",)] * 2
    assert table.groupby("machine")["rank"].max().to_dict() == {"fan": 1, "pump": 6, "valve": 1}


def test_impossible_strategies_are_refused_by_machine_type(inputs, tmp_path):
    def refused(message: str, files: dict[str, Path] = inputs, **settings) -> None:
        with pytest.raises(UserError, match=message):
            run(files, tmp_path, **settings)
        assert not list(tmp_path.glob("*.parquet"))

    advice = r"take cluster \(labels.candidates.strategies"
    direct = rf"direct .* 8 training clips of ToyCar have no section or attributes, e.g. ToyCar/48; {advice}"
    refused(direct, strategies={"ToyCar": "direct"})
    refused(rf"sample needs labels, but no training clip of pump has any; {advice}", strategies={"pump": "sample"})
    without = {name: file for name, file in inputs.items() if name != "embeddings"}
    refused(r"labels.candidates.latent: the clips of ToyCar, fan, pump are to be clustered, but it is not set", without)
    half = read_table("embeddings", inputs["embeddings"])[:32]
    write_table("embeddings", half, tmp_path / "half")
    refused(r"the latent embeddings lack \d+ training clips", inputs | {"embeddings": tmp_path / "half"})
