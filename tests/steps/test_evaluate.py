"""The steps evaluate and summarize: the formula of each year, missing labels, the score of every clip."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asdpipe.errors import UserError
from asdpipe.method.metrics import METRICS
from asdpipe.paper.results import comparison, read_auc
from asdpipe.steps.evaluate import evaluate
from asdpipe.steps.summarize import summarize
from asdpipe.training.calibration import Calibration, write_calibration
from tests.scored import Scored, clip, write_scored

# ---------------------------------------------------------------- from scores to auc.csv


def labelled(machine: str, **facts) -> list[dict]:
    """Return eight clips of a section: AUC 0.6875, source 0.75, target 0.625, within the domains 0.5 and 0.75."""
    values = [(0, "source", True), (2, "source", True), (1, "target", True), (5.5, "target", True)]
    values += [(1.5, "source", False), (1.8, "source", False), (5, "target", False), (6, "target", False)]
    return [
        clip(
            machine,
            f"{facts.get('section', '00')}_{number}.wav",
            score,
            **{"domain": domain, "is_normal": normal, **facts},
        )
        for number, (score, domain, normal) in enumerate(values)
    ]


TRAIN = [clip("fan", "t0.wav", -2, split="train"), clip("fan", "t1.wav", -1, split="train")]


def run_evaluate(files: Scored, **options) -> pd.DataFrame:
    """Run the step, then the one over seeds, and return what the first wrote, by machine type."""
    auc = run_summarize([files], **options)
    return read_auc(auc).set_index("machine")


def run_summarize(seeds: Sequence[Scored], **options) -> Path:
    """Run evaluate for each seed, and summarize, in the first seed's folder; return the auc.csv of the last seed."""
    folder, aucs = seeds[0].clips.parent, []
    for seed, files in enumerate(seeds):
        aucs.append(files.clips.with_name("auc.csv"))
        evaluate("d", "m", 3, seed, files.clips, files.scores, aucs[-1], **options)
    scores, thresholds = [files.scores for files in seeds], [files.thresholds for files in seeds]
    summarize(seeds[0].clips, aucs, scores, thresholds, folder / "summary.csv", folder / "scores.csv")
    return aucs[-1]


@pytest.mark.parametrize(
    ("scoring", "terms"),
    [
        ("dcase2020", ["auc", "pauc"]),
        ("dcase2021", ["auc_source_within", "auc_target_within", "pauc_source_within", "pauc_target_within"]),
        ("dcase2022", ["auc_source", "auc_target", "pauc"]),
    ],
)
def test_a_seed_is_scored_by_the_formula_of_the_year(tmp_path, scoring, terms):
    clips = TRAIN + labelled("fan") + labelled("fan", section="01") + labelled("pump", is_normal=True)
    clips[-1]["is_normal"] = clips[-4]["is_normal"] = False
    frame = run_evaluate(write_scored(tmp_path, clips), scoring=scoring)
    assert list(frame.columns) == ["dataset", "method", "stage", "split", "section", "seed", *METRICS]
    fan = frame.loc["fan"].iloc[0]
    assert fan[["auc", "auc_source", "auc_target"]].tolist() == [68.75, 75, 62.5]
    assert fan[["auc_source_within", "auc_target_within"]].tolist() == [50, 75]
    rows = frame[~frame.index.isin(["mean", "hmean"])]
    values = rows[terms].to_numpy()
    assert len(rows) == 3
    if scoring == "dcase2020":
        expected = (values[:2].mean() + values[2].mean()) / 2
        assert fan.official == pytest.approx(values[0].mean(), abs=1e-3)
    else:
        expected = values.size / (1 / values).sum()
        assert fan.official == pytest.approx(len(terms) / (1 / values[0]).sum(), abs=1e-3)
    assert frame.official[["mean", "hmean"]].tolist() == pytest.approx([expected, expected], abs=1e-3)
    assert frame.auc["mean"] == pytest.approx(rows.auc.mean(), abs=1e-3)
    summary = read_auc(tmp_path / "summary.csv").set_index("machine")
    assert summary.official["hmean"] == frame.official["hmean"]
    assert comparison([tmp_path / "summary.csv"]).loc[("dev", "official"), "stage 3"] == frame.official["hmean"]


def test_data_without_domains_have_the_score_of_2020_only(tmp_path, caplog):
    files = write_scored(tmp_path, TRAIN + labelled("fan", domain=None))
    frame = run_evaluate(files, scoring="dcase2020")
    assert frame.drop(columns=["auc", "pauc", "official"])[list(METRICS[1:5])].isna().all(axis=None)
    assert frame.official["hmean"] == pytest.approx((frame.auc["fan"] + frame.pauc["fan"]) / 2, abs=1e-3)
    assert "no " not in caplog.text
    frame = run_evaluate(files, scoring="dcase2022")
    assert frame.official.isna().all()
    assert frame.auc["fan"] == 68.75
    assert "dev fan 00: no auc_source, auc_target" in caplog.text


def test_machine_types_without_labels_keep_an_empty_row_and_are_named(tmp_path, caplog):
    clips = TRAIN + labelled("pump", is_normal=None) + labelled("fan") + [clip("valve", "t.wav", 0, split="train")]
    with caplog.at_level(logging.WARNING):
        frame = run_evaluate(write_scored(tmp_path, clips))
    assert frame.index.tolist() == ["fan", "pump", "mean", "hmean"]
    assert frame.loc["pump", list(METRICS)].isna().all()
    assert frame.auc.drop("pump").tolist() == [68.75] * 3
    assert not np.isnan(frame.official["fan"])
    assert np.isnan(frame.official["hmean"])
    assert "8 of 16 test clips have no label" in caplog.text
    assert "they are of dev pump 00" in caplog.text
    assert "no test clips, so no metrics: dev valve" in caplog.text
    table = comparison([tmp_path / "summary.csv"])
    assert table.loc[("dev", "fan"), "stage 3"] == 68.75
    assert np.isnan(table.loc[("dev", "pump"), "stage 3"])


def test_of_a_partly_labelled_machine_type_the_labelled_clips_count(tmp_path):
    clips = TRAIN + labelled("fan") + [clip("fan", f"x{number}.wav", 9 - number, is_normal=None) for number in range(3)]
    frame = run_evaluate(write_scored(tmp_path, clips))
    assert frame.auc["fan"] == 68.75


def test_without_any_label_every_metric_is_empty(tmp_path, caplog):
    clips = TRAIN + labelled("fan", is_normal=None) + labelled("fan", part="eval", section="03", is_normal=None)
    with caplog.at_level(logging.WARNING):
        frame = run_evaluate(write_scored(tmp_path, clips))
    assert frame.index.tolist() == ["fan", "fan", "mean", "hmean", "mean", "hmean"]
    assert frame[list(METRICS)].isna().all(axis=None)
    assert "they are of dev fan 00, eval fan 03" in caplog.text
    assert "no test clip has a label" in caplog.text
    summary = pd.read_csv(tmp_path / "summary.csv")
    assert summary.machine.tolist() == frame.index.tolist()
    assert summary.filter(regex="auc|official").isna().all(axis=None)
    assert comparison([tmp_path / "summary.csv"]).isna().all(axis=None)


def test_without_test_clips_the_file_has_its_header_only(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        frame = run_evaluate(write_scored(tmp_path, [*TRAIN, clip("fan", "s.wav", 1, split="supplemental")]))
    assert frame.empty
    assert set(METRICS) <= set(frame.columns)
    assert "no test clips, so no metrics: dev fan" in caplog.text
    assert "no test clip has a label" in caplog.text
    header = (tmp_path / "summary.csv").read_text()
    assert header.startswith("dataset,method,stage,split,machine,section,seeds,auc,")
    assert header.count("\n") == 1
    assert comparison([tmp_path / "summary.csv", tmp_path / "auc.csv"]).empty
    # Beside a file that has rows it is left out.
    other = write_scored(tmp_path / "other", TRAIN + labelled("fan"))
    run_summarize([other])
    assert comparison([tmp_path / "summary.csv", tmp_path / "other/auc.csv"]).columns.tolist() == ["stage 3"]


# ---------------------------------------------------------------- scores.csv


def two_seeds(folder, clips: list[dict], shift: float = 1.0) -> tuple[Scored, Scored]:
    """Write the clips twice, the second time with higher scores."""
    higher = [facts | {"score": facts["score"] + shift} for facts in clips]
    return write_scored(folder / "0", clips, decision=1.7), write_scored(folder / "1", higher, decision=1.7)


def test_the_table_of_scores_has_a_row_per_test_clip_over_the_seeds(tmp_path):
    clips = [*TRAIN, *labelled("fan"), clip("fan", "new.wav", 0.1 + 0.2, part="eval", domain=None, is_normal=None)]
    first, second = two_seeds(tmp_path, clips)
    run_summarize([first, second])
    frame = pd.read_csv(tmp_path / "0/scores.csv", dtype={"section": str})
    assert ",".join(frame.columns) == (
        "path,machine,section,domain,split,part,is_normal,score,score_sd,anomalous,nearest_clip"
    )
    expected = [0, 2, 1, 5.5, 1.5, 1.8, 5, 6, 0.1 + 0.2]
    assert frame.score.tolist() == pytest.approx([value + 0.5 for value in expected], abs=1e-12)
    assert frame.score_sd.tolist() == pytest.approx([0.5**0.5] * 9)
    # Above 1.7: in both seeds, in the second only, in none.
    assert frame.anomalous.tolist() == [0, 1, 0.5, 1, 0.5, 1, 1, 1, 0]
    assert frame.path[8] == "recordings/eval/fan/test/new.wav"
    assert frame.loc[8, ["domain", "is_normal"]].isna().all()
    assert frame.is_normal.tolist()[:8] == [True] * 4 + [False] * 4
    assert set(frame.section) == {"00"}
    assert set(frame.nearest_clip) == {"recordings/dev/fan/train/t0.wav"}


def test_one_seed_has_no_deviation_and_decides_yes_or_no(tmp_path):
    files = write_scored(tmp_path, TRAIN + labelled("fan"), decision=2.0)
    run_summarize([files])
    frame = pd.read_csv(tmp_path / "scores.csv")
    assert frame.score_sd.isna().all()
    # A score at the threshold is not above it.
    assert frame.anomalous.tolist() == [0, 0, 0, 1, 0, 0, 1, 1]


def test_without_test_clips_the_table_lists_the_training_clips(tmp_path):
    files = write_scored(tmp_path, [*TRAIN, clip("fan", "s.wav", 1, split="supplemental")], decision=-1.5)
    run_summarize([files])
    frame = pd.read_csv(tmp_path / "scores.csv")
    assert frame.split.tolist() == ["train", "train"]
    assert frame.anomalous.tolist() == [0, 1]


def test_with_calibrations_there_are_p_values_of_the_mean_scores_and_the_most_suspicious_clip_is_first(tmp_path):
    clips = [*TRAIN, *labelled("fan"), clip("fan", "new.wav", 2.1, domain=None)]
    clips += [clip("pump", "p.wav", 9), clip("pump", "t.wav", -1, split="train")]
    seeds = two_seeds(tmp_path, clips)
    # Mean over the seeds: 0.5, 1.5, 2.5, 3.5 of the source, 1.5, ..., 5.5 of the target domain.
    rows = [("source", float(score)) for score in range(4)] + [("target", float(score)) for score in range(1, 6)]
    rows += [("pump", 0.0)]
    files = [tmp_path / "first.parquet", tmp_path / "second.parquet"]
    for shift, file in enumerate(files):
        table = pd.DataFrame(rows, columns=["condition", "score"]).assign(
            clip_id=[f"c{number}" for number in range(10)]
        )
        table["machine"] = np.where(table.condition == "pump", "pump", "fan")
        # In another order for each seed.
        table = table.assign(score=table.score + shift).iloc[:: 1 - 2 * shift]
        write_calibration(Calibration(table, 0.2), file, file.with_suffix(".csv"), {"by": "domain"})
    run_summarize(seeds)
    aucs = [files.clips.with_name("auc.csv") for files in seeds]
    inputs = [list(each) for each in zip(*[(files.scores, files.thresholds) for files in seeds], strict=True)]
    out = tmp_path / "out.csv"
    summarize(seeds[0].clips, aucs, *inputs, tmp_path / "auc.csv", out, calibrations=files)
    without, frame = pd.read_csv(tmp_path / "0/scores.csv"), pd.read_csv(out)
    assert frame.columns.tolist() == [*without.columns, "p_value", "alarm"]
    assert (
        frame[without.columns]
        .sort_values("path")
        .reset_index(drop=True)
        .equals(without.sort_values("path").reset_index(drop=True))
    )
    source, target = np.arange(4) + 0.5, np.arange(1, 6) + 0.5
    for row in frame.itertuples():
        of_source, of_target = ((1 + (group >= row.score).sum()) / (1 + len(group)) for group in (source, target))
        if row.machine == "pump":
            # One clip is too few for a rate of 20 %.
            assert np.isnan(row.p_value)
            assert pd.isna(row.alarm)
        else:
            known = {"source": of_source, "target": of_target}
            assert row.p_value == pytest.approx(known.get(row.domain, max(of_source, of_target)))
            assert row.alarm == (row.p_value <= 0.2)
    assert frame.p_value.dropna().is_monotonic_increasing
    # Of the same p-value, the one that is farther above its limit is first.
    assert frame.score[:2].tolist() == [6.5, 6]
    assert frame.p_value[0] == frame.p_value[1] == pytest.approx(1 / 6)
    assert frame.machine.iloc[-1] == "pump"
    with pytest.raises(UserError, match="give one per seed"):
        summarize(seeds[0].clips, aucs, *inputs, tmp_path / "auc.csv", out, calibrations=files[:1])


def test_scores_and_thresholds_that_do_not_belong_together_are_refused(tmp_path):
    fan = write_scored(tmp_path / "fan", TRAIN + labelled("fan"))
    pump = write_scored(tmp_path / "pump", labelled("pump"))
    run_summarize([fan])
    auc, outputs = fan.clips.with_name("auc.csv"), (tmp_path / "new/auc.csv", tmp_path / "new/scores.csv")
    with pytest.raises(UserError, match=r"1 auc.csv, 2 files of scores and 1 of thresholds: give one of each per seed"):
        summarize(fan.clips, [auc], [fan.scores, fan.scores], [fan.thresholds], *outputs)
    with pytest.raises(UserError, match=r"2 auc.csv, 1 files of scores and 1 of thresholds"):
        summarize(fan.clips, [auc, auc], [fan.scores], [fan.thresholds], *outputs)
    with pytest.raises(UserError, match="has no threshold of fan"):
        summarize(fan.clips, [auc], [fan.scores], [pump.thresholds], *outputs)
    # Neither output without the other.
    assert not (tmp_path / "new").exists()
