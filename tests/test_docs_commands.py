"""Every command in the documentation is run by a test, is planned here, or says why it is not run.

A comment before each block of commands says which: ``run by FILE::TEST``, ``planned by a test, not run: WHY``, or
``not run: WHY``. The site shows the last two (tools/site_hooks.py).
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
import typer

from asdpipe.cli import app
from asdpipe.config.method import Method
from benchmarks import gpu
from tests.conftest import ROOT, run_snakemake

FILES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "config/README.md"} - {ROOT / "CHANGELOG.md"})
# Blocks with a language of shells, and indented ones that begin with a program of this project.
PROGRAMS = r"(?:\S*/)?(?:snakemake|asdpipe|make|python3?|pip|git|bash)\b"
BLOCK = re.compile(
    rf"(?:<!-- ([^>]*) -->\n+)?^(?: *```(?:sh|bash|console)\n(.*?)^ *```$|((?:^    {PROGRAMS}.*\n)(?:    .*\n)*))",
    flags=re.M | re.S,
)
PLANNED = re.compile(r"planned by a test, not run: \S.*")


class Block(NamedTuple):
    """Commands in a page."""

    file: Path
    marker: str
    commands: str


def blocks(file: Path) -> list[Block]:
    """Return the commands of a page."""
    found = BLOCK.findall(file.read_text(encoding="utf-8"))
    return [Block(file, marker, fenced or indented) for marker, fenced, indented in found]


BLOCKS = [block for file in FILES for block in blocks(file)]


@pytest.mark.parametrize(
    ("text", "marker"),
    [
        ("words\n\n```sh\nasdpipe score\n```\n", ""),
        ("<!-- not run: no GPU -->\n```sh\nasdpipe score\n```\n", "not run: no GPU"),
        ("<!-- not run: no GPU -->\nwords\n```sh\nasdpipe score\n```\n", ""),
        ("<!-- not run: no GPU -->\n\n    make bench\n    more\n", "not run: no GPU"),
        ("words:\n\n    .venv/bin/snakemake -n\n", ""),
        ("- item\n  <!-- not run: no GPU -->\n  ```bash\n  make\n  ```\n", "not run: no GPU"),
    ],
)
def test_blocks_and_their_markers_are_found(tmp_path, text, marker):
    file = tmp_path / "page.md"
    file.write_text(text)
    (block,) = blocks(file)
    assert block.marker == marker
    assert block.commands.strip()


def test_every_block_says_what_runs_it_or_why_nothing_does():
    assert len(BLOCKS) > 20
    for file, marker, commands in BLOCKS:
        where = f"{file.relative_to(ROOT)}: {commands.strip().splitlines()[0]}"
        by = re.fullmatch(r"run by (tests/\S+\.py)::(test_\w+)", marker)
        assert by or PLANNED.fullmatch(marker) or re.fullmatch(r"not run: \S.*", marker), f"{where}: has no marker"
        if by:
            assert f"def {by[2]}(" in (ROOT / by[1]).read_text(), f"{where}: there is no {by[2]}"


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> list[list[str]]:
    """What the blocks that are planned call, program first, each call once; bash takes them apart."""
    folder = tmp_path_factory.mktemp("asked")
    shutil.copytree(ROOT / "config", folder / "config")
    for program in ("snakemake", "asdpipe"):
        (folder / program).write_text(f'#!/bin/bash\nprintf "%s\\0" {program} "$@" >> calls; echo >> calls\n')
        (folder / program).chmod(0o755)
    commands = "\n".join(block.commands for block in BLOCKS if PLANNED.fullmatch(block.marker))
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    script = "set -euo pipefail\n" + commands.replace(".venv/bin/", "")
    subprocess.run(["bash", "-c", script], cwd=folder, env=environment, check=True)
    calls = [line.split("\0")[:-1] for line in (folder / "calls").read_text().splitlines()]
    return [list(call) for call in dict.fromkeys(map(tuple, calls))]


SHARDS = 2


@pytest.fixture(scope="module")
def plans(asked, tmp_path_factory) -> dict[str, subprocess.CompletedProcess[str]]:
    """The plans of all workflows that the blocks run."""
    folder = tmp_path_factory.mktemp("plans")
    samples = np.random.default_rng(0).standard_normal(16_000) / 10
    for machine in ("pump", "fan"):
        for name in ("train/0.wav", "test/1.wav"):
            file = folder / "FOLDER/machines" / machine / name
            file.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(file, samples, 16_000)
    for name in ("audios/balanced_train_segments/Y00000000000.wav", "metadata/balanced_train_segments.csv"):
        (folder / "FOLDER/audioset" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "FOLDER/audioset" / name).touch()
    shutil.copytree(ROOT / "config", folder / "config")
    shutil.copy(ROOT / "config/own.yaml", folder / "my.yaml")
    found = {}
    # The number of cores changes no plan.
    calls = [
        re.sub(r"^\0(--cores\0\d+|-n)", "", "\0".join(["", *call[1:]])) for call in asked if call[0] == "snakemake"
    ]
    for call in [text.strip("\0").split("\0") for text in dict.fromkeys(calls)]:
        arguments = [str(folder / each) if each == "my.yaml" else each for each in call]
        if "config/full.yaml" in arguments:
            # A hundred shards take ten seconds to plan.
            arguments.insert(arguments.index("--config") + 1, f"pools={{audioset: {{shards: {SHARDS}}}}}")
        found[" ".join(call)] = run_snakemake(folder, "-n", *arguments)
    return found


def test_workflows_are_planned_as_written(plans):
    assert len(plans) > 8
    for call, done in plans.items():
        assert done.returncode == 0, f"{call}: {done.stdout[-2000:]}"


def test_the_full_size_has_the_jobs_that_its_page_counts(plans):
    (plan,) = (done.stdout for call, done in plans.items() if re.search(r"full\.yaml .*-- results/stage5/auc", call))
    planned = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", plan, flags=re.M)}
    for rule in ("pack_pool", "score_external"):
        planned["total"] += planned[rule] * (100 // SHARDS - 1)
        planned[rule] *= 100 // SHARDS
    page = (ROOT / "docs/full-size.md").read_text()
    counted = {}
    for names, count in re.findall(r"^\| ((?:`\w+`(?:, )?)+|all) \| (\d+)(?: each)? \|", page, flags=re.M):
        counted |= {name: int(count) for name in re.findall(r"\w+", names.replace("all", "total"))}
    assert counted == planned


def test_the_hours_of_the_full_size_follow_from_steps_and_work():
    page = (ROOT / "docs/full-size.md").read_text()
    work = {"2022": (10, 1.58), "2023": (18, 2.85), "2024": (12, 1.86)}
    row = r"^\| (202\d) \| .*? \| ([\d,]+) \| (\d+) \| (\d+) h \| ([\d.]+) h \| ([\d.]+) h \|$"
    rows = re.findall(row, page, flags=re.M)
    assert len(rows) == 6
    steps_of = (ROOT / "docs/fidelity.md").read_text()
    for year, steps, operations, cpu, slow, fast in rows:
        seconds, gflop = work[year]
        assert re.search(rf"^\| {year} \|.* {steps} \|", steps_of, flags=re.M), f"{steps} steps in {year}"
        clips = 100 * int(steps.replace(",", ""))
        total = 12 * clips * gflop * 1e9
        assert float(operations) == pytest.approx(total / 1e15, abs=0.6)
        assert float(cpu) == pytest.approx(clips / 10.4 * seconds / 10 / 3600, abs=0.6)
        assert float(slow) == pytest.approx(total / 5e12 / 3600, abs=0.06)
        assert float(fast) == pytest.approx(total / 20e12 / 3600, abs=0.06)


def test_the_work_of_a_forward_pass_is_what_the_full_size_counts():
    """Of the paper's network, for the three lengths of clips."""
    assert [round(gpu.gflop(Method(), seconds * 16_000), 2) for seconds in (10, 12, 18)] == [1.58, 1.86, 2.85]


def test_commands_and_options_are_there(asked):
    known = typer.main.get_command(app).commands
    calls = [call[1:] for call in asked if call[0] == "asdpipe"]
    assert calls
    for name, *arguments in calls:
        options = {option for parameter in known[name].params for option in parameter.opts}
        assert {each for each in arguments if each.startswith("--")} <= options, name
