"""Write the detector of a stage as a bundle, which is scored without PyTorch, if its scores are the same."""

import inspect
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import asdpipe
from asdpipe.artifacts.files import whole_folder
from asdpipe.artifacts.tables import read_table
from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.errors import UserError
from asdpipe.models.onnx_files import OPSET, write_onnx
from asdpipe.monitor.bundle import CLIP_IDS, SCORERS, load_bundle
from asdpipe.monitor.detector import Detector
from asdpipe.monitor.manifest import MANIFEST, is_bundle, write_manifest
from asdpipe.monitor.model import Fused, Scoring, Seeds
from asdpipe.monitor.origin import Origin, run_scores
from asdpipe.monitor.promises import Promises
from asdpipe.monitor.rows import Row
from asdpipe.monitor.scoring import OneMethod, load_trained
from asdpipe.progress import Progress

# Of all machine types together; at least some of each.
CLIPS, CLIPS_OF_MACHINE = 64, 4
TOLERANCE = 1e-4
CALIBRATION = "calibration.npz"

logger = logging.getLogger(__name__)


class Parity(NamedTuple):
    """How the scores of a bundle compare with those of the stage."""

    recordings: int
    difference: float
    """Largest difference of scores, see ``difference``."""


def export(
    folder: Path, bundle: Path, recordings: Sequence[tuple[Path, str | None]] = (), stage: int | None = None
) -> Parity:
    """Write a bundle if its scores are those of the stage.

    Args:
        folder, stage: as for ``asdpipe.load``.
        bundle: folder to write; a bundle that is there is replaced.
        recordings: to compare scores of, and their machine types if known; none: clips of the data set.

    Raises:
        UserError: the folder holds something else, the network cannot be written, or the scores differ.
    """
    if (folder / MANIFEST).is_file():
        raise UserError(f"{folder}: is a bundle already; give the folder of a stage, or copy the bundle")
    if bundle.exists() and not is_bundle(bundle) and (not bundle.is_dir() or any(bundle.iterdir())):
        raise UserError(f"{bundle}: is there and is no bundle; give the name of a new folder")
    loaded = load_trained(folder, "cpu", stage)
    compared = list(recordings) or own_clips(run_scores(folder, stage)[0], loaded.model.machines)
    with whole_folder(bundle) as temporary:
        model = _write_model(loaded.model, temporary, Path())
        content = {
            "asdpipe": asdpipe.__version__,
            "onnx_opset": OPSET,
            "machines": loaded.model.machines,
            "sample_rate": SAMPLE_RATE,
            "decoding": {"channel": loaded.model.decoding.channel, "min_seconds": loaded.model.decoding.min_seconds},
            "decision_thresholds": {machine: _finite(loaded.thresholds[machine]) for machine in loaded.model.machines},
            "calibration": _write_calibration(loaded.promises, temporary),
            "model": model,
        }
        write_manifest(temporary, content)
        parity = compare(Detector(*loaded), Detector(*load_bundle(temporary)), compared)
        facts = {"recordings": parity.recordings, "largest_difference": parity.difference}
        write_manifest(temporary, content | {"parity": facts})
    return parity


def own_clips(made: Origin, machines: Sequence[str]) -> list[tuple[Path, str | None]]:
    """Return test clips of every machine type, evenly over its list, or training clips if it has no test clips.

    A training clip is compared with itself: its distance, and what a fusion makes of it, is a rounding error.

    Raises:
        UserError: the recordings of a machine type are no longer there.
    """
    found: list[tuple[Path, str | None]] = []
    most = max(CLIPS_OF_MACHINE, CLIPS // len(machines))
    tables = [read_table("clips", made.input(name)) for name in ("test_clips", "train_clips")]
    for machine in machines:
        lists = ([made.base / path for path in table.path[table.machine == machine]] for table in tables)
        files = next(filter(None, ([file for file in each if file.is_file()] for each in lists)), [])
        if not files:
            message = f"{made.file}: the recordings of {machine} are no longer there, which the bundle is checked with"
            raise UserError(f"{message}; give others (--clips FOLDER)")
        picked = np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)
        found += [(files[row], machine) for row in picked]
    return found


def compare(stage: Detector, bundle: Detector, recordings: Sequence[tuple[Path, str | None]]) -> Parity:
    """Compare the scores of recordings, whose machine types may be given.

    Raises:
        UserError: none has a score, or scores differ by more than 1e-4, or decisions differ.
    """
    progress = Progress("comparing scores", len(recordings), "clip")
    differences: list[float] = []
    wrong: list[str] = []
    for machine in dict.fromkeys(machine for _, machine in recordings):
        files = [file for file, other in recordings if other == machine]
        for one, other in zip(stage.score_files(files, machine), bundle.score_files(files, machine), strict=True):
            progress.advance(1)
            differences += [] if one.result is None or other.result is None else [difference(one, other)]
            if not agree(one, other):
                wrong.append(f"{one.file} ({_told(one)} by PyTorch, {_told(other)} by ONNX Runtime)")
    progress.close()
    if not differences:
        raise UserError("the bundle is not written: none of the recordings it is checked with has a score (--clips)")
    if wrong:
        message = f"the bundle is not written: {len(wrong)} of {len(recordings)} recordings have other scores"
        raise UserError(f"{message}, such as {wrong[0]}; another version of onnxruntime may help")
    return Parity(len(differences), max(differences))


def agree(one: Row, other: Row) -> bool:
    """Return whether two rows of a recording have the same decision, and scores that differ by rounding alone."""
    if one.result is None or other.result is None:
        return one.reason == other.reason
    if difference(one, other) > TOLERANCE:
        return False
    # A limit may be the score of a clip, which rounding alone then puts above or below it.
    return one.result.anomalous == other.result.anomalous or one.result.score == one.result.limit


def difference(one: Row, other: Row) -> float:
    """Return the difference of two scores; where score or limit are beyond 1, as a share of the larger one.

    Sums over many dimensions, such as city-block distances, are rounded in proportion to their limit, also near 0.
    """
    assert one.result is not None
    assert other.result is not None
    a, b, limit = one.result.score, other.result.score, abs(one.result.limit)
    return 0.0 if a == b else abs(a - b) / max(1.0, abs(a), limit if math.isfinite(limit) else 0)


def _told(row: Row) -> str:
    return row.reason if row.result is None else f"{row.result.score:.6g}, limit {row.result.limit:.6g}"


def _write_model(model: Scoring, folder: Path, place: Path) -> dict[str, Any]:
    """Write the files of a model below a place in the folder of a bundle, and return its entry of the manifest."""
    (folder / place).mkdir(exist_ok=True)
    if isinstance(model, Seeds):
        seeds = [_write_model(seed, folder, place / f"seed{row}") for row, seed in enumerate(model.members)]
        return {"seeds": seeds}
    if isinstance(model, Fused):
        training = place / "training.npz"
        _write_arrays(folder / training, {str(row): model.training[name] for row, name in enumerate(model.machines)})
        members = [_write_model(member, folder, place / f"method{row}") for row, member in enumerate(model.members)]
        return {"members": members, "scale": model.scale, "training": str(training), "machines": model.machines}
    assert isinstance(model, OneMethod)
    extractors = {machine: model.extractor.of_machine(machine) for machine in model.machines}
    names = {}
    for number, extractor in enumerate(dict.fromkeys(extractors.values())):
        names[extractor] = str(place / ("extractor.onnx" if model.shares_network else f"extractor{number}.onnx"))
        write_onnx(extractor, folder / names[extractor])
    arrays: dict[str, Any] = {}
    machines = {}
    for row, machine in enumerate(model.machines):
        known = model.known[machine]
        arrays |= {f"{row}.{name}": values for name, values in known.scorer.arrays().items()}
        arrays[f"{row}.{CLIP_IDS}"] = known.clip_ids.astype(np.str_)
        kind = type(known.scorer)
        assert SCORERS[kind.__name__] is kind
        arguments = {name: getattr(known.scorer, name) for name in inspect.signature(kind).parameters}
        machines[machine] = {
            "extractor": names[extractors[machine]],
            "scorer": kind.__name__,
            "arguments": arguments,
        }
    references = place / "references.npz"
    _write_arrays(folder / references, arrays)
    return {"machines": machines, "references": str(references), "needs": model.needs._asdict()}


def _write_calibration(promises: Promises, folder: Path) -> dict[str, Any] | None:
    """Write the scores that calibrate the limits, and return the entry of the manifest; None: there are none."""
    if promises.groups is None:
        return None
    groups = [(machine, name, scores) for machine, of in promises.groups.scores.items() for name, scores in of.items()]
    _write_arrays(folder / CALIBRATION, {str(row): scores for row, (*_, scores) in enumerate(groups)})
    return {
        "false_alarms": promises.groups.rate,
        "hop": promises.hop,
        "groups": [[machine, name] for machine, name, _ in groups],
        "scores": CALIBRATION,
    }


def _write_arrays(file: Path, arrays: dict[str, Any]) -> None:
    """Write arrays; the same ones give the same bytes."""
    with file.open("wb") as target:
        np.savez(target, allow_pickle=False, **arrays)


def _finite(limit: float) -> float | None:
    # JSON has no infinity.
    return limit if math.isfinite(limit) else None
