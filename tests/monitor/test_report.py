"""What a report shows of results that are whole, partial, without labels, or badly named."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from asdpipe.artifacts.tables import read_facts, read_table, write_table
from asdpipe.errors import UserError
from asdpipe.report.content import gather
from asdpipe.report.page import as_json, render
from asdpipe.report.runs import find_runs, report_files, shown_run
from asdpipe.report.sounds import Sounds
from tests.monitor.reported import DATASET, clips, write_data, write_run

HOSTILE = "</script><script>alert(1)</script>\"'&amp;<img src=x onerror=alert(2)>{{ 7 * 7 }}\U0001f600" + "x" * 300


def page_data(page: str, name: str = "data"):
    """Return the data that a page embeds."""
    (text,) = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', page, flags=re.S)
    return json.loads(text)


def values(spec, layer):
    """Return the data of a chart's layer."""
    return spec["datasets"][spec["layer"][layer]["data"]["name"]]


class Tags(HTMLParser):
    """The tags of a page, in order, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def written(root, machines=("fan", "pump"), name="clip", label="", runs=(("ba", 1, 0), ("ba", 2, 0)), **kind):
    """Write runs of a data set; return the folder results/."""
    table = clips(machines, name, **kind)
    write_data(root, table)
    for method, stage, seed in runs:
        write_run(root, table, method, stage, seed, label)
    return root / "results"


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Results of two methods, two stages and three seeds."""
    runs = [("ba", stage, seed) for stage in (1, 2) for seed in (0, 1, 2)] + [("raw_logmel", 1, 0)]
    return written(tmp_path_factory.mktemp("several"), label="label", runs=runs)


@pytest.fixture(scope="module")
def report(several):
    """Their report."""
    return gather(several, DATASET, "ba")


@pytest.fixture(scope="module")
def page(report):
    """Its page."""
    return render(report)


def test_numbers_are_those_of_auc_csv_and_scores_parquet(several, page):
    data = page_data(page)
    assert (data["method"], data["stage"], data["seed"]) == ("ba", 2, 0)
    frames = [pd.read_csv(file) for file in sorted(several.glob(f"{DATASET}/*/seed*/stage*/auc.csv"))]
    expected = pd.concat(frames).set_index(["method", "stage", "seed", "machine"]).sort_index()
    shown = pd.DataFrame(data["auc"]).set_index(expected.index.names).sort_index()
    for metric in ("auc", "auc_source", "auc_target", "pauc", "official"):
        assert shown[metric].tolist() == expected[metric].tolist(), metric
    stage = several / DATASET / "ba/seed0/stage2"
    scores = read_table("scores", stage / "scores.parquet").set_index("clip_id")
    limits = read_table("thresholds", stage / "thresholds.parquet").set_index("machine").decision_threshold
    assert len(data["scores"]) == len(clips(["fan", "pump"]).query("split == 'test'"))
    for row in data["scores"]:
        assert row["score"] == scores.score[row["clip_id"]]
        assert row["nearest_clip_id"] == scores.nearest_clip_id[row["clip_id"]]
        assert row["limit"] == limits[row["machine"]]
        assert row["alarm"] == (row["score"] > row["limit"])


def test_the_table_has_mean_and_deviation_over_the_seeds(several, page):
    files = several.glob(f"{DATASET}/ba/seed*/stage2/auc.csv")
    auc = [pd.read_csv(file).set_index("machine").auc["fan"] for file in files]
    assert f"{np.mean(auc):.1f} ± {np.std(auc, ddof=1):.1f}" in page


def test_it_opens_with_what_to_use_what_it_does_and_what_to_do(report):
    assert report.answer.choice.startswith("dev: safest so far is")
    part = report.clips.table
    missed = int(((part.is_normal == False) & (part.score <= 1)).sum())  # noqa: E712
    assert f"{int((part.is_normal & (part.score > 1)).sum())} of 24" in report.answer.alarms
    assert f"misses {missed} of 24" in report.answer.alarms
    assert any(each in report.answer.action for each in ("asdpipe calibrate", "more of them"))


def test_every_seed_has_a_roc_curve(report, page):
    curves = page_data(page, "charts")["roc-0"]
    rows = values(curves, 2)
    assert {row["seed"] for row in rows} == {"seed 0", "seed 1", "seed 2"}
    # The area under the curve is the AUC.
    own = [row for row in rows if row["seed"] == "seed 0"]
    area = np.trapezoid([row["true"] for row in own], [row["false"] for row in own])
    auc = pd.read_csv(report.shown.auc).set_index("machine").auc["fan"]
    assert 100 * area == pytest.approx(auc, abs=1e-4)


def test_settings_that_are_auto_are_shown_with_the_numbers_that_they_came_to(tmp_path, page):
    assert "came to" not in page
    results = written(tmp_path, label="x")
    for stage in (1, 2):
        folder = results / DATASET / f"ba/seed0/stage{stage}"
        said = {"training.epochs": 1234, "loss.subclusters": 1 + stage}
        (folder / "model.json").write_text(json.dumps({"resolved": said}))
    first = results / DATASET / "ba/seed0/stage1"
    n_max = {"external.n_max": {"fan": 28, "pump": 110}}
    for name, resolved in (("selected", n_max), ("pseudo_labels", {"pseudo_labels.k_source": {"fan": 2, "pump": 2}})):
        file = first / f"{name}.parquet"
        write_table(name, read_table(name, file), file, read_facts(file) | {"resolved": resolved})
    # What cannot be read is left out, also what is no number.
    later = results / DATASET / "ba/seed0/stage2"
    write_table(
        "selected", read_table("selected", later / "selected.parquet"), later / "selected.parquet", {"resolved": 3}
    )
    (results / DATASET / "ba/seed0/stage2/pseudo_labels.parquet").write_bytes(b"PAR1")
    shown = gather(results, DATASET, "ba")
    assert dict(shown.process.resolved) == {
        "training.epochs": "1,234",
        "loss.subclusters": "3",
        "external.n_max": "28 (fan) or 110 (pump)",
        "pseudo_labels.k_source": "2",
    }
    text = Tags(render(shown)).text
    assert "training.epochs1,234" in text
    assert "external.n_max28 (fan) or 110 (pump)" in text


def test_names_are_shown_as_text(tmp_path):
    tame = Tags(render(gather(written(tmp_path / "a", label="x", name="x"), DATASET, "ba")))
    names = [f"fan {HOSTILE[:200]}".replace("/", "|"), f"pump {HOSTILE[:200]}".replace("/", "|")]
    text = render(gather(written(tmp_path / "b", machines=names, label=HOSTILE, name=HOSTILE), DATASET, "ba"))
    hostile = Tags(text)
    assert hostile.tags == tame.tags
    for shown in (names[0], f"{names[0]}/test/{HOSTILE} source", f"Wind {HOSTILE}", f"{HOSTILE} speed 0"):
        assert shown in hostile.text
    assert page_data(text)["scores"][0]["machine"] in names


def test_json_cannot_end_its_element():
    text = as_json({"a": HOSTILE + "\u2028<!--"})
    assert not {"<", ">", "&", "\u2028"} & set(text)
    assert json.loads(text) == {"a": HOSTILE + "\u2028<!--"}


def test_without_labels_there_are_alarms_and_no_auc(tmp_path):
    report = gather(written(tmp_path, labelled=False), DATASET, "ba")
    page = render(report)
    assert "No test clip has a label" in report.answer.choice
    assert "raises an alarm for" in report.answer.alarms
    assert not [name for name in report.charts if name.startswith(("auc", "roc"))]
    assert {card.clip.kinds for card in report.heard} == {("most anomalous",)}
    assert {row["label"] for row in page_data(page)["scores"]} == {"unlabelled"}


def test_one_machine_type_and_one_stage_are_enough(tmp_path):
    report = gather(written(tmp_path, machines=["fan"], runs=[("ba", 1, 0)]), DATASET, "ba")
    assert "nothing to compare ba stage 1 with yet" in report.answer.choice
    assert {"auc-dev", "histogram-0", "roc-0", "map", "losses", "times"} <= report.charts.keys()
    assert "No stage has selected external clips" in render(report)


def test_without_test_clips_it_is_about_the_training_clips(tmp_path):
    report = gather(written(tmp_path, tested=False), DATASET, "ba")
    assert "there are no test clips" in report.answer.alarms
    assert {row["split"] for row in page_data(render(report))["scores"]} == {"train"}


def test_a_partial_run_shows_what_is_there(tmp_path):
    results = written(tmp_path, label="label", runs=[("ba", 1, 0), ("ba", 2, 0), ("ba", 1, 1)])
    stage = results / DATASET / "ba/seed0/stage2"
    (stage / "auc.csv").unlink()
    (stage / "training.csv").write_text("")
    (results / "external/pool/0/waveforms.int16").unlink()
    report = gather(results, DATASET, "ba")
    assert (report.shown.stage, report.shown.seed) == (1, 0)
    page = render(report)
    assert "no sound here" in page
    assert len(page_data(page)["auc"]) == 2 * 4


def test_a_method_without_results_is_replaced_by_one_that_has_some(tmp_path):
    report = gather(written(tmp_path), DATASET, "ba_trp")
    assert "ba_trp has no finished stage yet: this report is about ba" in report.notes["answer"]


def test_nothing_finished_is_an_error_that_says_what_to_run(tmp_path):
    (tmp_path / DATASET / "ba/seed0/stage1").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no run has an auc\.csv.*snakemake"):
        gather(tmp_path, DATASET, "ba")


def test_changed_results_are_refused(tmp_path):
    results = written(tmp_path, runs=[("ba", 1, 0)])
    (results / DATASET / "ba/seed0/stage1/scores.parquet").write_bytes(b"x")
    with pytest.raises(UserError, match=r"has changed since .*auc\.csv was made from it"):
        gather(results, DATASET, "ba")


def test_runs_are_in_numeric_order(tmp_path):
    for name in ("seed10/stage2", "seed2/stage10", "seed2/stage2", "seed2/logs"):
        (tmp_path / "d/ba" / name).mkdir(parents=True)
        (tmp_path / "d/ba" / name / "auc.csv").touch()
    runs = find_runs(tmp_path, "d")
    assert [(run.stage, run.seed) for run in runs] == [(2, 2), (2, 10), (10, 2)]
    assert shown_run(runs, "ba") == runs[-1]
    assert len(report_files(tmp_path, "d")) == 3


def test_sounds_stop_where_there_is_no_more_room(report):
    audio = report.clips.audio
    names = clips(["fan", "pump"]).clip_id[:20].tolist()
    sounds = Sounds(most_bytes=20_000)
    numbers = [sounds.add(audio, name) for name in names]
    assert sum(map(len, sounds.files)) <= 20_000
    assert None in numbers
    assert sounds.left_out == numbers.count(None)
    assert sounds.add(audio, names[0]) == numbers[0] == 0
    assert sounds.add(audio, "unknown") is None


def test_a_report_of_equal_results_is_the_same(several, page):
    assert render(gather(several, DATASET, "ba")) == page
