"""Part 2: the score of every clip of the shown run, its limit, and what follows from both."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from asdpipe.artifacts.tables import read_table
from asdpipe.errors import UserError
from asdpipe.monitor import calibration as calibrations
from asdpipe.monitor.origin import Origin, origin
from asdpipe.report.runs import Run
from asdpipe.report.sounds import Audio
from asdpipe.training.calibration import conditions, read_calibration

NORMAL, ANOMALOUS, UNKNOWN = "normal", "anomalous", "unlabelled"


@dataclass(frozen=True)
class Clips:
    """The clips of a run."""

    run: Run
    made: Origin
    """Its scores; where another method owns them, those of that method."""
    table: pd.DataFrame
    """Table ``clips`` with ``score``, ``nearest_clip_id``, ``label``, ``limit`` and ``alarm``, of the test clips; of
    the training clips, if there are no test clips."""
    training: pd.DataFrame
    """The same of the training clips."""
    promised: bool
    """Whether the limits of all shown clips keep a rate of false alarms."""
    rate: float
    """That rate; NaN: none."""

    @property
    def machines(self) -> list[str]:
        """Machine types of the shown clips."""
        return sorted(set(self.table.machine))

    @cached_property
    def audio(self) -> Audio:
        """The audio of test and training clips."""
        return Audio([pack for split in ("test", "train") for pack in _packs(self.made, split)])

    def of(self, machine: str) -> pd.DataFrame:
        """Return the shown clips of a machine type."""
        return self.table[self.table.machine == machine]

    def counts(self, machine: str | None = None) -> "Counts":
        """Return what the limits do with the clips of a machine type, or with all."""
        part = self.table if machine is None else self.of(machine)
        normal, anomalous = part[part.label == NORMAL], part[part.label == ANOMALOUS]
        return Counts(
            len(part),
            int(part.alarm.sum()),
            len(normal),
            int(normal.alarm.sum()),
            len(anomalous),
            int((~anomalous.alarm).sum()),
        )


@dataclass(frozen=True)
class Counts:
    """Clips, alarms and mistakes."""

    clips: int
    alarms: int
    normal: int
    false_alarms: int
    anomalous: int
    missed: int


def read_clips(run: Run) -> Clips:
    """Read scores and limits of a finished run.

    Raises:
        UserError: what they were made from is missing or has changed since.
    """
    auc = origin(run.auc)
    made = origin(auc.input("scores"))
    table = read_table("clips", auc.input("clips")).merge(read_table("scores", made.file), on="clip_id")
    thresholds = read_table("thresholds", made.file.with_name("thresholds.parquet")).set_index("machine")
    limit = table.machine.map(thresholds.decision_threshold).astype(float)
    promised, rate = pd.Series(False, table.index), math.nan
    calibrated = calibrations.read([made])
    if calibrated.calibration is not None and calibrated.hop is None:
        groups, rate = calibrated.calibration.groups, calibrated.calibration.rate
        of_clips = conditions(table, _by(made))
        for (machine, condition), part in table.groupby(["machine", of_clips], dropna=False):
            promise = groups.promise(str(machine), None if pd.isna(condition) else str(condition))
            if promise is not None:
                limit[part.index], promised[part.index] = promise.limit, True
    label = table.is_normal.map({True: NORMAL, False: ANOMALOUS}).fillna(UNKNOWN)
    table = table.assign(label=label, limit=limit, alarm=table.score > limit)
    tested, training = table[table.split == "test"], table[table.split == "train"]
    shown = tested if len(tested) else training
    keep = bool(promised[shown.index].all()) and len(shown) > 0
    return Clips(run, made, shown, training, keep, rate if keep else math.nan)


def _by(made: Origin) -> str:
    """Return the column of the clips that limits depend on; those of ``asdpipe calibrate`` name domains, if any."""
    file = made.file.with_name(calibrations.TABLE)
    return str(read_calibration(file)[1].get("by", "domain")) if file.exists() else "domain"


def first_embedded(made: Origin) -> Origin:
    """Return the scores of a method with embeddings: of a fusion, those of its first member."""
    while "scores" in made.record.inputs:
        made = origin(made.inputs("scores")[0])
    return made


def _packs(made: Origin, split: str) -> Iterator[tuple[Path, Path]]:
    """Yield the packed clips of a split; none where they are gone."""
    try:
        embedded = origin(first_embedded(made).input(f"{split}_embeddings"))
        index, samples = embedded.record.inputs["index"][0], embedded.record.inputs["samples"][0]
    except (UserError, KeyError, IndexError):
        return
    yield embedded.base / index.path, embedded.base / samples.path
