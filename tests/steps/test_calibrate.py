"""Calibration scores are those that the step ``score`` gives to clips it was not fitted to; limits are readable."""

import numpy as np
import pandas as pd
import pytest

from asdpipe.artifacts.tables import read_table, write_table
from asdpipe.config.base import as_json
from asdpipe.config.inference import Inference
from asdpipe.config.method import Method
from asdpipe.config.monitor import Monitor
from asdpipe.config.steps import step_settings
from asdpipe.errors import UserError
from asdpipe.steps.calibrate import calibrate
from asdpipe.steps.represent import represent
from asdpipe.steps.score import score
from tests.embedded import of_split, write_embedded


def settings(backend: str, **monitor) -> tuple[str, str]:
    """Return the settings of score and of calibrate."""
    method = Method(inference=Inference(k_source=3, backend=backend))
    return as_json(method.score_settings()), as_json(
        step_settings("calibrate", None, None, method, None, Monitor(**monitor))
    )


@pytest.fixture
def files(tmp_path):
    """Training clips, and test clips that are also calibration clips."""
    return write_embedded(tmp_path)


def calibrated(files, folder, used, **more):
    inputs = {name.replace("test", "calibration"): file for name, file in files.items()}
    calibrate(used, 0, **inputs, calibration=folder / "calibration", limits=folder / "limits.csv", **more)
    return read_table("calibration", folder / "calibration"), pd.read_csv(
        folder / "limits.csv", keep_default_na=False, dtype={"condition": str}
    )


@pytest.mark.parametrize("backend", ["kmeans", "knn", "city_block"])
def test_scores_are_those_of_test_clips(files, tmp_path, backend):
    of_score, of_calibrate = settings(backend, false_alarms=0.2)
    more = {}
    if backend == "kmeans":
        used = as_json(Method(inference=Inference(k_source=3)).represent_settings())
        represent(used, 0, **of_split(files), representatives=tmp_path / "centres")
        with pytest.raises(UserError, match="needs --representatives"):
            calibrated(files, tmp_path, of_calibrate)
        more = {"representatives": tmp_path / "centres"}
    table, limits = calibrated(files, tmp_path, of_calibrate, **more)
    score(of_score, 0, **files, scores=tmp_path / "scores", thresholds=tmp_path / "thresholds", **more)
    scores = read_table("scores", tmp_path / "scores").set_index("clip_id").score
    clips = read_table("clips", files["test_clips"]).set_index("clip_id")
    assert sorted(table.clip_id) == sorted(clips.index)
    assert table.score.tolist() == pytest.approx(scores[table.clip_id].tolist(), rel=1e-6)
    assert table.machine.tolist() == clips.machine[table.clip_id].tolist()
    assert set(table.condition) == {"source"}
    # Four clips: the second smallest rate, at which the highest score is the limit.
    rows = limits.drop(columns="limit").to_dict("records")
    of_source = {"condition": "source", "clips": 4, "false_alarms": 0.2, "smallest_rate": 0.2, "note": ""}
    none = "needs 4 more normal clips"
    of_target = {"condition": "target", "clips": 0, "false_alarms": 0.2, "smallest_rate": 1, "note": none}
    assert rows == [{"machine": machine} | row for machine in ("fan", "pump") for row in (of_source, of_target)]
    limits = limits[limits.clips > 0].astype({"limit": float})
    assert limits.limit.tolist() == table.groupby("machine").score.max().tolist()


def test_with_too_few_clips_it_says_what_is_missing(files, tmp_path, caplog):
    _, limits = calibrated(files, tmp_path, settings("knn")[1])
    assert limits.limit.tolist() == [""] * 4
    note = "needs 5 more normal clips; with 4 the smallest honest rate is 20%"
    assert limits.note.tolist() == [note, "needs 9 more normal clips"] * 2
    assert f"fan source: 4 calibration clips: {note}" in caplog.text


def test_conditions_are_domains_or_another_column_or_all_together(files, tmp_path):
    clips = read_table("clips", files["test_clips"])
    clips["domain"] = clips["domain"].where(clips.machine == "fan", None)
    clips["attributes"] = np.where(clips.machine == "fan", None, "1500 rpm")
    write_table("clips", clips, files["test_clips"])
    for by, expected in (
        ("domain", {("fan", "source"), ("pump", "source")}),
        ("machine", {("fan", ""), ("pump", "")}),
        ("section", {("fan", "00"), ("pump", "00")}),
        ("attributes", {("fan", "unknown"), ("pump", "1500 rpm")}),
    ):
        table, limits = calibrated(files, tmp_path, settings("knn", by=by)[1])
        for found in (table.assign(condition=table.condition.fillna("")), limits[limits.clips > 0]):
            assert set(zip(found.machine, found.condition, strict=True)) == expected
