"""The class of every training clip."""

import numpy as np
import pytest

from asdpipe.method.classes import (
    AttributeLabels,
    Clip,
    ClipClass,
    MachineLabels,
    PseudoLabels,
    TopMLabels,
    class_indices,
)

LABELLERS = {"machine": MachineLabels(), "attribute": AttributeLabels()}


def original_class(machine, section, attributes, domain, cluster, labels):
    labeller = LABELLERS[labels]
    if cluster is not None:
        labeller = PseudoLabels(labeller, {"clip": str(cluster)})
    return labeller(Clip("clip", machine, section, domain, attributes))


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
    assert original_class("fan", section, attributes, "source", cluster, labels).name == expected


def test_clusters_of_the_two_domains_are_different_classes():
    found = {original_class("fan", None, None, domain, 2, "machine") for domain in ("source", "target")}
    assert {each.name for each in found} == {"fan_source_2", "fan_target_2"}


def test_without_pseudo_labels_the_domain_is_not_part_of_the_class():
    found = {original_class("fan", "00", "W", domain, None, "attribute") for domain in ("source", "target")}
    assert len(found) == 1


def external_class(machine, label):
    return ClipClass("external", machine, label=label)


def test_an_external_label_at_two_machines_is_two_classes():
    assert external_class("fan", "/m/02mk9").name == "fan_/m/02mk9"
    assert external_class("valve", "/m/02mk9") != external_class("fan", "/m/02mk9")
    assert external_class("fan", "/m/0llzx") != external_class("fan", "/m/02mk9")


def test_two_classes_with_one_name_stay_two():
    pairs = [
        (original_class("fan", None, "01_x", "source", None, "attribute"), "fan_01_x"),
        (original_class("fan_01", None, "x", "source", None, "attribute"), "fan_01_x"),
        (original_class("fan", "01", "x", "source", None, "attribute"), "fan_01_x"),
        (external_class("fan", "a_b"), "fan_a_b"),
        (external_class("fan_a", "b"), "fan_a_b"),
    ]
    assert [each.name for each, _ in pairs] == [name for _, name in pairs]
    index, classes = class_indices([each for each, _ in pairs])
    assert sorted(index.tolist()) == [0, 1, 2, 3, 4]
    assert len(classes) == 5


def test_an_external_class_is_not_the_machines_own_even_with_the_same_name():
    own = original_class("fan", None, "x", "source", None, "attribute")
    index, classes = class_indices([own, external_class("fan", "x"), own, external_class("fan", "y")])
    assert len(classes) == 3
    assert index[0] == index[2] != index[1]
    assert len({*index.tolist()}) == 3
    found = {(each.origin, each.name) for each in classes}
    assert found == {("original", "fan_x"), ("external", "fan_x"), ("external", "fan_y")}


def test_composite_labels_are_part_of_the_class():
    clip = Clip("clip", "fan", "02", "source", "m-n_W", ("b", "c", "a"))
    assert TopMLabels(1, "ranked")(clip).name == "fan_b"
    assert TopMLabels(2, "ranked")(clip).name == "fan_b_c"
    assert TopMLabels(3, "sorted")(clip).name == "fan_a_b_c"
    assert TopMLabels(9, "ranked")(clip) == ClipClass("original", "fan", candidates=("b", "c", "a"))
    # With pseudo-labels of the first paper.
    both = PseudoLabels(TopMLabels(2, "ranked"), {"clip": "3"})
    assert both.num_candidates == 2
    assert both(clip).name == "fan_source_3_b_c"


def test_composite_labels_with_one_name_stay_two():
    clips = [Clip("x", "fan", None, "source", None, given) for given in (("a_b", "c"), ("a", "b_c"), ("a", "b", "c"))]
    labelled = [TopMLabels(3, "ranked")(clip) for clip in clips]
    assert {each.name for each in labelled} == {"fan_a_b_c"}
    assert len(class_indices(labelled)[1]) == 3


def test_the_label_of_a_clip_is_its_section_and_its_attributes():
    assert Clip("x", "fan", "02", "source", "m-n_W").own_label == "02_m-n_W"
    assert Clip("x", "fan", None, "source", "m-n_W").own_label == "m-n_W"
    assert Clip("x", "fan", "02", "source", None).own_label == "02"
    assert Clip("x", "fan", None, "source", None).own_label is None


def test_indices_are_dense_name_their_class_and_do_not_depend_on_the_order():
    rng = np.random.default_rng(0)
    machines = rng.choice(["fan", "valve", "ToyCar_1", "fan_source_3"], 200)
    origins = rng.choice(["original", "external"], 200)
    given = [ClipClass(str(origin), str(machine)) for origin, machine in zip(origins, machines, strict=True)]
    index, classes = class_indices(given)
    assert index.dtype == np.int32
    assert sorted(set(index.tolist())) == list(range(8)) == list(range(len(classes)))
    assert [classes[i] for i in index] == given
    order = rng.permutation(200)
    shuffled, same = class_indices([given[i] for i in order])
    assert same == classes
    np.testing.assert_array_equal(shuffled, index[order])


def test_no_clips_have_no_classes():
    index, classes = class_indices([])
    assert len(index) == len(classes) == 0
