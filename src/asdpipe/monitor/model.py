"""What scores the clips of a detector, whatever runs its network."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from asdpipe.errors import UserError
from asdpipe.method.fusion import Scale, fuse
from asdpipe.method.scorers import NONE, Scorer
from asdpipe.monitor.promises import Promises

if TYPE_CHECKING:
    import pandas as pd

Samples = NDArray[np.int16]


class Judged(NamedTuple):
    """Scores of clips."""

    score: NDArray[np.float64]
    """(clips,), larger is more anomalous."""
    nearest_clip: NDArray[np.object_]
    """(clips,): name of the training clip behind the score; None: none."""
    spread: NDArray[np.float64] | None = None
    """(clips,): standard deviation of the score over the seeds; None: there is one seed."""


class Needs(NamedTuple):
    """What a network needs of a clip, in samples at 16 kHz."""

    window: int
    """Length of the data set's clips."""
    least: int
    most: int | None
    """More samples do not count; None: all count."""


class Reading(Protocol):
    """How audio files are read."""

    @property
    def channel(self) -> Literal["mix"] | int:
        """The channel that counts, or the mean of all."""

    @property
    def min_seconds(self) -> float:
        """Shorter recordings are bad."""


class Normals(Protocol):
    """The audio of the training clips."""

    def has(self, clip_id: str) -> bool:
        """Return whether there is a training clip of this name."""

    def audio(self, clip_id: str) -> Samples:
        """Return the samples of a training clip."""

    def most_similar(self, samples: Samples, machine: str) -> str:
        """Return the name of the training clip of a machine type that samples are most similar to."""


class Scoring(Protocol):
    """Scores clips of known machine types."""

    needs: Needs
    shares_network: bool
    """Whether embeddings do not depend on the machine type."""
    takes_references: bool
    """Whether it compares with clips that others can be added to."""

    @property
    def normals(self) -> Normals | None:
        """The audio of the training clips; None: it is not there."""

    @property
    def decoding(self) -> Reading:
        """How its clips were read."""

    @property
    def machines(self) -> list[str]:
        """The machine types that it was trained on."""

    def embed(self, clips: Sequence[Samples], machines: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings of 16 kHz clips and their machine types, (clips, dim)."""

    def scores(self, clips: Sequence[Samples], machines: Sequence[str]) -> Judged:
        """Return the scores of 16 kHz clips and their machine types."""

    def refer_to(self, references: "pd.DataFrame") -> None:
        """Compare clips with these normal clips (table ``references``), too, in place of those given before."""


class Loaded(NamedTuple):
    """What a detector is made of."""

    model: Scoring
    thresholds: dict[str, float]
    """Decision thresholds by machine type."""
    batch: int
    """Clips to score at once."""
    threads: int
    """Threads that decode files meanwhile; 0: files are decoded in between."""
    promises: Promises


class Known(NamedTuple):
    """What clips of a machine type are compared with."""

    scorer: Scorer
    clip_ids: NDArray[np.object_]
    """Names of the training clips by the rows that the scorer gives."""


def judge(vectors: NDArray[np.float32], machines: Sequence[str], known: Mapping[str, Known]) -> Judged:
    """Return the scores of embeddings (clips, dim) and their machine types."""
    of = np.array(machines)
    judged = Judged(np.zeros(len(of)), np.full(len(of), None, dtype=object))
    for machine in dict.fromkeys(machines):
        (scorer, clip_ids), rows = known[machine], np.flatnonzero(of == machine)
        score, _, clip = scorer.score(vectors[rows], np.full(len(rows), NONE))
        judged.score[rows] = score
        judged.nearest_clip[rows] = [None if row == NONE else clip_ids[row] for row in clip]
    return judged


class Fused:
    """Fused scores of several methods.

    Args:
        members: score by one method each.
        training: scores of the training clips, (methods, clips), by machine type.
        scale: see ``fuse``.
    """

    def __init__(self, members: Sequence[Scoring], training: Mapping[str, NDArray[np.float64]], scale: Scale) -> None:
        self.members, self.training, self.scale = list(members), dict(training), scale
        # There are no embeddings.
        self.shares_network, self.takes_references = True, False
        # All of one data set.
        self.decoding, self.normals = self.members[0].decoding, self.members[0].normals
        needs = [member.needs for member in self.members]
        longest = [each.most for each in needs if each.most is not None]
        most = max(longest) if len(longest) == len(needs) else None
        self.needs = Needs(needs[0].window, max(each.least for each in needs), most)

    @property
    def machines(self) -> list[str]:
        """The machine types that all methods were trained on."""
        return sorted(self.training)

    def embed(self, clips: Sequence[Samples], machines: Sequence[str]) -> NDArray[np.float32]:
        """Refuse: each method has embeddings of its own.

        Raises:
            UserError: always.
        """
        raise UserError("a fusion of several methods has no embedding: load one of its methods")

    def scores(self, clips: Sequence[Samples], machines: Sequence[str]) -> Judged:
        """Return the fused scores of clips."""
        values = np.stack([member.scores(clips, machines).score for member in self.members])
        score, of = np.zeros(len(clips)), np.array(machines)
        for machine in dict.fromkeys(machines):
            rows, known = np.flatnonzero(of == machine), self.training[machine]
            joined = np.concatenate([known, values[:, rows]], axis=1)
            is_train = np.arange(joined.shape[1]) < known.shape[1]
            score[rows] = fuse(joined, is_train, self.scale)[~is_train]
        return Judged(score, np.full(len(clips), None, dtype=object))

    def refer_to(self, references: "pd.DataFrame") -> None:
        """Do nothing: there are none."""


class Seeds:
    """The mean score of several seeds of one method.

    Args:
        members: at least two, made with the same settings.
    """

    def __init__(self, members: Sequence[Scoring]) -> None:
        self.members = members
        self.decoding, self.needs, self.normals = members[0].decoding, members[0].needs, members[0].normals
        # There are no embeddings.
        self.shares_network, self.takes_references = True, False

    @property
    def machines(self) -> list[str]:
        """The machine types that all seeds were trained on."""
        return self.members[0].machines

    def embed(self, clips: Sequence[Samples], machines: Sequence[str]) -> NDArray[np.float32]:
        """Refuse: each seed has embeddings of its own.

        Raises:
            UserError: always.
        """
        raise UserError("several seeds have no common embedding: load the stage of one seed")

    def scores(self, clips: Sequence[Samples], machines: Sequence[str]) -> Judged:
        """Return mean and spread of the seeds' scores; the nearest clip is that of the first seed, as in scores.csv."""
        judged = [member.scores(clips, machines) for member in self.members]
        values = np.stack([each.score for each in judged])
        # Of an infinite score there is no deviation.
        with np.errstate(invalid="ignore"):
            return Judged(values.mean(axis=0), judged[0].nearest_clip, values.std(axis=0, ddof=1))

    def refer_to(self, references: "pd.DataFrame") -> None:
        """Do nothing: there are none."""
