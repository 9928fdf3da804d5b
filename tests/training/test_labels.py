"""Class assembly on tables: what each combination of labels, pseudo-labels and external clips makes of a clip."""

import pandas as pd
import pytest

from asdpipe.errors import UserError
from asdpipe.method.classes import AttributeLabels, MachineLabels
from asdpipe.training.labels import assemble_labels

CLIPS = pd.DataFrame(
    [
        ("fan/a", "fan", "00", "source", "spd_1"),
        ("fan/b", "fan", "00", "target", "spd_2"),
        ("valve/a", "valve", "00", "source", "pat_1"),
        ("valve/b", "valve", "01", "source", "pat_1"),
    ],
    columns=["clip_id", "machine", "section", "domain", "attributes"],
)
PSEUDO = pd.DataFrame({"clip_id": CLIPS.clip_id, "cluster": [3, 0, 1, 1]})
SELECTED = pd.DataFrame(
    [("pool/x", "fan", "/m/1"), ("pool/y", "valve", "/m/1"), ("pool/z", "valve", "/m/1")],
    columns=["clip_id", "machine", "mid"],
)


@pytest.mark.parametrize(
    ("labeller", "pseudo", "expected"),
    [
        (MachineLabels(), None, ["fan", "fan", "valve", "valve"]),
        (MachineLabels(), PSEUDO, ["fan_source_3", "fan_target_0", "valve_source_1", "valve_source_1"]),
        # Only the valve has several sections.
        (AttributeLabels(), None, ["fan_spd_1", "fan_spd_2", "valve_00_pat_1", "valve_01_pat_1"]),
        (
            AttributeLabels(),
            PSEUDO,
            ["fan_spd_1_source_3", "fan_spd_2_target_0", "valve_00_pat_1_source_1", "valve_01_pat_1_source_1"],
        ),
    ],
)
def test_classes_of_original_clips(labeller, pseudo, expected):
    table, classes = assemble_labels(CLIPS, labeller, pseudo)
    assert table.class_name.tolist() == expected
    assert [classes[index].name for index in table.class_index] == expected
    assert table.class_index.nunique() == len(set(expected))
    assert (table.origin == "original").all()


def test_external_clips_get_classes_of_their_own_and_count_as_source():
    # A machine type named like an external class must not share it.
    clips = CLIPS.assign(machine=["fan_/m/1", "fan", "valve", "valve"])
    table, classes = assemble_labels(clips, MachineLabels(), None, SELECTED)
    external = table[table.origin == "external"]
    assert external.class_name.tolist() == ["fan_/m/1", "valve_/m/1", "valve_/m/1"]
    assert (external.domain == "source").all()
    assert not set(external.class_index) & set(table.class_index[table.origin == "original"])
    assert external.class_index.nunique() == 2
    assert sorted(set(table.class_index)) == list(range(5))
    assert [(each.origin, each.name) for each in classes] == sorted(set(zip(table.origin, table.class_name, strict=True)))


def test_no_selected_clip_is_no_problem():
    assert len(assemble_labels(CLIPS, MachineLabels(), None, SELECTED.head(0))[0]) == len(CLIPS)


def test_labels_by_attribute_need_attributes():
    with pytest.raises(UserError, match="valve lacks some; use labels: machine"):
        assemble_labels(CLIPS.assign(attributes=["a", "b", None, "c"]), AttributeLabels())


def test_every_clip_needs_its_pseudo_label():
    with pytest.raises(UserError, match=r"the pseudo-labels of the stage before lack 1 training clips, e.g. valve/b"):
        assemble_labels(CLIPS, MachineLabels(), PSEUDO.head(3))
