"""Submission files: names and rows of each year, and a small evaluator that reads them as the official ones do."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from asdpipe.errors import UserError
from asdpipe.paper.results import read_auc
from asdpipe.steps.evaluate import evaluate
from asdpipe.steps.write_submission import write_submission
from tests.conftest import SHARED
from tests.scored import Scored, clip, write_scored

TRUTH_2023 = SHARED / "dcase_ground_truth/2023/nttcslab_evaluator"


def submit(files: Scored, scoring: str) -> dict[str, list[list[str]]]:
    """Run the step and return the rows of every file it wrote."""
    folder = files.clips.with_name("submission")
    write_submission(*files, folder, scoring)
    return {file.name: sorted_rows(file, in_order=False) for file in sorted(folder.iterdir())}


def sorted_rows(file: Path, in_order: bool = True) -> list[list[str]]:
    with file.open(newline="") as lines:
        rows = list(csv.reader(lines))
    return sorted(rows) if in_order else rows


def by_position(submitted: Path, truth: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and ground truth of one file, joined as the evaluators do: both sorted, row by row."""
    ours, theirs = sorted_rows(submitted), sorted_rows(truth)
    assert len(ours) == len(theirs)
    return np.array([float(row[1]) for row in ours]), np.array([int(row[1]) for row in theirs])


def official_2022(folder: Path, truth: Path, keys: list[tuple[str, str]]) -> float:
    values = []
    for machine, section in keys:
        name = f"{machine}_section_{section}_test.csv"
        score, label = by_position(folder / f"anomaly_score_{name}", truth / f"ground_truth_data/ground_truth_{name}")
        _, domain = by_position(folder / f"anomaly_score_{name}", truth / f"ground_truth_domain/ground_truth_{name}")
        for is_target in (0, 1):
            kept = (domain == is_target) | (label == 1)
            values.append(roc_auc_score(label[kept], score[kept]))
        values.append(roc_auc_score(label, score, max_fpr=0.1))
    return len(values) / sum(1 / max(value, np.finfo(float).eps) for value in values)


def official_2021(folder: Path, truth: Path, keys: list[tuple[str, str]]) -> float:
    values = []
    for machine, section in keys:
        for domain in ("source", "target"):
            name = f"{machine}_section_{section}_{domain}_test.csv"
            score, label = by_position(folder / f"anomaly_score_{name}", truth / f"ground_truth_{name}")
            values += [roc_auc_score(label, score), roc_auc_score(label, score, max_fpr=0.1)]
    return len(values) / sum(1 / max(value, np.finfo(float).eps) for value in values)


def average_2020(folder: Path, truth: Path, keys: list[tuple[str, str]]) -> dict[str, tuple[float, float]]:
    """Return the average AUC and pAUC over the IDs of every machine type; the file names all clips of all machines."""
    lists: dict[str, list[list[str]]] = {}
    for row in sorted_rows(truth, in_order=False):
        if len(row) == 1:
            rows = lists.setdefault(row[0], [])
        else:
            rows.append(row)
    values: dict[str, list[tuple[float, float]]] = {}
    for machine, section in keys:
        ours = sorted_rows(folder / f"anomaly_score_{machine}_id_{section}.csv")
        theirs = sorted(row for row in lists[machine] if row[0].startswith(f"id_{section}_"))
        score, label = [float(row[1]) for row in ours], [int(row[2]) for row in theirs]
        assert len(score) == len(label)
        both = roc_auc_score(label, score), roc_auc_score(label, score, max_fpr=0.1)
        values.setdefault(machine, []).append(both)
    return {machine: tuple(np.mean(of_ids, axis=0)) for machine, of_ids in values.items()}


def made_up(rng: np.random.Generator, domain: str | None, is_normal: bool) -> float:
    return float(rng.normal() + 0.7 * (not is_normal) + 0.5 * (domain == "target"))


def official(files: Scored, scoring: str) -> float:
    """Return the official score of the evaluation part as auc.csv has it, in [0, 1]."""
    auc = files.clips.with_name("auc.csv")
    evaluate("d", "m", 1, 0, files.clips, files.scores, auc, scoring)
    frame = read_auc(auc)
    return frame[(frame.split == "eval") & (frame.machine == "hmean")].official.item() / 100


def evaluation_set(truth: Path, scoring: str, seed: int = 0) -> list[dict]:
    """Return made-up eval clips of two machine types with two sections, and write their ground truth."""
    rng = np.random.default_rng(seed)
    domains = [None] if scoring == "dcase2020" else ["source", "target"]
    clips, listed = [clip("fan", "section_00_source_test_normal_0000.wav", 0.0)], []
    for machine in ("fan", "ToyCar"):
        listed.append([machine])
        for section in ("03", "04"):
            # Numbers say nothing of label and domain, except in 2021, whose names and files are by domain.
            facts = [(domain, bool(normal)) for domain in domains for normal in (0, 1) for _ in range(20)]
            for number, index in enumerate(rng.permutation(len(facts))):
                domain, normal = facts[index]
                score = made_up(rng, domain, normal)
                name = {
                    "dcase2020": f"id_{section}_{number:08d}.wav",
                    "dcase2021": f"section_{section}_{domain}_test_{number:04d}.wav",
                    "dcase2022": f"section_{section}_{number:04d}.wav",
                }[scoring]
                facts_of = {"section": section, "domain": domain, "part": "eval", "is_normal": normal}
                clips.append(clip(machine, name, score, **facts_of))
                listed.append([name, "true_name.wav", str(int(not normal))])
    truth.mkdir()
    table = pd.DataFrame(clips[1:])
    table["label"] = [int(not normal) for normal in table.is_normal]
    table["is_target"] = (table.domain == "target").astype(int)
    if scoring == "dcase2020":
        (truth / "eval_data_list.csv").write_text("".join(",".join(row) + "\n" for row in listed))
    if scoring == "dcase2021":
        for (machine, section, domain), part in table.groupby(["machine", "section", "domain"]):
            file = truth / f"ground_truth_{machine}_section_{section}_{domain}_test.csv"
            part[["file", "label"]].to_csv(file, header=False, index=False)
    if scoring == "dcase2022":
        for column, kind in (("label", "data"), ("is_target", "domain")):
            (truth / f"ground_truth_{kind}").mkdir()
            for (machine, section), part in table.groupby(["machine", "section"]):
                file = truth / f"ground_truth_{kind}/ground_truth_{machine}_section_{section}_test.csv"
                part[["file", column]].to_csv(file, header=False, index=False)
    rng.shuffle(clips)
    return clips


KEYS = [(machine, section) for machine in ("fan", "ToyCar") for section in ("03", "04")]


@pytest.mark.parametrize(("scoring", "evaluator"), [("dcase2022", official_2022), ("dcase2021", official_2021)])
def test_an_evaluator_finds_in_the_files_what_auc_csv_says(tmp_path, scoring, evaluator):
    files = write_scored(tmp_path, evaluation_set(tmp_path / "truth", scoring))
    submit(files, scoring)
    found = evaluator(tmp_path / "submission", tmp_path / "truth", KEYS)
    assert 0.5 < found < 0.9
    assert official(files, scoring) == pytest.approx(found, abs=1e-6)
    other = "dcase2021" if scoring == "dcase2022" else "dcase2022"
    assert official(files, other) != pytest.approx(found, abs=1e-3)


def test_an_evaluator_of_2020_finds_in_the_files_what_auc_csv_says(tmp_path):
    files = write_scored(tmp_path, evaluation_set(tmp_path / "truth", "dcase2020"))
    written = submit(files, "dcase2020")
    assert list(written) == [f"anomaly_score_{machine}_id_{section}.csv" for machine, section in sorted(KEYS)]
    assert written["anomaly_score_fan_id_03.csv"][0][0] == "id_03_00000000.wav"
    found = average_2020(tmp_path / "submission", tmp_path / "truth/eval_data_list.csv", KEYS)
    total = official(files, "dcase2020")
    assert total == pytest.approx(np.mean(list(found.values())), abs=1e-6)
    frame = read_auc(tmp_path / "auc.csv")
    fan = frame[(frame.machine == "fan") & (frame.split == "eval")]
    assert (fan.auc.mean() / 100, fan.pauc.mean() / 100) == pytest.approx(found["fan"], abs=1e-6)


@pytest.mark.skipif(not TRUTH_2023.is_dir(), reason=f"the ground truth of 2023 is not there ({TRUTH_2023})")
def test_with_the_genuine_ground_truth_of_2023(tmp_path):
    rng = np.random.default_rng(1)
    clips, keys = [], []
    for file in sorted(TRUTH_2023.glob("ground_truth_data/*.csv")):
        machine = file.name.split("_")[2]
        keys.append((machine, "00"))
        labels = dict(sorted_rows(file))
        domains = dict(sorted_rows(TRUTH_2023 / "ground_truth_domain" / file.name))
        for name, label in labels.items():
            domain, normal = ("source", "target")[int(domains[name])], label == "0"
            score = made_up(rng, domain, normal)
            clips.append(clip(machine, name, score, domain=domain, part="eval", is_normal=normal))
    assert (len(keys), len(clips)) == (7, 1400)
    rng.shuffle(clips)
    files = write_scored(tmp_path, clips, decision=0.8)
    written = submit(files, "dcase2022")
    assert len(written) == 14
    found = official_2022(tmp_path / "submission", TRUTH_2023, keys)
    assert official(files, "dcase2022") == pytest.approx(found, abs=1e-6)
    for machine, section in keys:
        decided = written[f"decision_result_{machine}_section_{section}_test.csv"]
        scores = written[f"anomaly_score_{machine}_section_{section}_test.csv"]
        assert [row[0] for row in decided] == [row[0] for row in scores] == sorted(row[0] for row in scores)
        assert [row[1] for row in decided] == [str(int(float(row[1]) > 0.8)) for row in scores]


FAN = [
    clip("fan", "section_03_0001.wav", 0.1 + 0.2, section="03", part="eval", is_normal=None),
    clip("fan", "section_03_0000.wav", -1e-7, section="03", part="eval", is_normal=None, domain="target"),
    clip("fan", "section_00_source_test_normal_0000.wav", 0.4),
    clip("fan", "section_00_source_train_normal_0000.wav", 0.2, split="train"),
]


def test_scores_are_whole_rows_in_order_and_only_of_the_evaluation_part(tmp_path):
    written = submit(write_scored(tmp_path, FAN, decision=0.3), "dcase2022")
    assert written == {
        "anomaly_score_fan_section_03_test.csv": [
            ["section_03_0000.wav", "-1e-07"],
            ["section_03_0001.wav", "0.30000000000000004"],
        ],
        "decision_result_fan_section_03_test.csv": [["section_03_0000.wav", "0"], ["section_03_0001.wav", "1"]],
    }
    text = (tmp_path / "submission/anomaly_score_fan_section_03_test.csv").read_bytes()
    assert text == b"section_03_0000.wav,-1e-07\nsection_03_0001.wav,0.30000000000000004\n"


def test_files_of_2021_are_by_domain(tmp_path):
    written = submit(write_scored(tmp_path, FAN), "dcase2021")
    names = [
        f"{kind}_fan_section_03_{domain}_test.csv"
        for kind in ("anomaly_score", "decision_result")
        for domain in ("source", "target")
    ]
    assert list(written) == names
    assert written["anomaly_score_fan_section_03_target_test.csv"] == [["section_03_0000.wav", "-1e-07"]]
    unknown = [*FAN, clip("fan", "section_03_0002.wav", 0, section="03", part="eval", domain=None)]
    with pytest.raises(UserError, match=r"domain of 1 test clips is unknown, e.g. eval/fan/test/section_03_0002.wav"):
        submit(write_scored(tmp_path, unknown), "dcase2021")
    # What was written before is still whole.
    assert sorted(file.name for file in (tmp_path / "submission").iterdir()) == names


def test_without_an_evaluation_part_the_development_clips_are_written_and_the_log_says_so(tmp_path, caplog):
    written = submit(write_scored(tmp_path, FAN[2:], decision=0.3), "dcase2022")
    name = "section_00_source_test_normal_0000.wav"
    assert written == {
        "anomaly_score_fan_section_00_test.csv": [[name, "0.4"]],
        "decision_result_fan_section_00_test.csv": [[name, "1"]],
    }
    assert "these files are of the development test clips" in caplog.text


def test_a_second_run_leaves_none_of_the_files_of_the_first(tmp_path):
    submit(write_scored(tmp_path, FAN), "dcase2021")
    assert list(submit(write_scored(tmp_path, FAN), "dcase2020")) == ["anomaly_score_fan_id_03.csv"]


@pytest.mark.parametrize("score", [None, float("inf")])
def test_a_clip_without_a_finite_score_ends_in_a_message(tmp_path, score):
    clips = [*FAN, FAN[0] | {"file": "section_03_0002.wav", "score": score}]
    with pytest.raises(UserError, match=r"1 test clips have no score, e.g. eval/fan/test/section_03_0002.wav"):
        submit(write_scored(tmp_path, clips), "dcase2022")
    assert not (tmp_path / "submission").exists()


def test_without_test_clips_there_is_nothing_to_submit(tmp_path):
    with pytest.raises(UserError, match="has no test clips"):
        submit(write_scored(tmp_path, FAN[3:]), "dcase2022")
    assert not (tmp_path / "submission").exists()
