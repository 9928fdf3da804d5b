"""Part 4: what a stage hands to the next: external clips and pseudo-labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from asdpipe.artifacts.tables import read_facts, read_table
from asdpipe.errors import UserError
from asdpipe.monitor.origin import origin
from asdpipe.report.runs import Run
from asdpipe.report.sounds import Audio

# Labels of a machine type that are named; the others are counted together.
MOST_LABELS = 8
# Labels of a machine type that have a row.
MOST_ROWS = 12


@dataclass(frozen=True)
class Selected:
    """The external clips that a stage selected for a machine type."""

    stage: int
    machine: str
    count: int
    passed: int | None
    """Clips of the pool that scored below the threshold; None: not known."""
    pool: int | None
    threshold: float | None
    lowest: float | None
    highest: float | None
    labels: list[tuple[str, int]]
    most_similar: tuple[str, str] | None
    """clip_id and label."""
    least_similar: tuple[str, str] | None


@dataclass(frozen=True)
class Cluster:
    """Training clips with the same pseudo-label."""

    stage: int
    machine: str
    domain: str
    label: str
    size: int
    attributes: list[tuple[str, int]]
    """The most frequent ones."""
    example: str
    """clip_id."""


@dataclass(frozen=True)
class Handed:
    """What the stages of a run handed on."""

    selected: list[Selected]
    pool_audio: Audio
    clusters: list[Cluster]
    """Of the last stage that made pseudo-labels."""
    clusters_left_out: int
    rand: list[tuple[int, dict[str, float]]]
    """Adjusted Rand index of pseudo-labels and attributes, by stage and machine type."""
    label_of: dict[str, str]
    """Pseudo-label of every training clip, by its name."""
    notes: list[str]


def gather_handed(runs: Sequence[Run], shown: Run, clips: pd.DataFrame) -> Handed:
    """Read what the stages of the shown method and seed handed on.

    Args:
        clips: table ``clips`` of the training clips, for their attributes.
    """
    own = {run.stage: run.folder for run in runs if (run.method, run.seed) == (shown.method, shown.seed)}
    selected: list[Selected] = []
    packs: list[tuple[Path, Path]] = []
    wanted: list[str] = []
    clusters: list[Cluster] = []
    rand: list[tuple[int, dict[str, float]]] = []
    label_of: dict[str, str] = {}
    notes: list[str] = []
    for stage, folder in sorted(own.items()):
        try:
            if (folder / "selected.parquet").exists():
                table = read_table("selected", folder / "selected.parquet")
                of_stage = list(_selected(stage, folder, table))
                ends = [end[0] for each in of_stage for end in (each.most_similar, each.least_similar) if end]
                packs += _pool_packs(folder, table[table.clip_id.isin(ends)])
                wanted += ends
                selected += of_stage
            if (folder / "pseudo_labels.parquet").exists():
                labels = read_table("pseudo_labels", folder / "pseudo_labels.parquet")
                labels = labels[labels["rank"] == 1].merge(clips[["clip_id", "attributes"]], on="clip_id", how="left")
                clusters = _clusters(stage, labels)
                label_of = dict(zip(labels.clip_id, labels.domain + " " + labels.label, strict=True))
                ari = read_facts(folder / "pseudo_labels.parquet").get("ari")
                rand += [(stage, {str(name): float(value) for name, value in ari.items()})] if ari else []
        except UserError as error:
            notes.append(f"Stage {stage}: {error}")
    kept = _first_of_each(clusters)
    audio = Audio(list(dict.fromkeys(packs)), wanted)
    return Handed(selected, audio, kept, len(clusters) - len(kept), rand, label_of, notes)


def _selected(stage: int, folder: Path, table: pd.DataFrame) -> list[Selected]:
    facts = read_facts(folder / "selected.parquet")
    record = origin(folder / "selected.parquet").inputs("representatives")
    thresholds = read_table("representatives", record[0]).groupby("machine").threshold.first() if record else {}
    found = []
    for machine, part in table.sort_values("rank").groupby("machine"):
        names = part.display_name.value_counts()
        labels = [(str(name), int(count)) for name, count in names.head(MOST_LABELS).items()]
        rest = int(names.iloc[MOST_LABELS:].sum())
        known = part.score.notna().any()
        first, last = part.iloc[0], part.iloc[-1]
        found.append(
            Selected(
                stage,
                str(machine),
                len(part),
                facts.get("n_out", {}).get(str(machine)),
                facts.get("pool"),
                float(thresholds[machine]) if machine in thresholds else None,
                float(part.score.min()) if known else None,
                float(part.score.max()) if known else None,
                labels + ([("other labels", rest)] if rest else []),
                (first.clip_id, first.display_name),
                (last.clip_id, last.display_name) if len(part) > 1 else None,
            )
        )
    return found


def _pool_packs(folder: Path, chosen: pd.DataFrame) -> list[tuple[Path, Path]]:
    """Return where clips of the pool are packed: shard by shard, or those of a selection together."""
    together = folder / "selected_waveforms.parquet"
    if together.exists():
        return [(together, together.with_suffix(".int16"))]
    made = origin(folder / "selected.parquet")
    indexes = [made.base / file.path for file in made.record.inputs.get("pool_index", [])]
    shards = set(chosen.shard.astype(str))
    return [(index, index.with_suffix(".int16")) for index in indexes if index.parent.name in shards]


def _clusters(stage: int, labels: pd.DataFrame) -> list[Cluster]:
    found = []
    for (machine, domain, label), part in labels.groupby(["machine", "domain", "label"]):
        attributes = part.attributes.dropna().value_counts().head(3)
        found.append(
            Cluster(
                *(stage, str(machine), str(domain), str(label), len(part)),
                [(str(name), int(count)) for name, count in attributes.items()],
                str(part.clip_id.iloc[0]),
            )
        )
    return found


def _first_of_each(clusters: Sequence[Cluster]) -> list[Cluster]:
    """Return the largest clusters of every machine type."""
    kept = []
    for machine in dict.fromkeys(each.machine for each in clusters):
        own = [each for each in clusters if each.machine == machine]
        largest = sorted(own, key=lambda each: -each.size)[:MOST_ROWS]
        kept += [each for each in own if each in largest]
    return kept
