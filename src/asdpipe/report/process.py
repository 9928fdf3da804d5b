"""Part 6: how the run went: losses, time and memory of the steps, settings and records."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from asdpipe.artifacts.resolved import Resolved, from_facts, number_in_words
from asdpipe.artifacts.tables import read_facts
from asdpipe.errors import UserError
from asdpipe.monitor.origin import origin
from asdpipe.report.clips import first_embedded
from asdpipe.report.runs import Run

# What benchmark files have behind the name of their step.
PART = re.compile(r"_(\d+|train|test|supplemental|calibration)$")


@dataclass(frozen=True)
class Process:
    """How results were made."""

    losses: pd.DataFrame
    """Rows of the training.csv of all stages and seeds of the shown method, with ``stage`` and ``seed``."""
    steps: pd.DataFrame
    """``step``, ``jobs``, ``seconds`` (of all jobs together), ``longest`` (s), ``memory`` (MB, of the largest)."""
    facts: list[tuple[str, str]]
    """Name and value."""
    settings: list[tuple[str, str]]
    """Step, and its settings as YAML."""
    resolved: list[tuple[str, str]]
    """Keys that are ``auto``, and what they came to."""
    note: str = ""


def gather_process(results: Path, dataset: str, runs: Sequence[Run], shown: Run) -> Process:
    """Read losses, benchmark files, and the record of the shown run."""
    own = [run for run in runs if run.method == shown.method]
    methods = {run.method for run in runs}
    folders = [results / "data" / dataset, *(results / dataset / method for method in sorted(methods))]
    folders += [results / "external" / pool for pool in _pools(runs)]
    files = [file for folder in folders for file in sorted(folder.rglob("benchmarks/*.tsv"))]
    losses, steps = read_losses(own), read_benchmarks(files)
    of_seed = [run for run in own if run.seed == shown.seed and run.stage <= shown.stage]
    resolved = [(key, number_in_words(value)) for key, value in read_resolved(of_seed).items()]
    try:
        record = origin(shown.auc).record
    except UserError as error:
        return Process(losses, steps, [], [], resolved, f"The record of the shown run is missing: {error}")
    facts = [
        ("result", record.file.path),
        ("SHA-256", record.file.sha256 or ""),
        ("seeds", ", ".join(map(str, record.seeds))),
        ("how it was made", f"asdpipe explain {record.file.path}"),
    ]
    settings = [
        (step, "---\n".join(yaml.safe_dump(each, sort_keys=True, allow_unicode=True) for each in several))
        for step, several in record.config.items()
    ]
    return Process(losses, steps, facts, settings, resolved)


def _pools(runs: Iterable[Run]) -> list[str]:
    """Return the names of the pools that clips were selected from."""
    found = set()
    for run in runs:
        if (run.folder / "selected.parquet").exists():
            try:
                record = origin(run.folder / "selected.parquet").record
            except UserError:
                continue
            found |= {Path(file.path).parent.name for file in record.inputs.get("pool_clips", [])}
    return sorted(found)


def read_losses(runs: Iterable[Run]) -> pd.DataFrame:
    """Return the losses of every epoch of runs; files that are damaged or being written are left out."""
    frames = []
    for run in runs:
        file = _model_folder(run) / "training.csv"
        try:
            frame = pd.read_csv(file)
        except (OSError, ValueError):
            continue
        if {"epoch", "loss"} <= {*frame.columns}:
            frames.append(frame.assign(stage=run.stage, seed=run.seed))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["epoch", "loss", "stage", "seed"])


def read_resolved(runs: Iterable[Run]) -> Resolved:
    """Return what settings that are ``auto`` came to, as the results of runs say; of several, the last counts."""
    found: dict[str, Any] = {}
    for run in runs:
        for file in _with_facts(run):
            try:
                facts = json.loads(file.read_bytes()) if file.suffix == ".json" else read_facts(file)
            except (OSError, ValueError, UserError):
                continue
            found |= from_facts(facts if isinstance(facts, dict) else {})
    return found


def _with_facts(run: Run) -> Iterator[Path]:
    """Yield the results of a run that may have facts about its settings, also those that another method owns."""
    yield _model_folder(run) / "model.json"
    representatives = run.folder / "representatives.parquet"
    if not representatives.exists() and run.is_finished:
        try:
            owned = first_embedded(origin(origin(run.auc).input("scores"))).inputs("representatives")
        except UserError:
            owned = []
        yield from owned
    yield from (representatives, run.folder / "pseudo_labels.parquet", run.folder / "selected.parquet")


def _model_folder(run: Run) -> Path:
    """Return the folder with the model of a run: where another method owns it, in that method's."""
    if (run.folder / "training.csv").exists() or not run.is_finished:
        return run.folder
    try:
        made = first_embedded(origin(origin(run.auc).input("scores")))
        return made.input("train_embeddings").parents[1]
    except UserError:
        return run.folder


def read_benchmarks(files: Iterable[Path]) -> pd.DataFrame:
    """Return time and memory of every step, the one that takes most time first."""
    rows = []
    for file in files:
        try:
            frame = pd.read_csv(file, sep="\t", usecols=["s", "max_rss"])
        except (OSError, ValueError):
            continue
        if len(frame):
            values = frame.apply(pd.to_numeric, errors="coerce").iloc[-1]
            rows.append((PART.sub("", file.stem), float(values.s), float(values.max_rss)))
    table = pd.DataFrame(rows, columns=["step", "s", "max_rss"]).groupby("step")
    steps = table.agg(jobs=("s", "size"), seconds=("s", "sum"), longest=("s", "max"), memory=("max_rss", "max"))
    return steps.reset_index().sort_values("seconds", ascending=False, ignore_index=True)
