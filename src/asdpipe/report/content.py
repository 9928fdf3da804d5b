"""All parts of a report, gathered from the results that are there."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from asdpipe import __version__
from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.errors import UserError
from asdpipe.report import pictures
from asdpipe.report.charts import (
    Spec,
    histogram,
    labels_chart,
    losses_chart,
    map_chart,
    results_chart,
    roc_chart,
    times_chart,
)
from asdpipe.report.clips import ANOMALOUS, NORMAL, Clips, read_clips
from asdpipe.report.embedding_map import make_map
from asdpipe.report.listen import Heard, choose, explained
from asdpipe.report.process import Process, gather_process
from asdpipe.report.results import Results, detail, gather_results
from asdpipe.report.runs import Run, compared_runs, find_runs, shown_run
from asdpipe.report.selection import Handed, gather_handed
from asdpipe.report.sounds import Sounds
from asdpipe.report.words import Answer, answer

# Columns of the page's data; the numbers are those of auc.csv and scores.parquet.
SCORES = [
    "clip_id",
    "machine",
    "section",
    "domain",
    "split",
    "part",
    "label",
    "score",
    "limit",
    "alarm",
    "nearest_clip_id",
]


@dataclass
class Report:
    """What a page shows."""

    dataset: str
    shown: Run
    system: str
    results: Results
    clips: Clips
    answer: Answer
    heard: list["Card"]
    handed: Handed
    process: Process
    sounds: Sounds
    charts: dict[str, Spec] = field(default_factory=dict)
    """By the id of their place in the page."""
    points: list[tuple[str, int | None]] = field(default_factory=list)
    """Name and sound of every point of the map, in the order of their names."""
    notes: dict[str, str] = field(default_factory=dict)
    """What is missing, by part of the page."""
    version: str = __version__

    def data(self) -> Mapping[str, Any]:
        """Return the numbers of the page, as they are in auc.csv and scores.parquet."""
        return {
            "dataset": self.dataset,
            "method": self.shown.method,
            "stage": self.shown.stage,
            "seed": self.shown.seed,
            "auc": records(self.results.seeds),
            "scores": records(self.clips.table[SCORES]),
        }


@dataclass(frozen=True)
class Card:
    """A clip to listen to, as it is shown."""

    clip: Heard
    sound: int | None
    picture: str
    seconds: float
    map: str
    boxes: list[dict[str, float]]
    regions: list[str]
    nearest_sound: int | None
    nearest_picture: str


def gather(results: Path, dataset: str, method: str, device: Literal["auto", "cpu", "cuda"] = "auto") -> Report:
    """Gather the report of a data set, about one of its methods, beside all others that are finished.

    Args:
        results: the folder results/.
        device: where clips are explained.

    Raises:
        UserError: no run is finished, or what the shown one was made from has changed since.
    """
    runs = find_runs(results, dataset)
    shown = shown_run(runs, method)
    systems = compared_runs(runs, shown)
    table = gather_results(systems)
    system = table.systems[-1]
    clips, sounds = read_clips(shown), Sounds()
    heard, note = explained(choose(clips), clips, device)
    handed = gather_handed(runs, shown, clips.training)
    report = Report(
        *(dataset, shown, system, table, clips, answer(table, system, clips)),
        [_card(each, clips, sounds) for each in heard],
        *(handed, gather_process(results, dataset, runs, shown), sounds),
    )
    if shown.method != method:
        report.notes["answer"] = f"{method} has no finished stage yet: this report is about {shown.method}."
    report.notes |= {"results": table.note, "listen": note, "handed": " ".join(handed.notes)}
    # The clips that are listened to on purpose come before those of the map.
    for selected in handed.selected:
        for end in (selected.most_similar, selected.least_similar):
            sounds.add(handed.pool_audio, end[0] if end else None)
    for cluster in handed.clusters:
        sounds.add(clips.audio, cluster.example)
    report.charts = dict(_charts(report, systems[-1]))
    _add_map(report)
    if sounds.left_out:
        report.notes["map"] = f"{sounds.left_out} clips have no sound here, so that the file stays small. " + (
            report.notes.get("map", "")
        )
    return report


def _card(heard: Heard, clips: Clips, sounds: Sounds) -> Card:
    found, audio = heard.explanation, clips.audio
    samples = audio.samples(heard.clip_id) if heard.clip_id in audio else None
    nearest = audio.samples(heard.nearest) if heard.nearest is not None and heard.nearest in audio else None
    return Card(
        heard,
        sounds.add(audio, heard.clip_id),
        "" if samples is None else pictures.spectrogram_png(samples),
        0.0 if samples is None else len(samples) / SAMPLE_RATE,
        "" if found is None else pictures.map_png(found),
        [] if found is None else pictures.boxes(found),
        [] if found is None else [f"{each}: without it the score is {each.fall:.2g} lower" for each in found.regions],
        sounds.add(audio, heard.nearest),
        "" if nearest is None else pictures.spectrogram_png(nearest),
    )


def _charts(report: Report, seeds: list[Run]) -> Iterator[tuple[str, Spec]]:
    """Yield the id of every chart but the map, and the chart."""
    table, clips = report.results, report.clips
    if table.has_labels:
        for split in sorted(set(table.means.split)):
            if table.means[table.means.split == split].auc.notna().any():
                yield f"auc-{split}", results_chart(table.means, table.systems, split)
    others = list(_other_seeds(report, seeds))
    for number, machine in enumerate(clips.machines):
        part = clips.of(machine)
        yield f"histogram-{number}", histogram(part, machine)
        if {NORMAL, ANOMALOUS} <= set(part.label):
            several = [(f"seed {each.run.seed}", roc(each.of(machine))) for each in (clips, *others)]
            yield f"roc-{number}", roc_chart(several, [_at_limit(part)], machine)
    last = max((each.stage for each in report.handed.selected), default=None)
    rows = [
        {"machine": each.machine, "label": label, "clips": count}
        for each in report.handed.selected
        if each.stage == last
        for label, count in each.labels
    ]
    if rows and last is not None:
        yield "labels", labels_chart(rows, last)
    if len(report.process.losses):
        yield "losses", losses_chart(report.process.losses)
    if len(report.process.steps):
        yield "times", times_chart(report.process.steps)


def _other_seeds(report: Report, seeds: list[Run]) -> Iterator[Clips]:
    for run in seeds:
        if run.seed != report.shown.seed:
            try:
                yield read_clips(run)
            except UserError as error:
                report.notes["machines"] = f"Seed {run.seed} has no ROC: {error}"


def roc(part: pd.DataFrame) -> pd.DataFrame:
    """Return the rates of false alarms (``false``) and found anomalies (``true``) of all limits."""
    # scikit-learn takes a second to import.
    from sklearn.metrics import roc_curve

    known = part[part.label.isin([NORMAL, ANOMALOUS])]
    _, ranks = np.unique(known.score, return_inverse=True)
    false, true, _ = roc_curve(known.label == ANOMALOUS, ranks)
    return pd.DataFrame({"false": false, "true": true})


def _at_limit(part: pd.DataFrame) -> dict[str, Any]:
    rates = {label: float(part.alarm[part.label == label].mean()) for label in (NORMAL, ANOMALOUS)}
    return {"false": rates[NORMAL], "true": rates[ANOMALOUS], "what": "at the limits"}


def _add_map(report: Report) -> None:
    """Add the map, or why there is none."""
    clips = report.clips
    try:
        found = make_map(clips)
    except (UserError, KeyError) as error:
        report.notes["map"] = f"There is no map of the embeddings: {error}"
        return
    pseudo_label = [report.handed.label_of.get(name, "none") for name in found.points.clip_id]
    table = found.points.assign(pseudo_label=pseudo_label, domain=found.points.domain.fillna("unknown"))
    fields = {"machine": "machine type", "label": "label", "domain": "domain", "split": "split"}
    if report.handed.label_of:
        fields["pseudo_label"] = "pseudo-label"
    points = []
    for row in table.itertuples():
        place = {name: round(float(getattr(row, name)), 4) for name in ("x", "y", "own_x", "own_y")}
        words = {name: str(getattr(row, name)) for name in fields}
        sound = report.sounds.add(clips.audio, row.clip_id)
        points.append({**place, **words, "name": row.clip_id, "sound": sound, "score": float(row.score)})
    machines = sorted(found.own_share)
    report.charts["map"] = map_chart(points, fields, machines if len(machines) > 1 else [])
    report.points = sorted((str(each["name"]), each["sound"]) for each in points)
    some = f" A part of {found.clips} clips is shown." if len(points) < found.clips else ""
    own = ", ".join(f"{name} {share:.0f} %" for name, share in sorted(found.own_share.items()))
    report.notes["map"] = (
        f"Principal components (PCA) of the unit embeddings of seed {report.shown.seed}. They hold {found.share:.0f} % "
        f"of the variance; of a machine type alone: {own}.{some}"
    )


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as JSON has them: missing values are null."""
    return [
        {
            name: None if value is None or (isinstance(value, float) and math.isnan(value)) else value
            for name, value in row.items()
        }
        for row in frame.astype(object).to_dict("records")
    ]


def machine_metrics(report: Report, machine: str) -> pd.DataFrame:
    """Return the metrics of the shown system for a machine type, a row per section."""
    table = detail(report.results, report.system)
    return table[table.machine == machine]
