"""The class of every training clip."""

import numpy as np
import pytest

from asdpipe.method.classes import class_indices, external_class, original_class


@pytest.mark.parametrize(
    ("labels", "section", "attributes", "cluster", "expected"),
    [
        # Unlabelled: the machine type alone, whatever is known; from stage 2 on with domain and cluster.
        ("machine", None, None, None, "fan"),
        ("machine", "02", "m-n_W", None, "fan"),
        ("machine", "02", "m-n_W", 3, "fan_source_3"),
        ("machine", None, None, 0, "fan_source_0"),
        # Labelled: attributes and, in 2022, the section.
        ("attribute", None, "m-n_W", None, "fan_m-n_W"),
        ("attribute", "02", "m-n_W", None, "fan_02_m-n_W"),
        ("attribute", "02", None, None, "fan_02"),
        ("attribute", None, None, None, "fan"),
        # Labelled with pseudo-labels: machine_attribute_pseudo-label.
        ("attribute", None, "m-n_W", 3, "fan_m-n_W_source_3"),
        ("attribute", "02", "m-n_W", 0, "fan_02_m-n_W_source_0"),
        ("attribute", None, None, 15, "fan_source_15"),
    ],
)
def test_class_of_an_original_clip(labels, section, attributes, cluster, expected):
    assert original_class("fan", section, attributes, "source", cluster, labels) == expected


def test_clusters_of_the_two_domains_are_different_classes():
    names = {original_class("fan", None, None, domain, 2, "machine") for domain in ("source", "target")}
    assert names == {"fan_source_2", "fan_target_2"}


def test_without_pseudo_labels_the_domain_is_not_part_of_the_class():
    names = {original_class("fan", "00", "W", domain, None, "attribute") for domain in ("source", "target")}
    assert len(names) == 1


def test_an_external_label_at_two_machines_is_two_classes():
    assert external_class("fan", "/m/02mk9") == "fan_/m/02mk9"
    assert external_class("valve", "/m/02mk9") != external_class("fan", "/m/02mk9")
    assert external_class("fan", "/m/0llzx") != external_class("fan", "/m/02mk9")


def test_an_external_class_is_not_the_machines_own_even_with_the_same_name():
    index, classes = class_indices(
        ["original", "external", "original", "external"], ["fan_x", "fan_x", "fan_x", "fan_y"]
    )
    assert len(classes) == 3
    assert index[0] == index[2] != index[1]
    assert len({*index.tolist()}) == 3
    assert set(classes) == {("original", "fan_x"), ("external", "fan_x"), ("external", "fan_y")}


def test_indices_are_dense_name_their_class_and_do_not_depend_on_the_order():
    rng = np.random.default_rng(0)
    origins = rng.choice(["original", "external"], 200)
    names = rng.choice(["fan", "valve", "ToyCar_1", "fan_source_3"], 200)
    index, classes = class_indices(origins.tolist(), names.tolist())
    assert index.dtype == np.int32
    assert sorted(set(index.tolist())) == list(range(8)) == list(range(len(classes)))
    assert [classes[i] for i in index] == list(zip(origins, names, strict=True))
    order = rng.permutation(200)
    shuffled, same = class_indices(origins[order].tolist(), names[order].tolist())
    assert same == classes
    np.testing.assert_array_equal(shuffled, index[order])


def test_no_clips_have_no_classes():
    index, classes = class_indices([], [])
    assert len(index) == len(classes) == 0
