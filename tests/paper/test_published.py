"""The published numbers: complete, as printed, and each line with the run of ours that has the same parts."""

import csv
from collections import Counter

import pytest

from asdpipe.config.schema import Config
from asdpipe.data.dcase.years import YEARS
from asdpipe.errors import UserError
from asdpipe.paper import published as paper
from asdpipe.paper.published import BASELINES, TABLES, Run
from tests.conftest import ROOT

CONFIG = Config.model_validate({"dataset": "dcase2023"})


def number(table: str, year: int, run: Run, split: str = "", machines: str = "", metric: str = "auc") -> tuple:
    [found] = [
        value
        for (line, its_year, place), value in paper.published(table).items()
        if (its_year, line.run, *place) == (year, run, split, machines, metric)
    ]
    return tuple(found)


def test_every_row_of_the_csv_is_in_one_table_once():
    with (ROOT / "src/asdpipe/paper/iterative_asd.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 378
    columns = ["table", "labels", "method", "stage1", "selection", "n_max", "year", "split", "machines", "metric"]
    expected = Counter(
        (*(row[column] for column in columns), row["stage"], float(row["mean"]), float(row["variance"])) for row in rows
    )
    found = Counter(
        (
            *(name, line.labels, line.method, line.stage1, line.selection, str(line.n_max or ""), str(year), *place),
            *("" if name == "4" else str(line.run.stage), *value),
        )
        for table, name in TABLES.items()
        for (line, year, place), value in paper.published(table).items()
    )
    assert found == expected
    assert [len(paper.published(table)) for table in TABLES] == [66, 42, 42, 12, 132, 84]


# Read in the printed tables.
PRINTED = [
    ("2", 2022, Run("wilkinghoff", 1), {"split": "dev"}, (67.2, 5.8)),
    ("2", 2022, Run("wilkinghoff_labelled", 1), {"split": "eval"}, (74.2, 0.3)),
    ("2", 2024, Run("ba_trp_ps_ex", 5), {"split": "eval"}, (56.8, 0.1)),
    ("2", 2023, Run("ba_trp_ps_ex", 4), {"split": "eval"}, (70.7, 1.5)),
    ("3", 2022, Run("ba_ex_labelled", 3), {"split": "dev"}, (82.2, 0.8)),
    ("3", 2022, Run("ba_trp_ps_labelled", 2), {"split": "eval"}, (75.8, 0.5)),
    ("3", 2024, Run("ba_ps_labelled", 2), {"split": "eval"}, (61.0, 1.1)),
    ("4", 2022, Run("ba", 1), {"machines": "large_n_out"}, (71.8, 1.2)),
    ("4", 2024, Run("ba_ex", 2), {"machines": "large_n_out"}, (66.1, 5.7)),
    ("4", 2023, Run("ba_ex_500", 2), {"machines": "small_n_out"}, (66.6, 0.8)),
    ("4", 2024, Run("ba_ex_random", 2), {"machines": "large_n_out"}, (59.2, 2.9)),
    ("4", 2023, Run("ba_ex_random_2000", 2), {"machines": "large_n_out"}, (61.5, 1.5)),
    ("5", 2023, Run("ba_ps_from_ba_trp", 2), {}, (63.5, 1.3)),
    ("5", 2022, Run("ba_trp_ps_from_ba", 2), {}, (71.8, 0.4)),
    ("5", 2024, Run("ba_trp_ps", 2), {}, (60.3, 1.2)),
    ("A1", 2022, Run("ba_trp_ps_ex", 5), {"split": "dev", "metric": "auc_source"}, (82.9, 0.6)),
    ("A1", 2023, Run("ba_trp_ps_ex", 2), {"split": "eval", "metric": "auc_target"}, (66.2, 4.2)),
    ("A1", 2024, Run("ba", 1), {"split": "eval", "metric": "auc_source"}, (52.5, 1.5)),
    ("A2", 2022, Run("ba_ps_labelled", 2), {"split": "eval", "metric": "auc_source"}, (79.8, 0.1)),
    ("A2", 2023, Run("ba_trp_labelled", 1), {"split": "dev", "metric": "auc_source"}, (70.5, 2.8)),
    ("A2", 2024, Run("ba_ex_labelled", 3), {"split": "eval", "metric": "auc_target"}, (67.1, 0.8)),
]


@pytest.mark.parametrize(("table", "year", "run", "place", "value"), PRINTED)
def test_a_number_is_the_printed_one(table, year, run, place, value):
    assert number(table, year, run, **place) == value


# The text of §5.3 averages Table 2 over its data sets.
@pytest.mark.parametrize(
    ("run", "average"),
    [
        *((Run("wilkinghoff_labelled", 1), 71.9), (Run("ba_labelled", 1), 73.2)),
        *((Run("wilkinghoff", 1), 62.3), (Run("ba", 1), 63.6)),
        *((Run("ba_trp_ps_ex", stage), average) for stage, average in ((2, 67.5), (3, 68.3), (4, 68.5), (5, 68.9))),
    ],
)
def test_table_2_has_the_averages_that_the_text_names(run, average):
    values = [value.mean for (line, _, _), value in paper.published("2").items() if line.run == run]
    assert len(values) == 6
    assert sum(values) / 6 == pytest.approx(average, abs=0.0501)


@pytest.mark.parametrize(("table", "other"), [("2", "3"), ("A1", "A2")])
def test_what_two_tables_print_is_the_same_in_both(table, other):
    # Table 2's header orders its columns otherwise than its rows; Table 3's does not.
    one, two = (
        {(line.run, year, place): value for (line, year, place), value in paper.published(name).items()}
        for name in (table, other)
    )
    shared = one.keys() & two.keys()
    assert {run for run, _, _ in shared} == {Run("wilkinghoff_labelled", 1), Run("ba_labelled", 1)}
    assert {key: one[key] for key in shared} == {key: two[key] for key in shared}


def test_lines_and_runs_are_in_the_papers_order_with_our_baselines_last():
    unlabelled = ["wilkinghoff", "ba", "ba_trp", "ba_trp_ex", "ba_trp_ps", *["ba_trp_ps_ex"] * 4]
    baselines = ["raw_logmel", "autoencoder", "autoencoder_mahalanobis"]
    for table in ("2", "A1"):
        runs = paper.runs(table)
        assert [run.method for run in runs] == ["wilkinghoff_labelled", "ba_labelled", *unlabelled, *baselines]
        assert [run.stage for run in runs] == [1, 1, 1, 1, 1, 2, 2, 2, 3, 4, 5, 1, 1, 1]
    for table in ("3", "A2"):
        assert [f"{method} {stage}" for method, stage in paper.runs(table)] == [
            *("wilkinghoff_labelled 1", "ba_labelled 1", "ba_trp_labelled 1", "ba_ex_labelled 2", "ba_ps_labelled 2"),
            *("ba_trp_ps_labelled 2", "ba_ex_labelled 3"),
        ]
    assert [line.n_max for line in paper.lines("4")] == [None, 500, 1000, 2000, 500, 1000, 2000]
    assert [line.stage1 for line in paper.lines("5")] == ["ba", "ba_trp", "ba", "ba_trp"]
    assert not set(BASELINES) & {line for line, _, _ in paper.published("2")}


@pytest.mark.parametrize("table", TABLES)
def test_the_settings_of_a_run_are_the_parts_of_its_line(table):
    for line in paper.lines(table):
        if line in BASELINES:
            continue
        method, parts = CONFIG.resolve_method(line.run.method), line.method.split("_")
        assert method.training.kind == "clips"
        assert method.labels.kind == {"label": "attribute", "nolabel": "machine"}[line.labels]
        assert method.loss.branches == ("ba" in parts)
        assert (method.triplet.enabled, method.external.enabled, method.pseudo_labels.enabled) == tuple(
            part in parts for part in ("trp", "ex", "ps")
        )
        if line.n_max:
            chosen = {"score": "anomaly_score", "random": "random"}[method.external.selection]
            assert (chosen, method.external.n_max) == (line.selection, line.n_max)
        if line.stage1:
            assert CONFIG.owner_of_first_model(line.run.method) == line.stage1


def test_machine_types_with_large_n_out_are_of_their_year():
    for year, machines in paper.LARGE_N_OUT.items():
        assert set(machines) < {*YEARS[year].dev, *YEARS[year].eval}
    assert [*paper.LARGE_N_OUT] == paper.years("4")


def test_another_table_is_refused_with_the_names_of_the_six():
    with pytest.raises(UserError, match=r"'A\.1'.*choose one of 2, 3, 4, 5, A1, A2"):
        paper.runs("A.1")
