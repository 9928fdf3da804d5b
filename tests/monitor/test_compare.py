"""``asdpipe compare``: which differences are real, of runs that can be compared."""

import csv
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from asdpipe.artifacts.tables import write_table
from asdpipe.cli import app
from asdpipe.errors import UserError
from asdpipe.monitor.compared_runs import read_systems
from asdpipe.monitor.comparison import MEAN, compare
from asdpipe.provenance.records import Record, describe, record_path, recorded
from asdpipe.steps.evaluate import evaluate
from asdpipe.steps.summarize import summarize


def manifest(machines: tuple[str, ...], clips: int, part: str = "dev") -> pd.DataFrame:
    """Return as many test clips of each domain and label of every machine type."""
    rows = [
        (f"{machine}/{domain}_{label}_{number}", machine, domain, label == "normal")
        for machine in machines
        for domain in ("source", "target")
        for label in ("normal", "anomaly")
        for number in range(clips)
    ]
    table = pd.DataFrame(rows, columns=["clip_id", "machine", "domain", "is_normal"]).astype({"is_normal": "boolean"})
    fixed = {"path": "x.wav", "dataset": "d", "section": "00", "split": "test", "part": part}
    return table.assign(**fixed, attributes=None, sample_rate=16_000, num_frames=16_000)


def write_run(
    table: pd.DataFrame,
    score: np.ndarray,
    method: str = "ba",
    stage: int = 1,
    seed: int = 0,
    dataset: str = "d",
    trained: bool = True,
    scoring: str = "dcase2022",
) -> Path:
    """Write the results of a run below the current folder; return its auc.csv."""
    folder = Path(f"results/{dataset}/{method}/seed{seed}/stage{stage}")
    clips = Path(f"results/data/{dataset}/clips.parquet")
    write_table("clips", table, clips)
    scores = pd.DataFrame({"clip_id": table.clip_id, "score": score})
    nothing = {"representative": pd.array([pd.NA] * len(table), dtype="Int32"), "nearest_clip_id": None}
    write_table("scores", scores.assign(**nothing), folder / "scores.parquet")
    record = Record(
        file=describe(folder / "scores.parquet"),
        step="score",
        code="",
        settings={},
        inputs={},
        config={"train": [{}]} if trained else {},
        seeds=[seed],
    )
    place = record_path(folder / "scores.parquet")
    place.parent.mkdir(exist_ok=True)
    place.write_text(record.model_dump_json())
    recorded(evaluate)(
        dataset=dataset,
        method=method,
        stage=stage,
        seed=seed,
        clips=clips,
        scores=folder / "scores.parquet",
        auc=folder / "auc.csv",
        scoring=scoring,
    )
    return folder / "auc.csv"


def scores(table: pd.DataFrame, shift: float, seed: int = 0, common: int = 99) -> np.ndarray:
    """Return scores that are ``shift`` higher for anomalies; half of their variance is common to all systems."""
    shared = np.random.default_rng(common).standard_normal(len(table))
    own = np.random.default_rng([seed, round(100 * shift)]).standard_normal(len(table))
    return (shared + own) / np.sqrt(2) + shift * ~table.is_normal.to_numpy(dtype=bool)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    """A folder with a baseline, a much better method with three seeds, and one that is the baseline but for noise."""
    folder = tmp_path_factory.mktemp("three")
    before = Path.cwd()
    os.chdir(folder)
    table = manifest(("fan", "pump"), 25)
    for seed in range(3):
        write_run(table, scores(table, 2.5, seed), "good", seed=seed)
    write_run(table, scores(table, 1.0), "baseline", trained=False)
    write_run(table, scores(table, 1.0) + scores(table, 0, 5) / 50, "twin")
    os.chdir(before)
    return folder


def test_real_differences_are_said_and_others_are_not(three, tmp_path):
    done = run(
        three / "results/d/baseline", three / "results/d/good", three / "results/d/twin", "--csv", tmp_path / "x.csv"
    )
    assert done.exit_code == 0, done.exception
    assert "dev, mean AUC: good is better than baseline by" in done.stdout
    assert "dev, mean AUC: good is better than twin by" in done.stdout
    assert "dev, mean AUC: no difference can be seen between baseline and twin." in done.stdout
    assert "safest so far is good: it is better than all others" in done.stdout
    assert "twin is one training: another seed may turn the order" in done.stdout
    rows = list(csv.DictReader((tmp_path / "x.csv").open()))
    assert [row["machine"] for row in rows[::3]] == ["fan", "pump", "mean", "official"]
    assert {(row["a"], row["b"]) for row in rows} == {("good", "baseline"), ("twin", "baseline"), ("twin", "good")}
    for row in rows:
        # Values are those of auc.csv, means over the seeds.
        files = (three / f"results/d/{row['a']}").glob("*/*/auc.csv")
        frames = [pd.read_csv(file).set_index("machine") for file in files]
        column = "official" if row["machine"] == "official" else "auc"
        of = "mean" if row["machine"] == "official" else row["machine"]
        assert float(row["value_a"]) == pytest.approx(np.mean([frame[column][of] for frame in frames]), abs=1e-3)
        assert float(row["difference"]) == pytest.approx(float(row["value_a"]) - float(row["value_b"]), abs=2e-4)
        assert float(row["low"]) < float(row["difference"]) < float(row["high"])
        assert (
            row["verdict"] == {"good": "better", "twin": "worse"}[row["a"]] if "good" in (row["a"], row["b"]) else True
        )


def test_the_same_command_says_the_same(three):
    places = [three / "results/d/baseline", three / "results/d/good"]
    assert run(*places).stdout == run(*places).stdout


def test_a_file_over_seeds_stands_for_all_of_them(three, monkeypatch):
    monkeypatch.chdir(three)
    parts = sorted(Path("results/d/good").glob("*/*"))
    thresholds = Path("thresholds.parquet")
    limits = pd.DataFrame({"machine": ["fan", "pump"], "threshold": 1.0, "decision_threshold": 1.0})
    write_table("thresholds", limits, thresholds)
    recorded(summarize)(
        clips=Path("results/data/d/clips.parquet"),
        aucs=[part / "auc.csv" for part in parts],
        scores=[part / "scores.parquet" for part in parts],
        thresholds=[thresholds] * 3,
        auc=Path("results/stage1/auc.csv"),
        table=Path("results/stage1/scores.csv"),
        others=[],
    )
    baseline = Path("results/d/baseline/seed0/stage1/auc.csv")
    found = read_systems([Path("results/stage1"), baseline, baseline.parent, Path("results/d/good")])
    assert [(system.name, system.seeds, system.trained) for system in found.systems] == [
        ("good", [0, 1, 2], True),
        ("baseline", [0], False),
    ]


def test_with_too_few_clips_nothing_is_ranked_and_it_says_what_to_record(place):
    table = pd.concat([manifest(("fan",), 10), manifest(("pump",), 4)], ignore_index=True)
    files = [write_run(table, scores(table, 9), "best"), write_run(table, scores(table, 0), "logmel", trained=False)]
    done = run(*files)
    assert done.exit_code == 0, done.exception
    assert "better than" not in done.stdout
    lines = {line.split()[1]: line.rstrip() for line in done.stdout.splitlines() if line.split()[:1] == ["dev"]}
    assert lines["fan"].endswith("worse")
    assert all(lines[row].endswith("too few clips") for row in ("pump", "mean", "official"))
    assert "2 more normal test clips (there are 8), 2 more anomalous test clips (there are 8)" in done.stdout
    assert "stay with logmel until then (it needs no training)" in done.stdout


def test_a_split_and_a_machine_type_without_labels_are_left_out(place):
    table = pd.concat([manifest(("fan", "pump"), 10), manifest(("saw",), 10, "eval")], ignore_index=True)
    table.loc[table.machine != "fan", "is_normal"] = pd.NA
    for method in ("a", "b"):
        write_run(table, np.arange(len(table)), method)
    rows = compare(read_systems([Path("results/d")])).rows
    assert [(row.split, row.machine) for row in rows] == [("dev", "fan"), ("dev", MEAN), ("dev", "official")]
    assert rows[1].differences[0, 1] == (0, 0, 0)


def test_what_to_do_to_see_more_is_said(place):
    table = manifest(("fan",), 12)
    # Two anomalous clips decide.
    table = table.drop(table.index[~table.is_normal.to_numpy(dtype=bool)][6:16]).reset_index(drop=True)
    for method, shift in (("a", 1.2), ("b", 0.9)):
        write_run(table, scores(table, shift, 3, 1), method)
    done = run("results/d")
    assert "between a and b, most of the uncertainty" in done.stdout
    assert "comes from the anomalous test clips: label or record more of them" in done.stdout


def test_what_cannot_be_compared_is_refused(place):
    table = manifest(("fan",), 10)
    one = write_run(table, scores(table, 1), "a")
    for words, places in (
        (r"is one system, a at stage 1; give several", [one]),
        ("does not exist", [one, place / "no.csv"]),
        (r"holds no auc\.csv", [one, Path("results/data")]),
        (r"is not an auc\.csv", [one, one.with_name("scores.parquet")]),
    ):
        with pytest.raises(UserError, match=words):
            read_systems(places)
    other = write_run(table.iloc[1:].reset_index(drop=True), scores(table, 1)[1:], "b")
    with pytest.raises(UserError, match=r"clips\.parquet: has changed since .*; run the workflow again"):
        read_systems([one, other])
    write_run(table, scores(table, 1), "a", dataset="e")
    with pytest.raises(UserError, match="are of the data sets e and f; compare runs of one"):
        read_systems([Path("results/e"), write_run(table, scores(table, 1), "a", dataset="f")])


def test_other_clips_labels_and_formulas_are_refused(place, monkeypatch):
    table, places = manifest(("fan",), 10), {}
    swapped = table.assign(is_normal=[not table.is_normal[0], *table.is_normal[1:]])
    fewer = table.iloc[1:].reset_index(drop=True)
    for name, clips, scoring in (
        ("first", table, "dcase2022"),
        ("fewer", fewer, "dcase2022"),
        ("swapped", swapped, "dcase2022"),
        ("year", table, "dcase2020"),
    ):
        (place / name).mkdir()
        monkeypatch.chdir(place / name)
        write_run(clips, scores(clips, 1), scoring=scoring)
        places[name] = place / name / "results/d"
    for name, words in (
        ("fewer", r"have other test clips \(40 and 39 labelled test clips; only one of them has fan/source_normal_0\)"),
        ("swapped", r"have other labels, e\.g\. of fan/source_normal_0"),
        ("year", "official scores of dcase2022 and dcase2020"),
    ):
        with pytest.raises(UserError, match=words):
            read_systems([places["first"], places[name]])
    # The same run in two folders: two systems.
    again = places["first"].parent.parent.with_name("again")
    places["first"].parent.parent.rename(again)
    monkeypatch.chdir(place / "year")
    write_run(table, scores(table, 2))
    found = read_systems([again / "results/d", places["year"]])
    assert [system.name for system in found.systems] == ["again: stage 1", "year: stage 1"]
