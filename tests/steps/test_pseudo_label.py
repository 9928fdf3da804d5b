"""Pseudo-labels from embeddings."""

import logging

from asdpipe.artifacts.tables import read_table
from asdpipe.config.base import as_json
from asdpipe.config.iteration import PseudoLabels
from asdpipe.config.method import PseudoLabelSettings
from asdpipe.steps.pseudo_label import pseudo_label
from tests.conftest import read_facts
from tests.embedded import of_split, write_embedded


def settings(**values) -> str:
    return as_json(PseudoLabelSettings(pseudo_labels=PseudoLabels(**values)))


def test_clusters_that_are_auto_follow_the_clips_of_the_machine_type(tmp_path, caplog):
    files, labels = of_split(write_embedded(tmp_path)), tmp_path / "labels"
    with caplog.at_level(logging.INFO):
        pseudo_label(settings(k_source="auto", k_target="auto"), 0, **files, labels=labels)
    # Of 8 and 6 source clips the fewest; of 2 and 3 target clips 0.8 and 1.2, rounded up.
    table = read_table("pseudo_labels", labels)
    found = table.groupby(["machine", "domain"]).label.nunique().to_dict()
    assert found == {("fan", "source"): 2, ("fan", "target"): 1, ("pump", "source"): 2, ("pump", "target"): 2}
    resolved = {
        "pseudo_labels.k_source": {"fan": 2, "pump": 2},
        "pseudo_labels.k_target": {"fan": 1, "pump": 2},
    }
    assert read_facts(labels) == {"ari": {}, "resolved": resolved}
    assert "auto: pseudo_labels.k_source 2, pseudo_labels.k_target 1 (fan) or 2 (pump)" in caplog.text


def test_a_stated_number_is_used_beside_one_that_is_auto(tmp_path):
    files, labels = of_split(write_embedded(tmp_path)), tmp_path / "labels"
    pseudo_label(settings(k_source=5, k_target="auto"), 0, **files, labels=labels)
    table = read_table("pseudo_labels", labels)
    assert table[table.domain == "source"].groupby("machine").label.nunique().to_dict() == {"fan": 5, "pump": 5}
    assert read_facts(labels)["resolved"].keys() == {"pseudo_labels.k_target"}
    pseudo_label(settings(k_source=5, k_target=2), 0, **files, labels=labels)
    assert read_facts(labels) == {"ari": {}}
