"""The runs to compare: scores of the same labelled test clips, found by the records of auc.csv files."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdpipe.artifacts.tables import read_table
from asdpipe.errors import UserError
from asdpipe.method.metrics import OFFICIAL_TERMS, Scoring
from asdpipe.monitor.origin import AUC, Origin, origin
from asdpipe.paper.results import RUN, column_names

CLIP = ["clip_id", "part", "machine", "section", "domain", "is_normal"]


class Run(NamedTuple):
    """The test clips of one seed, and their scores."""

    made: Origin
    """Its auc.csv."""
    dataset: str
    method: str
    stage: int
    seed: int
    scoring: Scoring
    clips: pd.DataFrame
    """Labelled test clips by clip_id, and their ``score``."""


class System(NamedTuple):
    """A method at a stage, with all of its seeds."""

    name: str
    seeds: list[int]
    scores: NDArray[np.float64]
    """(seeds, clips)."""
    trained: bool


class Compared(NamedTuple):
    """Systems with scores of the same clips."""

    dataset: str
    scoring: Scoring
    clips: pd.DataFrame
    """Labelled test clips."""
    systems: list[System]


def read_systems(places: Sequence[Path]) -> Compared:
    """Return the systems of auc.csv files, and of folders of stages and runs, in their order.

    Raises:
        UserError: there are fewer than two, or they cannot be compared: another data set, other test clips or labels.
    """
    runs = [_read_run(made) for made in _auc_files(places)]
    for run in runs[1:]:
        _refuse_others(runs[0], run)
    systems: dict[tuple[Path, str, int], list[Run]] = {}
    for run in runs:
        systems.setdefault((run.made.base, run.method, run.stage), []).append(run)
    if len(systems) < 2:
        message = f"{places[0]}: is one system, {runs[0].method} at stage {runs[0].stage}"
        raise UserError(f"{message}; give several stages or methods to compare")
    keys = pd.DataFrame([(runs[0].dataset, method, stage, np.nan) for _, method, stage in systems], columns=RUN)
    names = column_names(keys)
    if len({base for base, *_ in systems}) > 1:
        names = [f"{base.name}: {name}" for (base, *_), name in zip(systems, names, strict=True)]
    clips = runs[0].clips
    if clips.empty:
        raise UserError(f"{runs[0].made.file}: no test clip has a label, so there is nothing to compare; label some")
    found = []
    for name, seeds in zip(names, systems.values(), strict=True):
        numbers = [run.seed for run in seeds]
        if len(set(numbers)) < len(numbers):
            raise UserError(f"{name}: seed {max(numbers, key=numbers.count)} is there twice; give each run once")
        seeds.sort(key=lambda run: run.seed)
        scores = np.stack([run.clips.score[clips.index].to_numpy() for run in seeds])
        found.append(System(name, sorted(numbers), scores, "train" in seeds[0].made.record.config))
    return Compared(runs[0].dataset, runs[0].scoring, clips, found)


def _auc_files(places: Iterable[Path]) -> list[Origin]:
    """Return the auc.csv of every seed, each once."""
    found: dict[Path, Origin] = {}
    for place in places:
        files = [place]
        if place.is_dir():
            files = [place / AUC] if (place / AUC).exists() else []
            files += (
                []
                if files
                else sorted(file for depth in ("*", "*/*", "*/*/*") for file in place.glob(f"{depth}/{AUC}"))
            )
            if not files:
                raise UserError(f"{place}: holds no {AUC}; let the workflow finish, e.g. snakemake ... {place / AUC}")
        elif not place.exists():
            raise UserError(f"{place}: does not exist; give auc.csv files, or folders of stages or runs")
        for file in files:
            made = origin(file)
            # Over seeds: made from the auc.csv of each.
            of_seeds = [origin(path) for path in made.inputs("aucs")] or [made]
            found |= {each.file.resolve(): each for each in of_seeds}
    return list(found.values())


def _read_run(made: Origin) -> Run:
    """Read one seed.

    Raises:
        UserError: the file is no auc.csv of one seed, or what it was made from has changed.
    """
    settings = made.record.settings
    scoring = settings.get("scoring", "dcase2022")
    if (
        not {"scores", "clips"} <= made.record.inputs.keys()
        or scoring not in OFFICIAL_TERMS
        or not {*RUN} <= settings.keys()
    ):
        raise UserError(f"{made.file}: is not an {AUC}; give those, or folders of stages or runs")
    clips = read_table("clips", made.input("clips"))
    clips = clips.loc[(clips.split == "test") & clips.is_normal.notna(), CLIP]
    scored = clips.merge(read_table("scores", made.input("scores"))[["clip_id", "score"]], on="clip_id")
    scored = scored.astype({"is_normal": bool}).set_index("clip_id").sort_index()
    return Run(made, settings["dataset"], settings["method"], settings["stage"], settings["seed"], scoring, scored)


def _refuse_others(first: Run, run: Run) -> None:
    """Refuse what cannot be compared.

    Raises:
        UserError: says what differs.
    """
    files = f"{first.made.file} and {run.made.file}"
    if run.dataset != first.dataset:
        raise UserError(f"{files}: are of the data sets {first.dataset} and {run.dataset}; compare runs of one")
    if run.scoring != first.scoring:
        raise UserError(
            f"{files}: have the official scores of {first.scoring} and {run.scoring}; run one of them again"
        )
    if len(other := first.clips.index.symmetric_difference(run.clips.index)):
        counts = f"{len(first.clips)} and {len(run.clips)} labelled test clips"
        message = f"{files}: have other test clips ({counts}; only one of them has {other[0]})"
        raise UserError(f"{message}; run the workflow again for both")
    columns = CLIP[1:]
    same = (first.clips[columns].fillna("") == run.clips[columns].fillna("")).all(axis=1)
    if not same.all():
        clip = same.index[~same][0]
        raise UserError(f"{files}: have other labels, e.g. of {clip}; run the workflow again for both")
