"""The table of labels of a stage."""

import pandas as pd
import pytest

from asdpipe.errors import UserError
from asdpipe.method.classes import AttributeLabels, ClipClass, MachineLabels, TopMLabels
from asdpipe.training.labels import assemble_labels


def manifest(*rows: tuple) -> pd.DataFrame:
    """Return training clips: (machine, section, domain, attributes) each."""
    columns = ["machine", "section", "domain", "attributes"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(0, "clip_id", [f"{machine}/{row}" for row, machine in enumerate(table.machine)])
    return table


CLIPS = manifest(
    ("fan", "00", "source", "m-n_W"),
    ("fan", "00", "target", "m-n_X"),
    ("fan", "00", "source", "m-n_W"),
    ("pump", "00", "source", "v_1"),
    ("pump", "01", "source", "v_1"),
    ("pump", "01", "target", None),
)


def clusters(table: pd.DataFrame, *cluster: int) -> pd.DataFrame:
    return pd.DataFrame({"clip_id": table.clip_id[::-1].to_numpy(), "rank": 1, "label": [*map(str, cluster[::-1])]})


def external(*rows: tuple[str, str]) -> pd.DataFrame:
    """Return selected clips: (machine, label) each."""
    table = pd.DataFrame(rows, columns=["machine", "mid"])
    table.insert(0, "clip_id", [f"pool/{row}" for row in range(len(table))])
    return table


def assert_indices_mean_the_names(table: pd.DataFrame, classes: list[ClipClass]) -> None:
    assert [classes[index].name for index in table.class_index] == table.class_name.tolist()
    assert [classes[index].origin for index in table.class_index] == table.origin.tolist()
    assert [classes[index].machine for index in table.class_index] == table.machine.tolist()
    assert sorted(set(table.class_index)) == list(range(len(classes)))


def test_unlabelled_classes_are_machine_types():
    table, classes = assemble_labels(CLIPS, MachineLabels())
    assert table.columns.tolist() == ["clip_id", "machine", "domain", "origin", "class_name", "class_index"]
    assert table.class_name.tolist() == ["fan"] * 3 + ["pump"] * 3
    assert table.class_index.tolist() == [0] * 3 + [1] * 3
    assert table.clip_id.tolist() == CLIPS.clip_id.tolist()
    assert table.domain.tolist() == CLIPS.domain.tolist()
    assert set(table.origin) == {"original"}
    assert classes == [ClipClass("original", "fan"), ClipClass("original", "pump")]


def test_labelled_classes_have_the_section_where_a_machine_type_has_several():
    table, classes = assemble_labels(CLIPS[:5], AttributeLabels())
    assert table.class_name.tolist() == ["fan_m-n_W", "fan_m-n_X", "fan_m-n_W", "pump_00_v_1", "pump_01_v_1"]
    assert_indices_mean_the_names(table, classes)
    assert ClipClass("original", "fan", attributes="m-n_W") in classes
    assert ClipClass("original", "pump", section="01", attributes="v_1") in classes


def test_labelled_classes_need_attributes_of_every_training_clip():
    with pytest.raises(UserError, match=r"labels: attribute needs attributes.*; pump lacks some; use labels: machine"):
        assemble_labels(CLIPS, AttributeLabels())


def test_pseudo_labels_are_found_by_clip_and_split_by_domain():
    table, classes = assemble_labels(CLIPS, MachineLabels(), clusters(CLIPS, 3, 3, 0, 1, 2, 2))
    expected = ["fan_source_3", "fan_target_3", "fan_source_0", "pump_source_1", "pump_source_2", "pump_target_2"]
    assert table.class_name.tolist() == expected
    assert_indices_mean_the_names(table, classes)
    labelled, _ = assemble_labels(CLIPS[:5], AttributeLabels(), clusters(CLIPS[:5], 3, 3, 0, 1, 2))
    assert labelled.class_name[0] == "fan_m-n_W_source_3"


def test_a_clip_without_pseudo_label_is_named():
    with pytest.raises(UserError, match=r"lack 2 training clips, e.g. fan/0; delete them and run again"):
        assemble_labels(CLIPS, MachineLabels(), clusters(CLIPS[1:5], 0, 0, 0, 0))


def test_external_clips_come_last_as_source_clips_with_classes_of_their_own():
    selected = external(("pump", "/m/1"), ("fan", "/m/1"), ("pump", "/m/1"))
    table, classes = assemble_labels(CLIPS, MachineLabels(), selected=selected)
    added = table[6:]
    assert added.clip_id.tolist() == ["pool/0", "pool/1", "pool/2"]
    assert set(added.domain) == {"source"}
    assert set(added.origin) == {"external"}
    assert added.class_name.tolist() == ["pump_/m/1", "fan_/m/1", "pump_/m/1"]
    assert table.index.tolist() == list(range(9))
    assert_indices_mean_the_names(table, classes)
    assert len(classes) == 4
    # Those of the original clips are not renamed, and an empty selection is none.
    plain, _ = assemble_labels(CLIPS, MachineLabels())
    assert table.class_name[:6].tolist() == plain.class_name.tolist()
    empty, same = assemble_labels(CLIPS, MachineLabels(), selected=selected[:0])
    assert empty.equals(plain)
    assert same == [ClipClass("original", "fan"), ClipClass("original", "pump")]


def test_two_classes_with_one_name_stay_two():
    clips = manifest(("fan", "00", "source", "01_x"), ("fan_01", "00", "source", "x"), ("fan", "00", "source", "01_x"))
    selected = external(("fan", "a_b"), ("fan_a", "b"), ("fan", "01_x"))
    table, classes = assemble_labels(clips, AttributeLabels(), selected=selected)
    assert table.class_name.tolist() == ["fan_01_x"] * 3 + ["fan_a_b"] * 2 + ["fan_01_x"]
    assert len(classes) == len(set(table.class_index)) == 5
    first, second, third, *added = table.class_index
    assert first == third != second
    assert len({first, second, *added}) == 5
    assert_indices_mean_the_names(table, classes)
    # The same with pseudo-labels: a cluster, or attributes that look like one.
    looks_alike = manifest(("fan", "00", "source", "source_1"), ("fan", "00", "source", None))
    by_cluster, classes = assemble_labels(looks_alike[1:], MachineLabels(), clusters(looks_alike[1:], 1))
    by_name, others = assemble_labels(looks_alike[:1], AttributeLabels())
    assert by_cluster.class_name.tolist() == by_name.class_name.tolist() == ["fan_source_1"]
    assert classes != others


def ranked(*labels: str) -> pd.DataFrame:
    """Return candidates of the clips of CLIPS, one letter each, in no order."""
    rows = [
        (clip_id, rank + 1, label)
        for clip_id, of in zip(CLIPS.clip_id, labels, strict=True)
        for rank, label in enumerate(of)
    ]
    return pd.DataFrame(rows, columns=["clip_id", "rank", "label"]).sample(frac=1, random_state=0)


CANDIDATES = ("abc", "bac", "abd", "a", "ab", "ab")


def test_composite_labels_are_the_best_candidates_and_the_machine_type():
    table, classes = assemble_labels(CLIPS, TopMLabels(2, "ranked"), candidates=ranked(*CANDIDATES))
    assert table.class_name.tolist() == ["fan_a_b", "fan_b_a", "fan_a_b", "pump_a", "pump_a_b", "pump_a_b"]
    assert_indices_mean_the_names(table, classes)
    as_sets, _ = assemble_labels(CLIPS, TopMLabels(2, "sorted"), candidates=ranked(*CANDIDATES))
    assert as_sets.class_name.tolist()[:3] == ["fan_a_b"] * 3
    first, _ = assemble_labels(CLIPS, TopMLabels(1, "ranked"), candidates=ranked(*CANDIDATES))
    assert first.class_name.tolist() == ["fan_a", "fan_b", "fan_a", *["pump_a"] * 3]


def test_composite_labels_with_pseudo_labels_and_external_clips():
    given = clusters(CLIPS, 3, 3, 0, 1, 2, 2), external(("pump", "/m/1"))
    table, classes = assemble_labels(CLIPS, TopMLabels(1, "ranked"), *given, ranked(*CANDIDATES))
    assert table.class_name.tolist()[:2] == ["fan_source_3_a", "fan_target_3_b"]
    assert table.class_name.tolist()[-1] == "pump_/m/1"
    assert_indices_mean_the_names(table, classes)


def test_clips_with_fewer_candidates_than_m_are_counted_in_the_log(caplog):
    caplog.set_level("INFO")
    assemble_labels(CLIPS, TopMLabels(3, "ranked"), candidates=ranked(*CANDIDATES))
    assert caplog.messages == ["pump: 3 clips have fewer than M = 3 candidates; all of theirs are used"]


def test_a_machine_type_with_one_composite_label_is_warned_of(caplog):
    # The clips of fan have the same two candidates, in two orders.
    assemble_labels(CLIPS, TopMLabels(2, "ranked"), candidates=ranked(*CANDIDATES))
    assert not caplog.messages
    assemble_labels(CLIPS, TopMLabels(2, "sorted"), candidates=ranked(*CANDIDATES))
    assert caplog.messages == ["fan: all clips have one composite label with M = 2: nothing to tell apart"]


def test_missing_and_damaged_candidates_are_named():
    def refused(candidates: pd.DataFrame | None, message: str) -> None:
        with pytest.raises(UserError, match=message):
            assemble_labels(CLIPS, TopMLabels(2, "ranked"), candidates=candidates)

    whole = ranked(*CANDIDATES)
    refused(None, "labels: top_m needs candidates: give --candidates")
    refused(whole[whole.clip_id != "pump/4"], "the candidates lack 1 training clips, e.g. pump/4; delete them and run")
    refused(whole[whole["rank"] != 1], "the ranks of the candidates of a clip are not 1, 2, and so on")


def test_indices_do_not_depend_on_the_order_of_clips():
    selected = external(("pump", "/m/1"), ("fan", "/m/2"))
    pseudo = clusters(CLIPS, 3, 3, 0, 1, 2, 2)
    table, classes = assemble_labels(CLIPS, MachineLabels(), pseudo, selected)
    shuffled, same = assemble_labels(CLIPS[::-1], MachineLabels(), pseudo[::-1], selected[::-1])
    assert same == classes
    assert dict(zip(table.clip_id, table.class_index, strict=True)) == dict(
        zip(shuffled.clip_id, shuffled.class_index, strict=True)
    )
