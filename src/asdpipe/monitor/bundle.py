"""A bundle: the detector of a stage as files for ONNX Runtime and NumPy, scored without PyTorch."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from asdpipe.data.audio import SAMPLE_RATE, tile, to_float
from asdpipe.errors import UserError, short
from asdpipe.method.alarms import Groups
from asdpipe.method.density import DensityRescaled
from asdpipe.method.mahalanobis import ShrinkageMahalanobis
from asdpipe.method.scorers import (
    NONE,
    CityBlock,
    KMeans,
    NearestNeighbours,
    ReconstructionError,
    Scorer,
    SelectiveMahalanobis,
)
from asdpipe.monitor.manifest import MANIFEST, read_manifest
from asdpipe.monitor.model import Fused, Judged, Known, Loaded, Needs, Samples, Scoring, Seeds, judge
from asdpipe.monitor.promises import Promises

if TYPE_CHECKING:
    import pandas as pd

SCORERS: dict[str, type[Scorer]] = {
    scorer.__name__: scorer
    for scorer in (
        *(KMeans, NearestNeighbours, DensityRescaled, ShrinkageMahalanobis, CityBlock),
        *(ReconstructionError, SelectiveMahalanobis),
    )
}
"""By the names that manifests have."""
BATCH = 32
CLIP_IDS = "clip_ids"
WAVEFORM, SPECTRUM = "waveform", "spectrum"

# What a manifest or arrays that do not fit each other raise.
MISFITS = (KeyError, TypeError, ValueError, AttributeError, IndexError, EOFError, MemoryError, BadZipFile)

Kind = TypeVar("Kind")


class Reading(NamedTuple):
    """How audio files are read."""

    channel: Literal["mix"] | int
    min_seconds: float


class Network:
    """An extractor in ONNX Runtime.

    Args:
        file: as ``write_onnx`` writes it.

    Raises:
        UserError: it is no such file, or ONNX Runtime is missing or too old for it.
    """

    def __init__(self, file: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            message = f"{file}: needs ONNX Runtime, which is not installed"
            raise UserError(f"{message}: pip install 'asdpipe[runtime]'") from None
        options = onnxruntime.SessionOptions()
        # As for PyTorch; 0: all cores.
        threads = os.environ.get("OMP_NUM_THREADS", "")
        options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0
        # Errors are raised anyway.
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # Its exceptions have no other base.
            reason = short(str(error), 300)
            message = f"{file}: ONNX Runtime {onnxruntime.__version__} cannot load it ({reason})"
            raise UserError(f"{message}; update onnxruntime, or export again") from None
        inputs, (output, *_) = self._session.get_inputs(), self._session.get_outputs()
        names = [each.name for each in inputs]
        if names not in ([WAVEFORM], [WAVEFORM, SPECTRUM]) or not all(isinstance(n, int) for n in output.shape[1:]):
            raise UserError(f"{file}: is not an extractor of asdpipe; export again")
        self.takes_spectrum = SPECTRUM in names
        self.dim = int(np.prod(output.shape[1:]))

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the embeddings of waveforms (batch, samples), float32 (batch, dim)."""
        inputs = {WAVEFORM: x}
        if self.takes_spectrum:
            inputs[SPECTRUM] = np.abs(np.fft.rfft(x))
        (embedding,) = self._session.run(None, inputs)
        return np.asarray(embedding, dtype=np.float32).reshape(len(x), -1)


class BundledMethod:
    """The networks and the scorers of one method.

    Args:
        known, networks: by machine type; several machine types may have the same network.
    """

    def __init__(
        self, known: Mapping[str, Known], networks: Mapping[str, Network], needs: Needs, decoding: Reading
    ) -> None:
        self.known, self.networks, self.needs, self.decoding = dict(known), dict(networks), needs, decoding
        self.shares_network = len(set(networks.values())) == 1
        # It has embeddings of the training clips, but neither their audio nor what scorers are fitted to.
        self.normals, self.takes_references = None, False

    @property
    def machines(self) -> list[str]:
        """The machine types that it was trained on."""
        return sorted(self.known)

    def embed(self, clips: Sequence[Samples], machines: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings of clips."""
        of = [self.networks[machine] for machine in machines]
        vectors: dict[int, NDArray[np.float32]] = {}
        for network in dict.fromkeys(of):
            rows = [row for row, other in enumerate(of) if other is network]
            # Whole clips differ in length, so a batch has one.
            batches = [[row] for row in rows] if self.needs.most is None else [rows]
            for batch in batches:
                samples = [tile(clips[row], self.needs.most or len(clips[row])) for row in batch]
                vectors |= zip(batch, network(to_float(np.stack(samples))), strict=True)
        return np.stack([vectors[row] for row in range(len(clips))])

    def scores(self, clips: Sequence[Samples], machines: Sequence[str]) -> Judged:
        """Return the scores of clips."""
        return judge(self.embed(clips, machines), machines, self.known)

    def refer_to(self, references: "pd.DataFrame") -> None:
        """Do nothing: references are added where the bundle is exported."""


def load_bundle(folder: Path, device: Literal["auto", "cpu", "cuda"] = "auto") -> Loaded:
    """Load a bundle.

    Raises:
        UserError: it is no bundle, damaged, of a later version, or cannot be run here.
    """
    if device == "cuda":
        raise UserError(f"{folder}: a bundle runs on the CPU; use device: auto or cpu")
    content = read_manifest(folder)
    try:
        if content["sample_rate"] != SAMPLE_RATE:
            raise ValueError(f"sample_rate is {content['sample_rate']}, not {SAMPLE_RATE}")
        channel, least = content["decoding"]["channel"], content["decoding"]["min_seconds"]
        decoding = Reading(channel if channel == "mix" else _typed(channel, int), _typed(least, float))
        model = _scoring(content["model"], folder, decoding)
        thresholds = {
            machine: float("inf") if threshold is None else _typed(threshold, float)
            for machine, threshold in content["decision_thresholds"].items()
        }
        if missing := sorted(set(model.machines) - set(thresholds)):
            raise ValueError(f"{missing[0]} has no decision threshold")
        promises = _promises(content["calibration"], folder)
    except MISFITS as error:
        reason = short(f"{type(error).__name__}: {error}", 300)
        raise UserError(f"{folder / MANIFEST}: does not fit the files of the bundle ({reason}); export again") from None
    return Loaded(model, thresholds, BATCH, 0, promises)


def _promises(entry: Mapping[str, Any] | None, folder: Path) -> Promises:
    """Return what an entry of the manifest says of the limits; None: nothing has calibrated them."""
    if entry is None:
        return Promises()
    arrays = _arrays(folder / entry["scores"])
    groups: dict[str, dict[str | None, NDArray[np.float64]]] = {}
    for number, (machine, condition) in enumerate(entry["groups"]):
        scores = arrays[str(number)]
        if scores.ndim != 1 or scores.dtype != np.float64 or np.isnan(scores).any():
            raise ValueError(f"the calibration of {machine} is not one of scores")
        name = None if condition is None else _typed(condition, str)
        groups.setdefault(_typed(machine, str), {})[name] = scores
    rate, hop = _typed(entry["false_alarms"], float), entry["hop"]
    if not 0 < rate < 1:
        raise ValueError(f"false_alarms is {rate:g}, not between 0 and 1")
    return Promises(Groups(groups, rate), None if hop is None else _typed(hop, float))


def _scoring(entry: Mapping[str, Any], folder: Path, decoding: Reading) -> Scoring:
    """Return what an entry of the manifest describes: one method, several seeds of it, or a fusion of several."""
    if "seeds" in entry:
        seeds = [_scoring(seed, folder, decoding) for seed in entry["seeds"]]
        if len(seeds) < 2 or any(seed.machines != seeds[0].machines for seed in seeds):
            raise ValueError("the seeds are not of one method")
        return Seeds(seeds)
    if "members" not in entry:
        return _method(entry, folder, decoding)
    members = [_scoring(member, folder, decoding) for member in entry["members"]]
    training = _arrays(folder / entry["training"])
    scores = {machine: training[str(number)] for number, machine in enumerate(entry["machines"])}
    for machine, values in scores.items():
        if values.ndim != 2 or len(values) != len(members) or any(machine not in each.machines for each in members):
            raise ValueError(f"the fused scores of {machine} are not those of its methods")
    if entry["scale"] not in ("z_score", "rank"):
        raise ValueError(f"there is no scale {entry['scale']}")
    return Fused(members, scores, entry["scale"])


def _method(entry: Mapping[str, Any], folder: Path, decoding: Reading) -> BundledMethod:
    arrays = _arrays(folder / entry["references"])
    files = {facts["extractor"] for facts in entry["machines"].values()}
    loaded = {file: Network(folder / file) for file in sorted(files)}
    networks = {machine: loaded[facts["extractor"]] for machine, facts in entry["machines"].items()}
    known = {}
    for number, (machine, facts) in enumerate(entry["machines"].items()):
        own = {name.partition(".")[2]: value for name, value in arrays.items() if name.startswith(f"{number}.")}
        names = own.pop(CLIP_IDS)
        scorer = SCORERS[facts["scorer"]](**facts["arguments"]).of(**own)
        # Shapes, dtypes and settings fit each other.
        found = scorer.score(np.ones((1, networks[machine].dim), dtype=np.float32), np.array([NONE]))
        if found.score.shape != (1,) or max(found.clip) >= len(names) or names.dtype.kind != "U":
            raise ValueError(f"the references of {machine} do not fit its network")
        known[machine] = Known(scorer, names.astype(object))
    needs = entry["needs"]
    most = None if needs["most"] is None else _typed(needs["most"], int)
    return BundledMethod(
        known, networks, Needs(_typed(needs["window"], int), _typed(needs["least"], int), most), decoding
    )


def _arrays(file: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file; it runs no code."""
    with np.load(file, allow_pickle=False) as loaded:
        return dict(loaded)


def _typed(value: Any, kind: type[Kind]) -> Kind:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{short(str(value))} is not {kind.__name__}")
    return value
