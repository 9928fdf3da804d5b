"""What the real workflow says of targets, pools and folders that there are not, and what the README's commands do."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, TINY, run_snakemake

OWNED = "results/tiny/ba_trp/seed0/stage1"


def refused(folder: Path, *arguments: str, config: dict | None = None) -> str:
    """Return what a plan says that fails."""
    done = run_snakemake(folder, "-n", *arguments, config=config)
    assert done.returncode != 0, done.stdout
    assert "Traceback (most recent call last)" not in done.stdout
    return done.stdout


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("results/tiny/bo/seed0/stage1/auc.csv", "there is no method 'bo'; the config has: audio_mae_frozen, "),
        (
            "results/tiny/bo/seed0/stage1/model.safetensors",
            "there is no method 'bo'; the config has: audio_mae_frozen, ",
        ),
        ("results/toy/ba/seed0/stage1/auc.csv", "there is no data set 'toy'; the config has: dcase2020, "),
        ("results/data/toy/clips.parquet", "there is no data set 'toy'; the config has: dcase2020, "),
        ("results/data/toy/train/waveforms.int16", "there is no data set 'toy'; the config has: dcase2020, "),
        ("results/external/sea/clips.parquet", "there is no pool 'sea'; the config has: tiny"),
        ("results/external/sea/0/waveforms.parquet", "there is no pool 'sea'; the config has: tiny"),
        ("results/tables/table9.csv", "no such table with results; choose one of 2, 3, 4, 5, A1, A2"),
        ("results/stage6/auc.csv", "the configuration has 5 stages (stages: 5), results/stage1 to results/stage5"),
        ("results/tiny/ba/seed0/stage2/auc.csv", "ba has no stage 2, only stage 1"),
        (
            "results/tiny/ba_trp_ps_ex/seed0/stage1/model.safetensors",
            f"stage 1 of ba_trp_ps_ex has the model of ba_trp; ask for the files in {OWNED}",
        ),
        ("results/tiny/ba_trp_ps_ex/seed0/stage1/embeddings/test.parquet", f"ask for the files in {OWNED}"),
        ("results/tiny/ba_trp_ps_ex/seed0/stage1/representatives.parquet", f"ask for the files in {OWNED}"),
        ("results/tiny/ba_trp_ps_ex/seed0/stage1/scores.parquet", f"ask for the files in {OWNED}"),
        ("results/tiny/ba_trp_ps_ex/seed0/stage1/external/0.parquet", f"ask for the files in {OWNED}"),
    ],
)
def test_a_target_that_there_is_not_is_answered_with_what_there_is(tmp_path, target, message):
    assert message in refused(tmp_path, target, config=TINY)


def test_a_pool_is_asked_for_only_where_the_method_takes_external_clips(tmp_path):
    full = ("--configfile", str(ROOT / "config/full.yaml"), "--config", f"data_root={tmp_path}")
    target = ("--", "results/stage1/auc.csv")
    said = refused(tmp_path, *full, *target)
    assert f"{tmp_path}/audioset: there is no such folder" in said
    assert "another folder (pools.audioset.root)" in said
    assert "method: ba_trp_ps)" in said
    assert "datasets.dcase2023.pool: null" in said
    # The three ways out, and a method of the baselines.
    audio = tmp_path / "elsewhere/audios/balanced_train_segments"
    audio.mkdir(parents=True)
    (audio / "Y00000000000.wav").touch()
    (tmp_path / "elsewhere/metadata").mkdir()
    (tmp_path / "elsewhere/metadata/balanced_train_segments.csv").touch()
    ways_out = (
        f"pools={{audioset: {{root: {tmp_path}/elsewhere}}}}",
        "method=ba_trp_ps",
        "datasets={dcase2023: {pool: null}}",
        "method=raw_logmel",
    )
    for way_out in ways_out:
        done = run_snakemake(tmp_path, "-n", *full, way_out, *target)
        assert done.returncode == 0, done.stdout[-2000:]


def test_the_readme_s_way_to_own_machines_works_as_written(tmp_path, write_clip):
    for seed, machine in enumerate(("pump", "fan")):
        write_clip(tmp_path / f"recordings/machines/{machine}/train/0.wav", seed=seed)
        write_clip(tmp_path / f"recordings/machines/{machine}/test/1.wav", seed=seed + 10)
    shutil.copy(ROOT / "config/own.yaml", tmp_path / "my.yaml")
    own = ("-n", "--configfile", str(tmp_path / "my.yaml"))
    done = run_snakemake(tmp_path, *own, "--config", "data_root=recordings")
    assert done.returncode == 0, done.stdout[-2000:]
    assert re.search(r"^train +15$", done.stdout, flags=re.M)
    # What own.yaml and the README say, word for word.
    command = "--configfile my.yaml --config data_root=FOLDER"
    assert command in (ROOT / "config/own.yaml").read_text()
    assert command in (ROOT / "README.md").read_text()
    said = run_snakemake(tmp_path, *own).stdout
    assert "add --config data_root=FOLDER" in said
    said = run_snakemake(tmp_path, *own, "--config", "data_root=nowhere").stdout
    assert "nowhere/machines: there is no such folder" in said


def test_make_demo_ends_with_what_lies_where_and_what_to_try_next(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    # Set up already.
    for name in (".venv/.complete", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    os.utime(tmp_path / ".venv/.complete", (2**32, 2**32))
    # Below `make test`, make prints the folder it enters.
    command = ["make", "--no-print-directory", "--dry-run", "demo"]
    lines = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] == ".venv/bin/snakemake --cores 2 results/stage5/auc.csv"
    assert lines[1].startswith(".venv/bin/asdpipe table ")
    said = subprocess.run(["bash", "-c", "\n".join(lines[-3:])], capture_output=True, text=True, check=True).stdout
    assert "results/stage{1..5}/auc.csv" in said
    assert "results/stage5/scores.csv" in said
    assert ".venv/bin/asdpipe explain results/stage5/auc.csv" in said


def test_commands_in_the_documentation_have_their_target_after_two_dashes():
    files = [ROOT / "README.md", ROOT / "config/README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("config/*.yaml")]
    commands = []
    for file in files:
        text = re.sub(r" *\\\n[ #]*", " ", file.read_text())
        commands += [line for line in text.splitlines() if re.search(r"snakemake .*--config .*\bresults/", line)]
    assert len(commands) > 5
    assert not [command for command in commands if not re.search(r"--config .* -- +results/", command)]
    # The pages where a command with --config begins say why.
    for name in ("README.md", "config/README.md", "docs/data-sets.md", "docs/own-machines.md"):
        words = " ".join((ROOT / name).read_text().split())
        assert re.search(r"target.{0,40} after `--`", words), name


def test_scores_are_made_with_the_auc(tmp_path):
    done = run_snakemake(tmp_path, "--summary", "results/stage1/auc.csv", config=TINY)
    assert re.search(r"^results/stage1/scores.csv\t", done.stdout, flags=re.M)
    # And they are part of what snakemake makes when it is told nothing.
    plan = run_snakemake(tmp_path, "-n", "--printshellcmds", config=TINY | {"stages": 2})
    for stage in (1, 2):
        assert f"--auc results/stage{stage}/auc.csv --table results/stage{stage}/scores.csv" in plan.stdout


def test_every_job_that_is_planned_names_its_log(tmp_path):
    plan = run_snakemake(tmp_path, "-n", "--", "results/tables/all", "results/stage1/auc.csv", config=TINY)
    assert plan.returncode == 0, plan.stdout[-2000:]
    messages = re.findall(r"^(?:Job \d+|localrule \w+|rule \w+): (.*)$", plan.stdout, flags=re.M)
    assert len(messages) > 30
    assert not [message for message in messages if not re.search(r"log: results/\S+\.log$", message)]


def test_every_rule_s_message_names_its_log():
    texts = "".join(file.read_text() for file in sorted((ROOT / "workflow/rules").glob("*.smk")))
    rules = re.split(r"^rule ", texts, flags=re.M)[1:]
    assert len(rules) > 15
    for text in rules:
        message = re.search(r"^    message:\n((?:        .*\n)+)", text, flags=re.M)
        assert message, text
        assert "log: {log}" in message[1], text


def test_a_read_only_checkout_plans_elsewhere_and_says_so(mount, tmp_path):
    checkout = mount(ROOT, "--bind")
    subprocess.run(["mount", "-o", "remount,bind,ro", checkout], check=True)
    command = [sys.executable, "-m", "snakemake", "-n"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert f"{checkout}: cannot be written" in output
    assert "Traceback" not in output
    said = re.search(r"--directory FOLDER --configfile \S+/config.yaml", output)
    assert said
    command += said[0].replace("FOLDER", str(tmp_path / "work")).split()
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
