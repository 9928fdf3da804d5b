"""auc.csv: means per split, mean and variance over seeds, comparisons; damaged files are refused."""

import numpy as np
import pandas as pd
import pytest

from asdpipe.errors import UserError
from asdpipe.method.metrics import METRICS
from asdpipe.paper.results import comparison, over_seeds, read_auc, with_means


def one_seed(seed: int, values: dict[str, float]) -> pd.DataFrame:
    rows = [
        {"split": "dev", "machine": machine, "section": "00", **dict.fromkeys(METRICS, value)}
        for machine, value in values.items()
    ]
    return with_means(pd.DataFrame(rows), "dcase2022").assign(dataset="d", method="m", stage=1, seed=seed)


def test_means_are_per_split_and_skip_what_is_missing_but_the_official_score_needs_all():
    frame = one_seed(0, {"fan": 50.0, "pump": 75.0, "valve": np.nan}).set_index("machine")
    assert frame.auc["mean"] == 62.5
    assert frame.auc["hmean"] == pytest.approx(2 / (1 / 50 + 1 / 75))
    assert frame.section["mean"] == ""
    assert frame.official[["mean", "hmean"]].isna().all()
    frame = one_seed(0, {"fan": 50.0, "pump": 75.0}).set_index("machine")
    assert frame.official[["mean", "hmean"]].tolist() == pytest.approx([60, 60])


def test_variance_over_seeds_is_unbiased_and_empty_for_one():
    frame = over_seeds([one_seed(0, {"fan": 50.0}), one_seed(1, {"fan": 54.0}), one_seed(2, {"fan": 58.0})])
    fan = frame.set_index("machine").loc["fan"]
    assert (fan.seeds, fan.auc, fan.auc_var) == (3, 54.0, 16.0)
    assert over_seeds([one_seed(0, {"fan": 50.0})]).auc_var.isna().all()


def test_the_comparison_has_a_column_per_stage_and_keeps_gaps_empty(tmp_path):
    for stage, values in ((1, {"fan": 50.0, "pump": 60.0}), (2, {"fan": 70.0})):
        over_seeds([one_seed(0, values).assign(stage=stage)]).to_csv(tmp_path / f"{stage}.csv", index=False)
    table = comparison([tmp_path / "1.csv", tmp_path / "2.csv"])
    assert table.columns.tolist() == ["stage 1", "stage 2"]
    assert [machine for _, machine in table.index] == ["fan", "pump", "mean", "hmean", "official"]
    assert table.loc[("dev", "fan")].tolist() == [50, 70]
    assert np.isnan(table.loc[("dev", "pump"), "stage 2"])


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        ("d ba 1", "stage 1"),
        ("d ba 1, d ba 2", "stage 1, stage 2"),
        ("d raw_logmel 1 0, d ba 1, d ba 2", "raw_logmel, stage 1, stage 2"),
        ("d raw_logmel 1 0, d ba 1", "raw_logmel, ba"),
        ("d raw_logmel 1 0, d ba 5", "raw_logmel stage 1, ba stage 5"),
        ("d ba 1, d ba 2, d ex 1, d ex 2", "ba stage 1, ba stage 2, ex stage 1, ex stage 2"),
        ("d ba 1 0, d ba 1 7", "stage 1 seed 0, stage 1 seed 7"),
        ("d ba 1, e ba 1", "d stage 1, e stage 1"),
    ],
)
def test_columns_of_the_comparison_are_named_by_what_distinguishes_them(tmp_path, runs, names):
    files = []
    for number, run in enumerate(runs.split(", ")):
        dataset, method, stage, *seed = run.split()
        frame = one_seed(int((seed or [0])[0]), {"fan": 50.0 + number})
        frame = frame.assign(dataset=dataset, method=method, stage=int(stage))
        files.append(tmp_path / f"{number}.csv")
        (frame if seed else over_seeds([frame])).to_csv(files[-1], index=False)
    table = comparison(files)
    assert table.columns.tolist() == names.split(", ")
    assert table.loc[("dev", "fan")].tolist() == [50.0 + number for number in range(len(files))]


def test_another_csv_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"is not an auc.csv"):
        read_auc(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "", "is not an auc.csv"),
        (lambda text: text.replace("50.0", "fifty"), "is not an auc.csv"),
        (lambda text: text.replace(",1,", ",1e999,"), "is not an auc.csv"),
        (lambda text: text + '"', "is not an auc.csv"),
        (lambda text: text + "\x00,\xff,,,,,,,,,,,,,,,,,", "is not an auc.csv"),
        (lambda text: text + text.splitlines()[1], "has a row twice"),
    ],
)
def test_a_damaged_auc_csv_is_refused(tmp_path, change, said):
    file = tmp_path / "auc.csv"
    one_seed(0, {"fan": 50.0, "pump": 60.0}).to_csv(file, index=False)
    assert len(read_auc(file)) == 4
    file.write_text(change(file.read_text()), encoding="latin-1")
    with pytest.raises(UserError, match=f"auc.csv: {said}"):
        read_auc(file)
