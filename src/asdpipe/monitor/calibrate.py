"""What ``asdpipe calibrate`` does: score normal recordings, and keep what they say of new ones."""

import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from asdpipe.artifacts.tables import read_table
from asdpipe.config.monitor import Monitor
from asdpipe.errors import UserError
from asdpipe.method.conformal import drift
from asdpipe.monitor.calibration import Calibrated, read, write
from asdpipe.monitor.command import recordings
from asdpipe.monitor.detector import Detector, load_detector
from asdpipe.monitor.manifest import MANIFEST
from asdpipe.monitor.origin import Origin, run_scores
from asdpipe.progress import Progress
from asdpipe.training.calibration import Calibration

# Clips that are drawn like the earlier ones are called different this often.
DRIFTED = 0.01
MOST_LISTED = 5

logger = logging.getLogger(__name__)


class Normals(NamedTuple):
    """Recordings of normal operation, and what is known of all of them."""

    files: list[Path]
    machine: str | None
    condition: str | None
    hop: float | None


def calibrate(
    model: Path,
    places: Sequence[Path],
    machine: str | None = None,
    condition: str | None = None,
    false_alarms: float | None = None,
    hop: float | None = None,
    references: Sequence[Path] = (),
    device: Literal["auto", "cpu", "cuda"] = "auto",
    stage: int | None = None,
) -> tuple[Path, pd.DataFrame]:
    """Calibrate the limits of a model, and return the folder of what was written, and a row per limit.

    Args:
        model, stage: as for ``asdpipe.load``; places: normal recordings, and folders with normal recordings.
        machine, hop: as for ``Detector.score_file``.
        condition: domain or other condition of all of them, which makes a limit of its own; None: one limit for all.
        false_alarms: the share of normal clips that may raise an alarm; None: as before.
        references: normal recordings that clips are compared with from now on.

    Raises:
        UserError: a recording is one that the model was trained on, or is both a reference and a normal clip; none can
            be scored; or the model does not compare with clips.
    """
    files = recordings(places)
    added = recordings(references) if references else []
    if both := {file.resolve() for file in files} & {file.resolve() for file in added}:
        message = (
            "is given as a reference and for calibration; a recording looks too normal beside itself, so use others"
        )
        raise UserError(f"{min(both)}: {message}")
    if (model / MANIFEST).is_file():
        raise UserError(f"{model}: is a bundle; calibrate the folder of the stage, and export it again")
    made = run_scores(model, stage)
    if added and len(made) > 1:
        message = "has several seeds, each with embeddings of its own; give the folder of a stage to add references to"
        raise UserError(f"{model}: {message}")
    refuse_trained(made[0], [*files, *added])
    detector = load_detector(model, device, stage)
    normals = Normals(files, machine, condition, hop)
    changed: set[str] = set()
    before = read(made)
    if added and not detector.takes_references:
        message = "this model does not compare recordings with normal clips, so that none can be added"
        raise UserError(f"{model}: {message} (--add-references); train it again with them in train/")
    if added:
        new = embedded(detector, normals._replace(files=added))
        changed = set(new.machine)
        known = [each for each in (before.references, new) if each is not None]
        joined = pd.concat(known).drop_duplicates("clip_id", keep="last")
        detector.refer_to(joined)
        before = before._replace(references=joined)
    table = scored(detector, normals)
    warn_of_drift(before, table, hop, changed)
    rate = false_alarms or (before.calibration.rate if before.calibration else Monitor().false_alarms)
    together = pd.concat([kept(before, table, hop, changed), table], ignore_index=True)
    # One limit for all replaces those of conditions.
    replaced = set(table.machine) if condition is None else set()
    conditions = before.calibration.conditions if before.calibration else {}
    conditions = {name: known for name, known in conditions.items() if name not in replaced}
    calibration = Calibration(together, rate, conditions)
    folder = write(made, Calibrated(calibration, hop, before.references))
    return folder, calibration.limits()


def show(folder: Path, limits: pd.DataFrame) -> None:
    """Print limits as lines with tabs, and log where they are."""
    numbers = limits[["limit", "smallest_rate"]].map(lambda value: "" if np.isnan(value) else f"{value:.4g}")
    shown = limits.assign(**numbers)
    sys.stdout.write(shown.to_csv(sep="\t", index=False, lineterminator="\n"))
    logger.info("written to %s; asdpipe score and asdpipe.load use them", folder)


def refuse_trained(made: Origin, files: Iterable[Path]) -> None:
    """Refuse recordings that the model was trained on: their scores are lower than those of other normal clips."""
    paths = read_table("clips", made.input("train_clips"), ["path"]).path
    trained = {(made.base / path).resolve() for path in paths}
    if found := [file for file in files if file.resolve() in trained]:
        more = f" (and on {len(found) - 1} more)" if len(found) > 1 else ""
        message = f"the model was trained on it{more}, so that it says nothing of new recordings"
        raise UserError(f"{found[0]}: {message}; give normal recordings of other times")


def scored(detector: Detector, normals: Normals) -> pd.DataFrame:
    """Return the scores of recordings (table ``calibration``); those that cannot be used are in the log.

    Raises:
        UserError: there is no score at all.
    """
    rows, reasons = [], []
    progress = Progress("scoring", len(normals.files), "file")
    for row in detector.score_files(normals.files, normals.machine, normals.hop):
        progress.advance(1)
        if row.result is None:
            reasons.append(f"{row.file}: {row.reason}")
        else:
            rows.append((named(row.file), row.result.machine, normals.condition, row.result.score))
    progress.close()
    left_out(reasons, len(normals.files))
    return pd.DataFrame(rows, columns=["clip_id", "machine", "condition", "score"])


def embedded(detector: Detector, normals: Normals) -> pd.DataFrame:
    """Return the embeddings of recordings (table ``references``); those that cannot be used are in the log.

    Raises:
        UserError: there is none at all.
    """
    rows, reasons = [], []
    # What is not said to be of the source domain is a condition with few clips, as the target domain is.
    domain = "source" if normals.condition in (None, "source") else "target"
    for file in normals.files:
        try:
            vectors = detector.embed_file(file, normals.machine, normals.hop)
        except UserError as reason:
            reasons.append(str(reason))
            continue
        machine = detector.machine_of(file, normals.machine)
        for start, vector in vectors.items():
            name = named(file) if start is None else f"{named(file)}, from {start:g} s"
            rows.append((name, machine, domain, vector))
    left_out(reasons, len(normals.files))
    return pd.DataFrame(rows, columns=["clip_id", "machine", "domain", "embedding"])


def left_out(reasons: Sequence[str], of: int) -> None:
    """Log recordings that cannot be used.

    Raises:
        UserError: none can.
    """
    if len(reasons) == of:
        raise UserError(f"none of {of} recordings can be used, e.g. {reasons[0]}")
    for reason in reasons[:MOST_LISTED]:
        logger.warning("left out: %s", reason)
    if len(reasons) > MOST_LISTED:
        logger.warning("and %d more left out", len(reasons) - MOST_LISTED)


def named(file: Path) -> str:
    """Return the path of a recording as text, which file names need not be."""
    return os.fsencode(file.absolute()).decode(errors="replace")


def warn_of_drift(before: Calibrated, table: pd.DataFrame, hop: float | None, changed: set[str]) -> None:
    """Warn of machine types whose new normal clips do not score like the earlier ones.

    Args:
        changed: machine types whose scores are not comparable, as references were added.
    """
    if before.calibration is None or before.hop != hop:
        return
    for machine, part in table.groupby("machine"):
        of, condition = before.calibration.groups.scores.get(str(machine), {}), part.condition.iloc[0]
        earlier = [of[condition]] if condition in of else list(of.values()) if condition is None else []
        scores, known = part.score.to_numpy(), np.concatenate([np.zeros(0), *earlier])
        if machine in changed or not len(known):
            continue
        found = drift(scores, known)
        if found < DRIFTED:
            logger.warning(
                "%s: the new normal clips do not score like the %d earlier ones (two-sample Kolmogorov-Smirnov test, "
                "p = %.2g; median %.4g instead of %.4g). The machine, its surroundings or the microphone may have "
                "changed: make sure that the new clips are normal before you rely on their limit",
                machine,
                len(known),
                found,
                np.median(scores),
                np.median(known),
            )


def kept(before: Calibrated, table: pd.DataFrame, hop: float | None, changed: set[str]) -> pd.DataFrame:
    """Return earlier calibration scores that the new ones do not replace.

    Those of a condition replace those of the condition; those without replace all of the machine type. Scores of
    windows cannot be mixed with others.
    """
    if before.calibration is None:
        return table[:0]
    earlier = before.calibration.table
    known = earlier.condition.astype(object).where(earlier.condition.notna(), None)
    condition, machines = table.condition.iloc[0], set(table.machine)
    replaced = earlier.machine.isin(machines)
    if condition is not None:
        replaced &= known.isna() | (known == condition)
    replaced |= earlier.machine.isin(changed) | earlier.clip_id.isin(table.clip_id)
    if before.hop != hop:
        replaced[:] = True
    if gone := sorted(set(earlier.machine[replaced]) - machines):
        logger.warning("%s: calibrate again, too, as earlier scores are not comparable", ", ".join(gone))
    return earlier[~replaced]
