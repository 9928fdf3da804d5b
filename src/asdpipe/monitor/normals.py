"""The audio of the training clips, found by the records beside the results."""

from functools import cached_property
from itertools import chain

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from asdpipe.data.manifests import packed_clips
from asdpipe.data.waveforms import Waveforms
from asdpipe.errors import UserError
from asdpipe.method.representatives import nearest_neighbour
from asdpipe.models.log_mel import LogMelStatistics
from asdpipe.monitor.model import Samples
from asdpipe.monitor.origin import Origin
from asdpipe.training.embedding import embed


class TrainingClips:
    """The training clips of a stage; their audio is read once it is needed.

    Args:
        embedded: the embeddings of the training clips.
    """

    def __init__(self, embedded: Origin) -> None:
        self._embedded = embedded
        self._statistics: dict[str, NDArray[np.float32]] = {}

    @cached_property
    def _waveforms(self) -> Waveforms:
        index = self._embedded.input("index")
        try:
            return Waveforms([(index, self._embedded.input("samples"))])
        except UserError as error:
            raise UserError(f"the audio of the training clips is needed to explain a score: {error}") from None

    @cached_property
    def _clips(self) -> pd.DataFrame:
        return packed_clips(self._embedded.input("clips"), self._embedded.input("index"))

    def has(self, clip_id: str) -> bool:
        """Return whether there is a training clip of this name."""
        return clip_id in set(self._clips.clip_id)

    def audio(self, clip_id: str) -> Samples:
        """Return the samples of a training clip.

        Raises:
            UserError: they are gone, or have changed since the stage was made from them.
        """
        (row,) = self._waveforms.rows([clip_id], [True])
        return np.array(self._waveforms[row])

    def most_similar(self, samples: Samples, machine: str) -> str:
        """Return the training clip of a machine type with the most similar log-mel statistics.

        They are compared as by the baseline ``raw_logmel``. Those of all training clips are computed once.

        Raises:
            UserError: as for ``audio``.
        """
        names = self._clips.clip_id[self._clips.machine == machine].to_numpy(dtype=object)
        if machine not in self._statistics:
            rows = self._waveforms.rows(names, [True] * len(names))
            self._statistics[machine] = _statistics([self._waveforms[row] for row in rows], len(samples))
        known = self._statistics[machine].astype(np.float64)
        query = _statistics([samples], len(samples)).astype(np.float64)
        _, (nearest,) = nearest_neighbour(query, known, np.zeros((1, len(known)), dtype=np.bool_))
        return str(names[nearest])


def _statistics(clips: list[Samples], num_samples: int) -> NDArray[np.float32]:
    batches = embed(LogMelStatistics(num_samples), clips, 0, torch.device("cpu"))
    return np.stack(list(chain.from_iterable(batches)))
