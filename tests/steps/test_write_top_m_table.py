"""The tables of the Top-M paper: numbers by pandas, gaps, means that lack a machine type, csv and markdown."""

import csv
import json
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from asdpipe.artifacts.files import write_csv
from asdpipe.errors import UserError
from asdpipe.method.metrics import METRICS
from asdpipe.paper.results import with_means
from asdpipe.paper.top_m import LABELS_PER_CLIP, MACHINES
from asdpipe.steps.write_top_m_table import write_top_m_table
from tests.conftest import ROOT

OF_2025 = {"dcase2025": {machine: machine for machine in MACHINES}}
UNITED = {"united": {f"dcase2025_{machine}": machine for machine in MACHINES}}
BY_METRIC = {"sauc": "auc_source", "tauc": "auc_target", "pauc": "pauc"}


class Folder:
    """Files of made-up runs, and the table of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.aucs: list[Path] = []

    def run(self, dataset: str, method: str, seed: int, rows: dict[str, dict[str, float]], split: str = "dev") -> None:
        """Write an auc.csv as the step evaluate does: rows by "machine [section]"."""
        listed = [
            {"split": split, "machine": name, "section": "00", **dict.fromkeys(METRICS, np.nan), **values}
            for name, values in rows.items()
        ]
        frame = with_means(pd.DataFrame(listed), "dcase2022")
        file = self.path / f"{len(self.aucs)}.csv"
        write_csv(frame.assign(dataset=dataset, method=method, stage=1, seed=seed), file)
        self.aucs.append(file)

    def random(self, dataset: str, method: str, seed: int, prefix: str = "") -> None:
        """Write a run of all machine types; every number is there, so that a mixed-up column is noticed."""
        draw = np.random.default_rng([seed, len(method)])
        rows = {f"{prefix}{name}": dict(zip(METRICS, draw.uniform(20, 95, 9), strict=True)) for name in MACHINES}
        self.run(dataset, method, seed, rows)

    def table(self, backbone: str, datasets: dict[str, dict[str, str]]) -> list[dict[str, str]]:
        """Write the table and return the rows of its csv."""
        options = (backbone, json.dumps(datasets), self.path / "t.csv", self.path / "t.md", self.aucs)
        write_top_m_table(*options)
        with (self.path / "t.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    @property
    def markdown(self) -> str:
        return (self.path / "t.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def one(rows: list[dict[str, str]], **wanted: object) -> dict[str, str]:
    [row] = [row for row in rows if all(row[key] == str(value) for key, value in wanted.items())]
    return row


@pytest.mark.parametrize(("datasets", "prefix"), [(OF_2025, ""), (UNITED, "dcase2025_")])
def test_every_cell_is_what_pandas_makes_of_the_files(folder, datasets, prefix):
    [dataset] = datasets
    systems = ["topm_beats_m1", "topm_beats_m7", "raw_logmel"]
    for method, seed in product(systems, range(3)):
        folder.random(dataset, method, seed, prefix)
    # Another year of the united set, and the evaluation set: not in this table.
    folder.run(dataset, "topm_beats_m3", 0, {"dcase2024_fan": dict.fromkeys(METRICS, 99.0)})
    folder.run(dataset, "topm_beats_m5", 0, {f"{prefix}fan": dict.fromkeys(METRICS, 99.0)}, split="eval")
    rows = folder.table("beats", datasets)
    measured = [row for row in rows if row["mean"]]
    assert len(measured) == 3 * 5 * 8
    assert {row["system"] for row in measured} == set(systems)

    read = pd.concat(map(pd.read_csv, folder.aucs))
    read = read[read.machine.str.removeprefix(prefix).isin(MACHINES) & (read.method.isin(systems))]
    long = read.rename(columns={name: metric for metric, name in BY_METRIC.items()})
    long["machine"] = long.machine.str.removeprefix(prefix)
    long["ave"] = long[["sauc", "tauc"]].mean(axis=1)
    long["hmean"] = 3 / (1 / long[["sauc", "tauc", "pauc"]]).sum(axis=1)
    long = long.melt(["method", "seed", "machine"], ["sauc", "tauc", "ave", "pauc", "hmean"], "metric")
    inverse = long.assign(value=1 / long.value).groupby(["method", "seed", "metric"]).value.mean()
    over = (1 / inverse).reset_index().assign(machine="hmean")
    expected = pd.concat([long, over]).groupby(["method", "metric", "machine"]).value.agg(["mean", "var", "count"])
    for row in measured:
        mean, variance, seeds = expected.loc[row["system"], row["metric"], row["machine"]]
        assert int(row["seeds"]) == seeds == 3
        assert float(row["mean"]) == pytest.approx(mean, abs=1e-3)
        assert float(row["variance"]) == pytest.approx(variance, rel=1e-3, abs=1e-3)
        assert row["dataset"] == dataset
        if row["published"]:
            assert float(row["difference"]) == pytest.approx(mean - float(row["published"]), abs=2e-3)


def test_the_mean_over_the_machine_types_of_the_h_mean_is_the_official_score(folder):
    folder.random("dcase2025", "topm_audio_mae_m3", 0)
    read = pd.read_csv(folder.aucs[0])
    official = read[read.machine == "hmean"].official.item()
    row = one(folder.table("audio_mae", OF_2025), system="topm_audio_mae_m3", metric="hmean", machine="hmean")
    assert float(row["mean"]) == pytest.approx(official, abs=1e-3)
    # The paper has 59.29 for M = 3.
    assert row["published"] == "59.2900"
    assert row["source"] == "Top-M paper, Table 2"
    assert row["variance"] == ""


@pytest.mark.parametrize("datasets", [{}, OF_2025, UNITED, {"own": {}}, {"own": {}, **OF_2025}])
def test_every_published_number_is_there_once_and_ours_are_empty(folder, datasets):
    rows = {name: folder.table(name, datasets) for name in ("audio_mae", "beats")}
    with (ROOT / "src/asdpipe/paper/top_m.csv").open(newline="") as file:
        published = {(row["backbone"], *list(row.values())[1:4], float(row["value"])) for row in csv.DictReader(file)}
    names = {"audio_mae": "AudioMAE", "beats": "BEATs"}
    found = [
        (names[backbone], row["m"], row["machine"], row["metric"], float(row["published"]))
        for backbone, table in rows.items()
        for row in table
        if row["group"] == "top_m" and row["published"]
    ]
    assert len(found) == 240
    assert set(found) == published
    assert not any(row[name] for table in rows.values() for row in table for name in ("seeds", "mean", "difference"))
    for table in rows.values():
        others = [row for row in table if row["group"] == "published"]
        assert len(others) == 7
        assert all(row["source"] and float(row["published"]) for row in others)
        assert {int(row["m"]) for row in table if row["m"]} == set(LABELS_PER_CLIP)
    assert "nan" not in folder.markdown.lower()


def test_a_mean_over_some_of_the_machine_types_is_not_compared(folder):
    folder.run("dcase2025", "topm_beats_m1", 0, {"fan": {"auc_source": 60, "auc_target": 40, "pauc": 50}})
    folder.run("dcase2025", "topm_beats_m1", 1, {"fan": {"auc_source": 70, "auc_target": 60}})
    rows = folder.table("beats", OF_2025)
    fan = {row["metric"]: row for row in rows if (row["system"], row["machine"]) == ("topm_beats_m1", "fan")}
    # Their harmonic mean: 3 / (1/60 + 1/40 + 1/50). The second seed has no pAUC.
    assert [(fan[name]["seeds"], fan[name]["mean"]) for name in ("sauc", "ave", "pauc", "hmean")] == [
        *(("2", "65.0000"), ("2", "57.5000"), ("1", "50.0000"), ("1", "48.6486")),
    ]
    means = [row for row in rows if row["machine"] == "hmean" and row["group"] == "top_m"]
    assert len(means) == 5 * len(LABELS_PER_CLIP)
    assert not any(row["mean"] or row["difference"] for row in means)


def test_own_data_sets_have_their_machine_types_and_no_published_numbers(folder):
    values = {"auc_source": 80, "auc_target": 40, "pauc": 50}
    folder.run("own", "topm_beats_m1", 0, {"press": values, "drill": values})
    rows = folder.table("beats", {"own": {}})
    own = [row for row in rows if row["dataset"] == "own"]
    assert {row["machine"] for row in own} == {"press", "drill", "hmean"}
    assert not any(row["published"] or row["year"] for row in own)
    assert one(own, system="topm_beats_m1", metric="sauc", machine="hmean")["mean"] == "80.0000"
    assert "| M = 1 | sAUC | 80.0 | 80.0 | 80.0 |" in folder.markdown
    assert "## own, development set (seeds of ours: 1)" in folder.markdown
    # The published numbers follow.
    assert "## DCASE 2025, development set (seeds of ours: no)" in folder.markdown


def test_our_other_systems_follow_in_a_fixed_order(folder):
    for method in ("beats_frozen", "raw_logmel", "topm_beats_m15", "ba"):
        folder.random("dcase2025", method, 0)
    rows = folder.table("beats", OF_2025)
    before = folder.markdown
    systems = list(dict.fromkeys((row["group"], row["system"]) for row in rows))
    topm = [("top_m", f"topm_beats_m{m}") for m in LABELS_PER_CLIP]
    assert systems[:9] == [*topm, ("ours", "raw_logmel"), ("ours", "beats_frozen")]
    assert {group for group, _ in systems[9:]} == {"published"}
    folder.aucs.reverse()
    assert folder.table("beats", OF_2025) == rows
    assert folder.markdown == before


def test_markdown_has_ours_the_papers_and_the_misprint(folder):
    rows = {name: dict.fromkeys(BY_METRIC.values(), 60.0 + index) for index, name in enumerate(MACHINES)}
    folder.run("dcase2025", "topm_beats_m15", 0, rows)
    folder.table("beats", OF_2025)
    [line] = [line for line in folder.markdown.splitlines() if line.startswith("| M = 15 | tAUC |")]
    # Slider is the fourth machine type: 63 of ours.
    assert line.split(" | ")[5] == "63.0 (paper 63.70, \N{MINUS SIGN}0.7)"
    assert "- M = 15, slider: tAUC is printed as 63.70, but the means of its row and column imply 61.36." in (
        folder.markdown
    )
    folder.table("audio_mae", OF_2025)
    assert "printed as" not in folder.markdown


# ---------------------------------------------------------------- bad input


def test_the_command_line_has_the_options_of_the_rule(folder):
    folder.random("dcase2025", "topm_beats_m1", 0)
    app = typer.Typer()
    app.command()(write_top_m_table)
    options = ["--backbone", "beats", "--datasets", json.dumps(OF_2025), "--aucs", str(folder.aucs[0])]
    result = CliRunner().invoke(
        app, [*options, "--csv", str(folder.path / "x.csv"), "--markdown", str(folder.path / "x.md")]
    )
    assert result.exit_code == 0, result.output
    folder.table("beats", OF_2025)
    assert (folder.path / "x.csv").read_bytes() == (folder.path / "t.csv").read_bytes()


def test_inputs_that_do_not_belong_together_are_refused(folder):
    folder.random("dcase2025", "topm_beats_m1", 0)
    with pytest.raises(UserError, match=r"choose audio_mae or beats"):
        folder.table("ced", OF_2025)
    with pytest.raises(UserError, match=r"0\.csv: is of the data set dcase2025, which --datasets does not name \(own"):
        folder.table("beats", {"own": {}})
    folder.aucs *= 2
    with pytest.raises(UserError, match=r"0\.csv: topm_beats_m1 on dcase2025, stage 1, seed 0, is in .*0\.csv, too"):
        folder.table("beats", OF_2025)
    with pytest.raises(UserError, match=r"--datasets: .* is not the JSON that is needed"):
        write_top_m_table("beats", '{"own": 2025}', folder.path / "t.csv", folder.path / "t.md")
    assert not list(folder.path.glob("t.*"))
