"""The calibration of a model: what the workflow held out, or what ``asdpipe calibrate`` has made since.

The latter is in a folder ``monitor``, which no rule of the workflow writes or deletes. It counts as long as the model
gives its training clips the scores that they had, and no longer.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from asdpipe.artifacts.files import file_digest
from asdpipe.artifacts.tables import read_facts, read_table, write_table
from asdpipe.monitor.origin import Origin, origin
from asdpipe.monitor.promises import Promises
from asdpipe.training.calibration import Calibration, read_calibration, read_mean, write_calibration

FOLDER, TABLE, LIMITS, REFERENCES = "monitor", "calibration.parquet", "limits.csv", "references.parquet"

logger = logging.getLogger(__name__)


class Calibrated(NamedTuple):
    """What is known of a model besides its results."""

    calibration: Calibration | None = None
    hop: float | None = None
    """Of the windows that the calibration clips were split into, in s; None: they were not."""
    references: pd.DataFrame | None = None
    """Table ``references``: clips that were added to those that clips are compared with."""

    @property
    def promises(self) -> Promises:
        """What limits promise."""
        return Promises(None if self.calibration is None else self.calibration.groups, self.hop)


def place(made: Sequence[Origin]) -> Path:
    """Return the folder that ``asdpipe calibrate`` writes to: beside the scores, or beside the folders of the seeds.

    Args:
        made: the scores of each seed.
    """
    stage = made[0].file.parent
    return stage / FOLDER if len(made) == 1 else stage.parents[1] / FOLDER / stage.name


def read(made: Sequence[Origin]) -> Calibrated:
    """Return the calibration of a model.

    Args:
        made: the scores of each seed.

    Raises:
        UserError: a file is damaged.
    """
    folder = place(made)
    model, references = digest(made), None
    if (folder / REFERENCES).exists():
        if read_facts(folder / REFERENCES).get("model") == model:
            references = read_table("references", folder / REFERENCES)
        else:
            _left_out(folder / REFERENCES)
    if (folder / TABLE).exists():
        calibration, facts = read_calibration(folder / TABLE)
        if facts.get("model") == model and facts.get("references") == _digest_of(folder, references):
            return Calibrated(calibration, facts.get("hop"), references)
        _left_out(folder / TABLE)
    files = [each.file.with_name(TABLE) for each in made]
    # The workflow's calibration knows nothing of added references.
    if references is not None or not all(file.exists() for file in files):
        return Calibrated(references=references)
    for each in map(origin, files):
        for name in ("train_embeddings", "representatives"):
            each.inputs(name)
    return Calibrated(read_mean(files)[0])


def write(made: Sequence[Origin], calibrated: Calibrated) -> Path:
    """Write calibration and references of a model, and return their folder.

    The references are first: if only they are written, the calibration does not count, and limits promise nothing.
    """
    folder, model = place(made), {"model": digest(made)}
    references, calibration = calibrated.references, calibrated.calibration
    assert calibration is not None
    if references is None:
        # Of another model, if there are any.
        (folder / REFERENCES).unlink(missing_ok=True)
    else:
        write_table("references", references, folder / REFERENCES, model)
    facts: Mapping[str, Any] = {"hop": calibrated.hop, "references": _digest_of(folder, references)}
    write_calibration(calibration, folder / TABLE, folder / LIMITS, {**model, **facts})
    return folder


def digest(made: Sequence[Origin]) -> str:
    """Return a digest of the scores that a model gives its training clips; new test clips do not change it."""
    found = hashlib.sha256()
    for each in made:
        names = read_table("clips", each.input("train_clips"), ["clip_id"]).clip_id
        scores = read_table("scores", each.file, ["clip_id", "score"])
        training = scores[scores.clip_id.isin(names)].sort_values("clip_id")
        found.update("\n".join(training.clip_id).encode() + training.score.to_numpy().tobytes())
    return found.hexdigest()


def _digest_of(folder: Path, references: pd.DataFrame | None) -> str | None:
    return None if references is None else file_digest(folder / REFERENCES)


def _left_out(file: Path) -> None:
    logger.warning("%s: is not used, as it was made with another model; run asdpipe calibrate again", file)
