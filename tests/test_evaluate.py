"""Tables of results: means per split, variance over seeds, missing values."""

import numpy as np
import pandas as pd
import pytest

from asdpipe.errors import UserError
from asdpipe.method.metrics import METRICS
from asdpipe.steps.evaluate import comparison, over_seeds, read_auc, with_means


def one_seed(seed: int, values: dict[str, float]) -> pd.DataFrame:
    rows = [
        {"split": "dev", "machine": machine, "section": "00", **dict.fromkeys(METRICS, value)}
        for machine, value in values.items()
    ]
    return with_means(pd.DataFrame(rows)).assign(dataset="d", method="m", stage=1, seed=seed)


def test_means_are_per_split_and_skip_what_is_missing():
    frame = one_seed(0, {"fan": 50.0, "pump": 75.0, "valve": np.nan}).set_index("machine")
    assert frame.auc["mean"] == 62.5
    assert frame.auc["hmean"] == pytest.approx(2 / (1 / 50 + 1 / 75))
    assert frame.section["mean"] == ""


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


def test_another_csv_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"is not an auc.csv"):
        read_auc(tmp_path / "x.csv")
