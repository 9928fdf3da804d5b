"""What a calibration promises to clips of known and unknown conditions."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from asdpipe.artifacts.tables import write_table
from asdpipe.errors import UserError
from asdpipe.training.calibration import Calibration, read_calibration, read_mean, write_calibration


def calibration(rate: float, **groups: list[float]) -> Calibration:
    """Return a calibration of fans by condition; ``all``: all conditions together."""
    rows = [
        {"clip_id": f"{name} {number}", "machine": "fan", "condition": None if name == "all" else name, "score": value}
        for name, values in groups.items()
        for number, value in enumerate(values)
    ]
    return Calibration(pd.DataFrame(rows), rate)


def test_a_clip_of_unknown_condition_raises_an_alarm_only_if_it_would_in_all():
    found = calibration(0.2, source=[1.0, 2, 3, 4], target=[5.0, 6, 7, 8, 9])
    scores = [0.5, 3.5, 4.5, 8.5, 9.5]
    for name, limit, p_values in (
        ("source", 4, np.array([5, 2, 1, 1, 1]) / 5),
        ("target", 9, np.array([6, 6, 6, 2, 1]) / 6),
        # The larger p-value, and so the higher limit.
        (None, 9, [1, 1, 1, 2 / 6, 1 / 5]),
    ):
        promise = found.groups.promise("fan", name)
        assert promise.limit == limit
        assert promise.p_values(scores).tolist() == pytest.approx(list(p_values))
        assert ((np.array(scores) > promise.limit) == (promise.p_values(scores) <= 0.2)).all()
    assert found.groups.promise("fan", "night") is None
    assert found.groups.promise("pump") is None


def test_a_limit_of_all_conditions_holds_for_those_that_have_none_of_their_own():
    found = calibration(0.2, all=[1.0, 2, 3, 4])
    assert found.groups.promise("fan").limit == found.groups.promise("fan", "night").limit == 4


def test_a_group_with_too_few_clips_promises_nothing():
    found = calibration(0.2, source=[1.0, 2, 3, 4], target=[5.0, 6, 7])
    assert found.groups.promise("fan", "source").limit == 4
    assert found.groups.promise("fan", "target") is None
    # It may be of the target domain.
    assert found.groups.promise("fan") is None
    table = found.limits().set_index("condition")
    assert table.note.to_dict() == {
        "source": "",
        "target": "needs 1 more normal clip; with 3 the smallest honest rate is 25%",
    }
    assert np.isnan(table.limit["target"])


def test_a_condition_without_any_calibration_clip_is_not_forgotten():
    of_source = calibration(0.2, source=[1.0, 2, 3, 4])
    found = Calibration(of_source.table, 0.2, {"fan": ["source", "target"], "pump": ["source"]})
    assert of_source.groups.promise("fan").limit == found.groups.promise("fan", "source").limit == 4
    assert found.groups.promise("fan") is found.groups.promise("fan", "target") is found.groups.promise("pump") is None
    table = found.limits()
    assert table.clips.tolist() == [4, 0, 0]
    assert table.note.tolist() == ["", *["needs 4 more normal clips"] * 2]


def test_over_seeds_scores_are_averaged(tmp_path):
    files = [tmp_path / "0", tmp_path / "1"]
    for file, scores in zip(files, ([1.0, 2, 3, 4], [2.0, 4, 8, 6]), strict=True):
        write_calibration(calibration(0.2, source=scores), file, tmp_path / "csv", {"by": "domain"})
    assert read_mean(files)[0].groups.scores["fan"]["source"].tolist() == [1.5, 3, 5.5, 5]
    write_calibration(calibration(0.2, target=[1.0, 2, 3, 4]), files[1], tmp_path / "csv", {"by": "domain"})
    with pytest.raises(UserError, match="is of other clips than"):
        read_mean(files)


def test_files_keep_all_digits_and_damage_is_found(tmp_path):
    before = calibration(0.05, source=[0.1 + 0.2, *np.random.default_rng(0).normal(size=19)])
    file, csv = tmp_path / "calibration.parquet", tmp_path / "limits.csv"
    write_calibration(before, file, csv, {"by": "domain"})
    after, facts = read_calibration(file)
    assert (after.rate, facts["by"]) == (0.05, "domain")
    assert (
        after.groups.promise("fan", "source").limit
        == before.groups.promise("fan", "source").limit
        == max(before.table.score)
    )
    limits = pd.read_csv(csv)
    assert limits.limit[0] == before.groups.promise("fan").limit
    assert (limits.clips[0], limits.smallest_rate[0]) == (20, pytest.approx(1 / 21))
    metadata = pq.read_schema(file).metadata
    assert json.loads(metadata[b"facts"]) == {"by": "domain", "false_alarms": 0.05, "conditions": {}}
    write_table("calibration", before.table, file, {"false_alarms": 7})
    with pytest.raises(UserError, match="metadata is damaged"):
        read_calibration(file)
