"""A trained detector, for new recordings."""

import io
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import soundfile
from numpy.typing import ArrayLike, NDArray

from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.data.decoding import Clip, decoded
from asdpipe.data.reading import BadClip, Source, read_clip
from asdpipe.errors import UserError
from asdpipe.method.alarms import Promise
from asdpipe.monitor.bundle import load_bundle
from asdpipe.monitor.manifest import MANIFEST
from asdpipe.monitor.model import Samples, Scoring
from asdpipe.monitor.promises import Promises
from asdpipe.monitor.rows import Result, Row

if TYPE_CHECKING:
    import pandas as pd

    from asdpipe.monitor.explanation import Explanation

# In Hz; the highest that sound cards have.
HIGHEST_RATE = 768_000
# Floats beyond this are on another scale than [-1, 1]; a little more than 1 is clipped, as in files.
LOUDEST = 4.0
WAVEFORM = Path("waveform")
"""Stands for the file of a waveform in memory."""


@dataclass
class _Recording:
    """A recording of which windows are being scored."""

    file: Path
    machine: str
    reason: str
    windows_left: int
    promise: Promise | None
    result: Result | None = None

    def row(self) -> Row:
        """Return the row, once no window is left."""
        return Row(self.file, self.machine or None, None if self.reason else self.result, self.reason)


class Detector:
    """Scores recordings with network, training clips and limits of a stage, of one or several seeds, or of a bundle.

    Args:
        model: scores clips.
        thresholds: decision threshold of every machine type, which counts where nothing is promised.
        batch: clips to embed at once.
        threads: decode files meanwhile; 0: files are decoded in between.
        promises: what limits promise.
    """

    def __init__(
        self,
        model: Scoring,
        thresholds: Mapping[str, float],
        batch: int,
        threads: int,
        promises: Promises,
    ) -> None:
        self._model, self._batch, self._threads, self._thresholds = model, batch, threads, dict(thresholds)
        self.promises = promises

    def refer_to(self, references: "pd.DataFrame") -> None:
        """Compare recordings with these normal clips (table ``references``), too; nothing is promised any more."""
        self._model.refer_to(references)
        self.promises = Promises()

    @property
    def takes_references(self) -> bool:
        """Whether recordings are compared with clips that others can be added to, without training."""
        return self._model.takes_references

    @property
    def limits(self) -> dict[str, float]:
        """Limits by machine type, for recordings of an unknown condition that are not split into windows."""
        promises = {machine: self.promises.promise(machine, None, None) for machine in self.machines}
        return {machine: each.limit if each else self._thresholds[machine] for machine, each in promises.items()}

    @property
    def machines(self) -> list[str]:
        """The machine types that it was trained on."""
        return self._model.machines

    @property
    def seconds(self) -> float:
        """Length of its clips; others are repeated or cut to it, or split into windows of it."""
        return self._model.needs.window / SAMPLE_RATE

    def embed(self, waveform: ArrayLike, sample_rate: int, machine: str | None = None) -> NDArray[np.float32]:
        """Return the embedding of a waveform, (dim,).

        Args:
            waveform: float in [-1, 1] or int16, (samples,); sample_rate: in Hz.
            machine: its machine type; needed where each has a network of its own.

        Raises:
            UserError: the waveform cannot be used, or the machine type is not known.
        """
        shared = machine is None and self._model.shares_network
        known = self.machines[0] if shared else self.machine_of(WAVEFORM, machine)
        return self._model.embed([self._samples(waveform, sample_rate, None)], [known])[0]

    def embed_file(
        self, file: str | Path, machine: str | None = None, hop: float | None = None
    ) -> dict[float | None, NDArray[np.float32]]:
        """Return the embeddings of an audio file's windows, (dim,), by their start in s; without ``hop`` by None.

        Raises:
            UserError: the file cannot be used, or its machine type is not known.
        """
        _check_hop(hop)
        known = self.machine_of(Path(file), machine)
        try:
            samples = self._read(Path(file), hop, self._model.decoding.channel)
        except BadClip as reason:
            raise UserError(f"{file}: {reason}") from None
        windows = self._windows(samples, hop)
        vectors = (self._model.embed([window], [known])[0] for window in windows.values())
        return dict(zip(windows, vectors, strict=True))

    def score(
        self,
        waveform: ArrayLike,
        sample_rate: int,
        machine: str | None = None,
        hop: float | None = None,
        condition: str | None = None,
    ) -> Result:
        """Return the score of a waveform.

        Args:
            waveform: float in [-1, 1] or int16, (samples,); sample_rate: in Hz.
            machine: its machine type; None: the only one.
            hop: score windows that begin every so many seconds, and take the highest score; None: its beginning alone,
                as in the workflow.
            condition: domain or other condition that limits were calibrated for; None: not known.

        Raises:
            UserError: the waveform cannot be used, or the machine type is not known.
        """
        _check_hop(hop)
        known = self.machine_of(WAVEFORM, machine)
        samples = self._samples(waveform, sample_rate, hop)
        return _result(next(self._rows([(WAVEFORM, known, samples)], hop, condition)))

    def score_file(
        self, file: str | Path, machine: str | None = None, hop: float | None = None, condition: str | None = None
    ) -> Result:
        """Return the score of an audio file; arguments as for ``score``.

        Args:
            machine: its machine type; None: the only one, or that of the nearest folder with the name of one.

        Raises:
            UserError: the file cannot be used, or its machine type is not known.
        """
        return _result(next(self.score_files([file], machine, hop, condition)))

    def score_files(
        self,
        files: Iterable[str | Path],
        machine: str | None = None,
        hop: float | None = None,
        condition: str | None = None,
    ) -> Iterator[Row]:
        """Yield a row for each audio file, in order, embedded in batches.

        A file that cannot be used has a row with the reason. Arguments as for ``score_file``.

        Raises:
            UserError: the detector knows no such machine type.
        """
        if machine is not None:
            self.machine_of(WAVEFORM, machine)
        _check_hop(hop)
        located = (self._located(Path(file), machine) for file in files)
        places, ahead = tee(located)
        clips = (Clip("", "", reason or file) for file, _, reason in ahead)
        read = partial(self._read, hop=hop, channel=self._model.decoding.channel)
        # Whole hours may wait to be split into windows.
        threads = self._threads if hop is None else min(self._threads, 1)
        samples = (each.samples for each in decoded(clips, read, threads))
        recordings = ((file, known, each) for (file, known, _), each in zip(places, samples, strict=True))
        return self._rows(recordings, hop, condition)

    def explain(self, waveform: ArrayLike, sample_rate: int, machine: str | None = None) -> "Explanation":
        """Return why a waveform has its score: which parts of it raise the score, and by how much.

        Its beginning counts, as for ``score`` without ``hop``; arguments as for ``score``.

        Raises:
            UserError: the waveform cannot be used or explained, the machine type is not known, or the audio of the
                training clips is gone.
        """
        known = self.machine_of(WAVEFORM, machine)
        return self._explanation(WAVEFORM, known, self._samples(waveform, sample_rate, None))

    def explain_file(self, file: str | Path, machine: str | None = None) -> "Explanation":
        """Return why an audio file has its score; arguments and errors as for ``score_file`` and ``explain``."""
        place, known, reason = self._located(Path(file), machine)
        try:
            if reason is not None:
                raise reason
            samples = self._read(place, None, self._model.decoding.channel)
        except BadClip as bad:
            raise UserError(f"{file}: {bad}") from None
        return self._explanation(place, known, samples)

    def _explanation(self, file: Path, machine: str, samples: Samples) -> "Explanation":
        from asdpipe.monitor.explanation import explain

        try:
            result = _result(next(self._rows([(file, machine, samples)], None, None)))
            scored = result.score, result.limit, result.nearest_clip
            return explain(self._model, samples, machine, *scored, self._batch)
        except UserError as error:
            raise UserError(f"{file}: {error}") from None

    def machine_of(self, file: Path, machine: str | None = None) -> str:
        """Return the machine type of a file: what is given, the only one, or what a folder above the file says.

        Raises:
            UserError: none of them is a machine type that the detector knows.
        """
        known = self.machines
        if machine is not None:
            if machine not in known:
                raise UserError(f"there is no machine type {machine!r} in this model, only {', '.join(known)}")
            return machine
        if len(known) == 1:
            return known[0]
        folders = [] if file == WAVEFORM else file.absolute().parents
        for folder in folders:
            if folder.name in known:
                return folder.name
        where = "" if file == WAVEFORM else "no folder above it has the name of a machine type, so "
        raise UserError(f"{where}say which machine type it is: {', '.join(known)}")

    def _located(self, file: Path, machine: str | None) -> tuple[Path, str, BadClip | None]:
        try:
            return file, self.machine_of(file, machine), None
        except UserError as error:
            return file, "", BadClip(str(error))

    def _read(self, source: Source, hop: float | None, channel: Literal["mix"] | int) -> Samples:
        """Read a clip as the workflow does; what does not count is cut off.

        Raises:
            BadClip: it cannot be used.
        """
        needs = self._model.needs
        try:
            samples = read_clip(source, channel, self._model.decoding.min_seconds)
        except OSError as error:
            raise BadClip(f"the file cannot be read ({error.strerror})") from None
        if len(samples) < needs.least:
            raise BadClip(f"is shorter than {needs.least / SAMPLE_RATE:g} s, which the network needs")
        return samples if hop is not None or needs.most is None else samples[: needs.most]

    def _samples(self, waveform: ArrayLike, sample_rate: int, hop: float | None) -> Samples:
        """Return a waveform as it would be read from a file.

        Raises:
            UserError: it cannot be used.
        """
        values = np.asarray(waveform)
        if values.ndim != 1:
            raise UserError(f"waveform: has the shape {values.shape}, not (samples,); give one channel")
        if values.dtype != np.int16 and values.dtype.kind != "f":
            raise UserError(f"waveform: holds {values.dtype}; give int16, or float in [-1, 1]")
        if values.dtype.kind == "f" and np.abs(values).max(initial=0) > LOUDEST:
            message = f"waveform: has values up to {np.abs(values).max():g}, but floats must be in [-1, 1]"
            raise UserError(f"{message}; divide them by full scale (32768 of 16 bits)")
        if not isinstance(sample_rate, int | np.integer) or not 1 <= sample_rate <= HIGHEST_RATE:
            raise UserError(f"sample_rate: {sample_rate!r} is not a whole number of Hz from 1 to {HIGHEST_RATE}")
        values = values if values.dtype == np.int16 else values.astype(np.float32)
        file = io.BytesIO()
        subtype = "PCM_16" if values.dtype == np.int16 else "FLOAT"
        soundfile.write(file, values, int(sample_rate), format="WAV", subtype=subtype)
        try:
            return self._read(file.getvalue(), hop, "mix")
        except BadClip as reason:
            raise UserError(f"waveform: {reason}") from None

    def _rows(
        self, recordings: Iterable[tuple[Path, str, Samples | BadClip]], hop: float | None, condition: str | None
    ) -> Iterator[Row]:
        """Yield the rows of recordings of known machine types, in order."""
        waiting: deque[_Recording] = deque()
        batch: list[tuple[_Recording, float | None, Samples]] = []
        promise = cache(partial(self.promises.promise, condition=condition, hop=hop))
        for file, machine, samples in recordings:
            windows = {} if isinstance(samples, BadClip) else self._windows(samples, hop)
            reason = str(samples) if isinstance(samples, BadClip) else ""
            waiting.append(_Recording(file, machine, reason, len(windows), promise(machine)))
            for start, window in windows.items():
                batch.append((waiting[-1], start, window))
                if len(batch) == self._batch:
                    self._score(batch)
                    batch.clear()
            while waiting and not waiting[0].windows_left:
                yield waiting.popleft().row()
        if batch:
            self._score(batch)
        yield from (each.row() for each in waiting)

    def _windows(self, samples: Samples, hop: float | None) -> dict[float | None, Samples]:
        """Return windows by their start in s; the last one ends where the recording ends."""
        if hop is None:
            return {None: samples}
        size = self._model.needs.window
        last = max(0, len(samples) - size)
        starts = [*range(0, last, max(1, round(hop * SAMPLE_RATE))), last]
        return {start / SAMPLE_RATE: samples[start : start + size] for start in starts}

    def _score(self, batch: Sequence[tuple[_Recording, float | None, Samples]]) -> None:
        """Score windows, and note in their recordings the results with the highest scores."""
        judged = self._model.scores([window for *_, window in batch], [each.machine for each, *_ in batch])
        spreads = [None] * len(batch) if judged.spread is None else judged.spread.tolist()
        columns = judged.score.tolist(), judged.nearest_clip, spreads
        for (recording, start, _), score, nearest, spread in zip(batch, *columns, strict=True):
            recording.windows_left -= 1
            if np.isnan(score):
                recording.reason = "its score is not a number"
            elif recording.result is None or score > recording.result.score:
                machine, promise = recording.machine, recording.promise
                limit = self._thresholds[machine] if promise is None else promise.limit
                p_value = None if promise is None else float(promise.p_values(score))
                recording.result = Result(score, limit, machine, nearest, spread, start, p_value)


def load_detector(folder: Path, device: Literal["auto", "cpu", "cuda"] = "auto", stage: int | None = None) -> Detector:
    """Load the detector of a stage, of all seeds of a run, or of a bundle; see ``asdpipe.load``."""
    if (folder / MANIFEST).is_file():
        if stage is not None:
            raise UserError(f"{folder}: is a bundle, in which no stage can be chosen")
        return Detector(*load_bundle(folder, device))
    try:
        # PyTorch takes a second to import, and is not there where only bundles are scored.
        from asdpipe.monitor.scoring import load_trained
    except ModuleNotFoundError as error:
        message = f"{folder}: is no bundle (no {MANIFEST}), and folders of stages need {error.name}, which is missing"
        raise UserError(f"{message}: give a bundle, or pip install 'asdpipe[train]'") from None
    return Detector(*load_trained(folder, device, stage))


def _check_hop(hop: float | None) -> None:
    if hop is not None and not 0 < hop < math.inf:
        raise UserError(f"hop: {hop:g} is not a number of seconds above 0")


def _result(row: Row) -> Result:
    if row.result is None:
        raise UserError(f"{row.file}: {row.reason}")
    return row.result
