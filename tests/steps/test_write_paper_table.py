"""The paper's tables: averages by hand, groups by N_out, gaps, csv and markdown."""

import csv
import json
import re
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from asdpipe.artifacts.files import write_csv
from asdpipe.artifacts.schemas import SCHEMAS
from asdpipe.artifacts.tables import write_table
from asdpipe.errors import UserError
from asdpipe.method.metrics import METRICS
from asdpipe.paper.published import TABLES
from asdpipe.paper.results import with_means
from asdpipe.steps.write_paper_table import write_paper_table
from tests.conftest import ROOT

YEARS = {"dcase2022": 2022, "dcase2023": 2023, "dcase2024": 2024}
LIMITS = {"ba_ex": 3, "ba_ex_500": 500, "ba_ex_2000": 2000}


class Folder:
    """Files of made-up runs, and the table of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.aucs: list[Path] = []
        self.selected: list[Path] = []
        self.selected_of: list[str] = []

    def run(self, dataset: str, method: str, stage: int, seed: int, rows: dict[str, dict | float]) -> Path:
        """Write an auc.csv as the step evaluate does: rows by "split machine [section]", one number or several."""
        listed = []
        for name, values in rows.items():
            split, machine, section = (*name.split(), "00")[:3]
            metrics = values if isinstance(values, dict) else dict.fromkeys(METRICS, values)
            listed.append(
                {"split": split, "machine": machine, "section": section, **dict.fromkeys(METRICS, np.nan), **metrics}
            )
        frame = with_means(pd.DataFrame(listed), "dcase2022")
        file = self.path / f"{len(self.aucs)}.csv"
        write_csv(frame.assign(dataset=dataset, method=method, stage=stage, seed=seed), file)
        self.aucs.append(file)
        return file

    def selection(self, dataset: str, n_out: dict[str, int], clips: int = 0, **facts: object) -> None:
        """Write a selection with these N_out."""
        file = self.path / f"selected{len(self.selected)}.parquet"
        texts = {name: [f"{name} {clip}" for clip in range(clips)] for name in ("clip_id", "machine", "mid")}
        columns = {name: texts.get(name, [None] * clips) for name in SCHEMAS["selected"].names}
        write_table("selected", pd.DataFrame(columns), file, {"n_out": n_out, "pool": 9, **facts})
        self.selected.append(file)
        self.selected_of.append(dataset)

    def table(self, table: str, datasets: dict[str, int | None], n_max: dict[str, int] | None = None) -> list[dict]:
        """Write the table and return the rows of its csv, as text."""
        write_paper_table(
            *(table, json.dumps(datasets), self.path / "t.csv", self.path / "t.md", json.dumps(n_max or {})),
            *(self.aucs, self.selected, self.selected_of),
        )
        with (self.path / "t.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    @property
    def markdown(self) -> str:
        return (self.path / "t.md").read_text(encoding="utf-8")

    def grid(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows of the markdown table."""
        lines = [line for line in self.markdown.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        assert {len(row) for row in cells} == {len(cells[0])}
        return cells[0], cells[2:]


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def one(rows: list[dict], **wanted: object) -> dict:
    [row] = [row for row in rows if all(row[key] == str(value) for key, value in wanted.items())]
    return row


def ours(row: dict) -> tuple[str, str, str]:
    return row["seeds"], row["mean"], row["variance"]


def number(row: dict, name: str) -> tuple:
    """Return what names a published number, and the number in its column."""
    names = ("table", "labels", "method", "stage1", "selection", "n_max", "year", "split", "machines", "metric")
    stage = "" if row["table"] == "4" else row["stage"]
    return *(row[name] for name in names), stage, float(row[name])


# ---------------------------------------------------------------- numbers


def test_mean_variance_and_difference_by_hand(folder):
    for seed, values in enumerate([(60, 60), (58, 66), (64, 70)]):
        fan, valve = values
        folder.run("dcase2023", "ba", 1, seed, {"dev fan": fan, "dev valve": valve, "eval bandsaw": 10 * seed})
    rows = folder.table("2", {"dcase2023": 2023})
    # Per seed 60, 62 and 67: their mean is 63, and (9 + 1 + 16) / 2 = 13. The paper has 64.8 ± 0.7.
    row = one(rows, run="ba", dataset="dcase2023", split="dev")
    assert ours(row) == ("3", "63.0000", "13.0000")
    assert (row["paper_mean"], row["paper_variance"], row["difference"]) == ("64.8000", "0.7000", "-1.8000")
    assert (row["table"], row["labels"], row["method"], row["stage"], row["metric"]) == (
        "2",
        "nolabel",
        "ba",
        "1",
        "auc",
    )
    assert ours(one(rows, run="ba", dataset="dcase2023", split="eval")) == ("3", "10.0000", "100.0000")
    assert sum(row["mean"] != "" for row in rows) == 2
    assert "| 63.0 ± 13.0 (paper 64.8 ± 0.7, \N{MINUS SIGN}1.8) |" in folder.markdown
    assert "(ours: 3 seeds)" in folder.markdown


def test_the_sections_of_a_machine_type_are_averaged_first(folder):
    folder.run("demo", "ba", 1, 0, {"dev fan 00": 40, "dev fan 01": 60, "dev fan 02": 80, "dev valve 00": 80})
    assert ours(one(folder.table("2", {"demo": None}), run="ba", dataset="demo", split="dev")) == ("1", "70.0000", "")
    assert "(ours: 1 seed)" in folder.markdown
    assert "| w/o label | Ba | 1 | 70.0 |  | (paper" in folder.markdown


def test_tables_without_splits_are_over_all_machine_types_of_both(folder):
    rows = {"dev fan": 40.0, "eval bandsaw": 60.0, "eval grinder": 70.0, "eval shaker": 90.0}
    folder.run("dcase2024", "ba_ps_from_ba_trp", 2, 0, rows)
    folder.run("dcase2024", "ba_ps", 2, 0, {"dev fan 00": 50, "eval fan 03": 70, "eval grinder 03": 90})
    table = folder.table("5", {"dcase2024": 2024})
    row = one(table, method="ba_ps", stage1="ba_trp", dataset="dcase2024")
    assert (row["mean"], row["paper_mean"], row["difference"]) == ("65.0000", "58.9000", "6.1000")
    # One machine type with sections in both: 60 and 90.
    assert one(table, method="ba_ps", stage1="ba", dataset="dcase2024")["mean"] == "75.0000"


def test_domains_have_their_own_numbers(folder):
    folder.run("demo", "ba", 1, 0, {"dev fan": {"auc": 1, "auc_source": 80, "auc_target": 60}})
    rows = folder.table("A1", {"demo": None})
    assert one(rows, run="ba", dataset="demo", split="dev", metric="auc_source")["mean"] == "80.0000"
    assert one(rows, run="ba", dataset="demo", split="dev", metric="auc_target")["mean"] == "60.0000"
    header, _ = folder.grid()
    assert header[3:7] == ["demo dev source", "demo dev target", "demo eval source", "demo eval target"]


def test_what_has_no_labels_is_left_out_and_nothing_measured_is_empty(folder):
    folder.run("demo", "ba", 1, 0, {"dev fan": 60, "dev valve": np.nan, "eval pump": np.nan})
    folder.run("demo", "ba", 1, 1, {"dev fan": np.nan, "dev valve": np.nan, "eval pump": np.nan})
    rows = folder.table("2", {"demo": None})
    assert ours(one(rows, run="ba", dataset="demo", split="dev")) == ("1", "60.0000", "")
    assert ours(one(rows, run="ba", dataset="demo", split="eval")) == ("", "", "")


def test_runs_of_other_tables_stages_and_seedless_methods(folder):
    folder.run("demo", "raw_logmel", 1, 0, {"dev fan": 70})
    folder.run("demo", "ba_trp_ps_ex", 1, 0, {"dev fan": 1})
    for seed, stage in product((0, 1), (2, 3)):
        folder.run("demo", "ba_trp_ps_ex", stage, seed, {"dev fan": 60 + stage})
    rows = [row for row in folder.table("2", {"demo": None}) if row["mean"]]
    assert [(row["run"], row["stage"], row["seeds"], row["mean"]) for row in rows] == [
        *(("ba_trp_ps_ex", str(stage), "2", f"{60 + stage}.0000") for stage in (2, 3)),
        ("raw_logmel", "1", "1", "70.0000"),
    ]
    assert "(ours: 1 to 2 seeds)" in folder.markdown
    assert "- Not in the paper: Raw log-mel, Autoencoder, Autoencoder (Mahalanobis)." in folder.markdown


def test_the_order_of_the_files_does_not_matter(folder):
    for seed, value in enumerate((61.3, 58.1, 64.9)):
        folder.run("demo", "ba", 1, seed, {"dev fan": value, "dev valve": value / 3})
    folder.table("2", {"demo": None})
    before = (folder.path / "t.csv").read_bytes(), folder.markdown
    folder.aucs.reverse()
    folder.table("2", {"demo": None})
    assert ((folder.path / "t.csv").read_bytes(), folder.markdown) == before


# ---------------------------------------------------------------- groups of Table 4


@pytest.fixture
def grouped(folder):
    # Mean N_out: fan 3, valve 2.5, pump 0. N_max is 3.
    folder.selection("dcase2022", {"fan": 4, "valve": 2})
    folder.selection("dcase2022", {"fan": 2, "valve": 3})
    for method, stage, offset in (("ba", 1, 0), ("ba_ex_500", 2, 5)):
        for seed in (0, 1):
            values = {"dev fan": 70.0, "eval fan 03": 74.0, "dev valve": 50.0, "eval pump": 60.0 + 10 * seed}
            folder.run("dcase2022", method, stage, seed, {name: value + offset for name, value in values.items()})
    return folder


def test_machine_types_are_grouped_by_their_mean_n_out_in_all_lines(grouped):
    rows = grouped.table("4", YEARS, LIMITS)
    for run, offset in (("ba", 0), ("ba_ex_500", 5)):
        large = one(rows, run=run, dataset="dcase2022", machines="large_n_out")
        small = one(rows, run=run, dataset="dcase2022", machines="small_n_out")
        # Small: (50 + 60) / 2 and (50 + 70) / 2.
        assert ours(large) == ("2", f"{72 + offset}.0000", "0.0000")
        assert ours(small) == ("2", f"{57.5 + offset:.4f}", "12.5000")
    assert (large["paper_mean"], large["difference"], large["n_max"]) == ("74.1000", "2.9000", "500")
    wanted = "Large N_out on dcase2022 (a mean over the seeds of at least 3, N_max of ba_ex): fan; small: pump, valve."
    assert f"- {wanted}" in grouped.markdown
    assert "2022 fan, valve; 2023 bandsaw, grinder; 2024 BrushlessMotor" in grouped.markdown


def test_another_n_max_than_the_papers_is_named(grouped):
    rows = grouped.table("4", YEARS, LIMITS)
    assert {row["run"]: (row["n_max"], row["our_n_max"]) for row in rows} == {
        "ba": ("", ""),
        **{"ba_ex_500": ("500", "500"), "ba_ex": ("1000", "3"), "ba_ex_2000": ("2000", "2000")},
        **{"ba_ex_random_500": ("500", ""), "ba_ex_random": ("1000", ""), "ba_ex_random_2000": ("2000", "")},
    }
    assert "- Our N_max is not the paper's: ba_ex 3 (paper: 1000)." in grouped.markdown
    grouped.table("4", YEARS, {**LIMITS, "ba_ex": 1000})
    assert "Our N_max" not in grouped.markdown


def test_an_n_max_that_is_auto_groups_every_machine_type_by_its_own(folder):
    n_max = {"fan": 50, "pump": 3, "valve": 2}
    folder.selection("dcase2022", {"fan": 49, "pump": 3, "valve": 1}, 1, resolved={"external.n_max": n_max})
    folder.run("dcase2022", "ba", 1, 0, {"dev fan": 90.0, "dev pump": 60.0, "dev valve": 50.0})
    limits = {"ba_ex": "auto", "ba_ex_500": "auto", "ba_ex_2000": 30}
    rows = folder.table("4", YEARS, limits)
    assert one(rows, run="ba", dataset="dcase2022", machines="large_n_out")["mean"] == "60.0000"
    assert one(rows, run="ba", dataset="dcase2022", machines="small_n_out")["mean"] == "70.0000"
    assert {row["run"]: row["our_n_max"] for row in rows if row["our_n_max"]} == {
        **{"ba_ex": "auto", "ba_ex_500": "auto", "ba_ex_2000": "30"}
    }
    assert "- Our N_max is not the paper's: ba_ex_2000 30 (paper: 2000)." in folder.markdown
    wanted = (
        "Our N_max follows the training clips of each machine type (auto): ba_ex_500 (paper: 500), ba_ex (paper: 1000)."
    )
    assert f"- {wanted}" in folder.markdown
    assert "at least N_max of the machine type, auto in ba_ex): pump; small: fan, valve." in folder.markdown


def test_a_group_without_machine_types_is_empty(grouped):
    rows = grouped.table("4", YEARS, {**LIMITS, "ba_ex": 5})
    assert ours(one(rows, run="ba", dataset="dcase2022", machines="large_n_out")) == ("", "", "")
    # (72 + 50 + 60) / 3 and (72 + 50 + 70) / 3
    assert one(rows, run="ba", dataset="dcase2022", machines="small_n_out")["mean"] == "62.3333"
    assert "N_max of ba_ex): none; small: fan, pump, valve." in grouped.markdown


def test_without_a_selection_there_are_no_groups(grouped):
    grouped.selected, grouped.selected_of = [], []
    assert not any(row["mean"] for row in grouped.table("4", YEARS))


def test_n_out_that_no_machine_type_has_makes_all_small(folder):
    folder.selection("demo", {})
    folder.run("demo", "ba", 1, 0, {"dev fan": 60})
    assert one(folder.table("4", {"demo": None}, LIMITS), run="ba", dataset="demo", machines="small_n_out")["mean"]


# ---------------------------------------------------------------- layout


@pytest.mark.parametrize("datasets", [{}, YEARS, {"demo": None, "dcase2023": 2023}])
def test_every_published_number_is_there_once_and_ours_are_empty(folder, datasets):
    rows = [row for table in TABLES for row in folder.table(table, datasets)]
    with (ROOT / "src/asdpipe/paper/iterative_asd.csv").open(newline="") as file:
        published = Counter(number(row, "mean") for row in csv.DictReader(file))
    assert Counter(number(row, "paper_mean") for row in rows if row["paper_mean"]) == published
    assert published.total() == 378
    assert not any(row[name] for row in rows for name in ("seeds", "mean", "variance", "difference"))
    assert "(ours: no seeds)" in folder.markdown
    assert not any("nan" in value.lower() for row in rows for value in row.values())


def test_columns_are_the_data_sets_in_order_then_the_papers_other_years(folder):
    folder.table("2", {"old": 2020, "demo": None, "dcase2024": 2024})
    header, body = folder.grid()
    names = ["old", "demo", "dcase2024", "DCASE 2022", "DCASE 2023"]
    assert header == ["labels", "method", "stage", *(f"{name} {split}" for name in names for split in ("dev", "eval"))]
    assert body[0] == [
        *("w/ label", "Wilkinghoff", "1", "", "", "", ""),
        *("(paper 67.2 ± 0.8)", "(paper 61.5 ± 0.6)", "(paper 82.5 ± 0.8)", "(paper 74.2 ± 0.3)"),
        *("(paper 73.1 ± 0.9)", "(paper 72.6 ± 0.7)"),
    ]
    assert body[7][:3] == ["w/o label", "Ba+L_trp+Ps+Ex", "2"]
    assert body[-1] == ["w/o label", "Autoencoder (Mahalanobis)", "1", *[""] * 10]


@pytest.mark.parametrize(
    ("table", "leading", "rows"),
    [
        ("3", ["method", "stage"], {5: ["Ba+Ps+L_trp", "2"], 6: ["Ba+Ex", "3"]}),
        (
            "4",
            ["method", "stage", "N_max"],
            {0: ["Ba", "1", ""], 1: ["Ba+Ex", "2", "500"], 6: ["Ba+Ex (random)", "2", "2000"]},
        ),
        ("5", ["method", "stage 1"], {1: ["Ba+Ps", "Ba+L_trp"], 2: ["Ba+L_trp+Ps", "Ba"]}),
        ("A2", ["method", "stage"], {0: ["Wilkinghoff", "1"], 3: ["Ba+Ex", "2"]}),
    ],
)
def test_lines_have_the_papers_names(folder, table, leading, rows):
    folder.table(table, YEARS)
    header, body = folder.grid()
    assert header[: len(leading)] == leading
    assert header[len(leading)].startswith("dcase2022")
    for index, names in rows.items():
        assert body[index][: len(leading)] == names


@pytest.mark.parametrize("table", TABLES)
def test_markdown_and_csv_agree(grouped, table):
    generator = np.random.default_rng(0)
    for method, stage in (("ba_labelled", 1), ("ba_trp_ps", 2), ("ba_trp_ps_ex", 3), ("wilkinghoff", 1)):
        for dataset, seed in product(("dcase2022", "demo"), (0, 1)):
            rows = {
                name: dict(zip(METRICS, generator.uniform(50, 100, 9), strict=False))
                for name in ("dev fan", "eval fan")
            }
            grouped.run(dataset, method, stage, seed, rows)
    rows = grouped.table(table, {"demo": None, **YEARS}, LIMITS)
    header, body = grouped.grid()
    width = len(header) - next(index for index, name in enumerate(header) if name.startswith("demo"))
    cells = [cell for line in body for cell in line[-width:]]
    shape = re.compile(r"(?:([\d.]+)(?: ± ([\d.]+))?)? ?(?:\(paper ([\d.]+) ± ([\d.]+)(?:, ([+-][\d.]+))?\))?")
    assert len(cells) == len(rows)
    measured = 0
    for cell, row in zip(cells, rows, strict=True):
        found = shape.fullmatch(cell.replace("\N{MINUS SIGN}", "-"))
        assert found, cell
        for text, name in zip(
            found.groups(), ("mean", "variance", "paper_mean", "paper_variance", "difference"), strict=True
        ):
            assert (text is None) == (row[name] == "")
            assert text is None or float(text) == pytest.approx(float(row[name]), abs=0.0501)
        measured += bool(row["mean"])
    assert measured > 0


# ---------------------------------------------------------------- bad input


def test_the_command_line_has_the_options_of_the_rule(grouped):
    app = typer.Typer()
    app.command()(write_paper_table)
    options = ["--table", "4", "--datasets", json.dumps(YEARS), "--n-max", json.dumps(LIMITS)]
    options += [text for file in grouped.aucs for text in ("--aucs", str(file))]
    options += [text for file in grouped.selected for text in ("--selected", str(file), "--selected-of", "dcase2022")]
    result = CliRunner().invoke(
        app, [*options, "--csv", str(grouped.path / "x.csv"), "--markdown", str(grouped.path / "x.md")]
    )
    assert result.exit_code == 0, result.output
    grouped.table("4", YEARS, LIMITS)
    assert (grouped.path / "x.csv").read_bytes() == (grouped.path / "t.csv").read_bytes()
    assert (grouped.path / "x.md").read_text(encoding="utf-8") == grouped.markdown


def test_inputs_that_do_not_belong_together_are_refused(grouped):
    with pytest.raises(UserError, match=r"table '6'.*choose one of 2, 3, 4, 5, A1, A2"):
        grouped.table("6", YEARS)
    with pytest.raises(
        UserError, match=r"0\.csv: is of the data set dcase2022, which --datasets does not name \(demo\)"
    ):
        grouped.table("2", {"demo": None})
    with pytest.raises(UserError, match=r"--selected-of: --datasets does not name elsewhere"):
        grouped.selected_of[1] = "elsewhere"
        grouped.table("4", YEARS, LIMITS)
    grouped.selected_of.pop()
    with pytest.raises(UserError, match=r"2 files of --selected but 1 data sets"):
        grouped.table("4", YEARS, LIMITS)
    grouped.selected.pop()
    with pytest.raises(UserError, match=r"--n-max: has no ba_ex"):
        grouped.table("4", YEARS, {"ba_ex_500": 500})
    assert not list(grouped.path.glob("t.*"))


def test_a_run_that_comes_twice_is_refused(folder):
    folder.run("demo", "ba", 1, 0, {"dev fan": 60})
    folder.run("demo", "ba", 1, 1, {"dev fan": 60})
    folder.run("demo", "ba", 1, 0, {"dev fan": 62})
    with pytest.raises(UserError, match=r"2\.csv: ba on demo, stage 1, seed 0, is in .*0\.csv, too"):
        folder.table("2", {"demo": None})


def test_results_over_seeds_are_refused(folder):
    file = folder.run("demo", "ba", 1, 0, {"dev fan": 60})
    pd.read_csv(file).drop(columns="seed").assign(seeds=3).to_csv(file, index=False)
    with pytest.raises(UserError, match=r"0\.csv: has no column seed"):
        folder.table("2", {"demo": None})


def test_a_result_without_test_clips_is_empty(folder):
    file = folder.run("demo", "ba", 1, 0, {"dev fan": 60})
    file.write_text(file.read_text().splitlines()[0] + "\n")
    assert not any(row["mean"] for row in folder.table("2", {"demo": None}))


def test_clips_drawn_at_random_make_no_groups(folder):
    folder.selection("demo", {}, clips=2)
    with pytest.raises(UserError, match=r"selected0\.parquet: has no N_out, its clips were drawn at random"):
        folder.table("4", {"demo": None}, LIMITS)


@pytest.mark.parametrize(
    ("datasets", "n_max"), [("{", "{}"), ('{"demo": "new"}', "{}"), ('["demo"]', "{}"), ("{}", "3")]
)
def test_options_that_are_not_the_json_needed_are_refused(tmp_path, datasets, n_max):
    with pytest.raises(UserError, match=r"--(datasets|n-max): .* is not the JSON that is needed"):
        write_paper_table("2", datasets, tmp_path / "t.csv", tmp_path / "t.md", n_max)
