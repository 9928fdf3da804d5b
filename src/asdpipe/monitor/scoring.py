"""The scores of decoded clips: by one network, by those of several seeds, or fused from several methods."""

from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from asdpipe.artifacts.tables import read_table
from asdpipe.artifacts.vectors import embedded_clips
from asdpipe.config.data import Decoding
from asdpipe.config.method import FuseSettings, NetworkSettings, ScoreSettings
from asdpipe.errors import UserError
from asdpipe.method.fusion import Scale, fuse
from asdpipe.method.representatives import normalize
from asdpipe.method.scorers import NONE, KMeans
from asdpipe.models.base import FeatureExtractor
from asdpipe.models.files import load_model, untrained_model
from asdpipe.monitor.normals import Normals
from asdpipe.monitor.origin import Origin, origin
from asdpipe.training.embedding import embeddings
from asdpipe.training.scoring import Fitted, fitted_scorers

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


class Scoring(Protocol):
    """Scores clips of known machine types."""

    decoding: Decoding
    needs: Needs
    shares_network: bool
    """Whether embeddings do not depend on the machine type."""
    takes_references: bool
    """Whether it compares with clips that others can be added to."""
    normals: Normals
    """The audio of the training clips."""

    @property
    def machines(self) -> list[str]:
        """The machine types that it was trained on."""

    def embed(self, clips: Sequence[Samples], machines: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings of 16 kHz clips and their machine types, (clips, dim)."""

    def scores(self, clips: Sequence[Samples], machines: Sequence[str]) -> Judged:
        """Return the scores of 16 kHz clips and their machine types."""

    def refer_to(self, references: pd.DataFrame) -> None:
        """Compare clips with these normal clips (table ``references``), too, in place of those given before."""


class OneMethod:
    """The network and the scorers of one method, as its step ``score`` had them.

    Args:
        made: the scores of the training and test clips.
        device: where to embed.
    """

    def __init__(self, made: Origin, device: torch.device) -> None:
        used = made.settings(ScoreSettings)
        file = made.input("train_embeddings")
        train, known = embedded_clips(made.input("train_clips"), file, used.backend.takes_nan)
        representatives = made.input("representatives") if used.backend.by_representatives else None
        self._fit = partial(
            fitted_scorers,
            build=used.backend.build,
            seed=made.number("seed"),
            representatives=representatives,
            similarity=used.similarity,
        )
        self._train, self._known, self._by_representatives = train, known, used.backend.by_representatives
        self.takes_references = used.backend.takes_references
        self.trained = {each.machine: each for each in self._fit(train, known)}
        self.fitted: dict[str, Fitted] = dict(self.trained)
        embedded = origin(file)
        self.normals = Normals(embedded)
        self.decoding = origin(embedded.input("index")).settings(Decoding)
        self.extractor = load_extractor(embedded).eval().to(device)
        window = embedded.number("num_samples")
        self.needs = Needs(window, self.extractor.min_samples, self.extractor.num_samples)
        self.shares_network = len({self.extractor.of_machine(machine) for machine in self.fitted}) == 1
        self.device = device

    @property
    def machines(self) -> list[str]:
        """The machine types that it was trained on."""
        return sorted(self.fitted)

    def embed(self, clips: Sequence[Samples], machines: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings of clips."""
        extractors = [self.extractor.of_machine(machine) for machine in machines]
        vectors: dict[int, NDArray[np.float32]] = {}
        for one in dict.fromkeys(extractors):
            rows = [row for row, extractor in enumerate(extractors) if extractor is one]
            batches = embeddings(one, (clips[row] for row in rows), self.device)
            vectors |= zip(rows, chain.from_iterable(batches), strict=True)
        return np.stack([vectors[row] for row in range(len(clips))])

    def scores(self, clips: Sequence[Samples], machines: Sequence[str]) -> Judged:
        """Return the scores of clips."""
        vectors, of = self.embed(clips, machines), np.array(machines)
        judged = Judged(np.zeros(len(clips)), np.full(len(clips), None, dtype=object))
        for machine in dict.fromkeys(machines):
            fitted, rows = self.fitted[machine], np.flatnonzero(of == machine)
            found = fitted.scorer.score(vectors[rows], np.full(len(rows), NONE))
            judged.score[rows], judged.nearest_clip[rows] = found.score, fitted.nearest(found)
        return judged

    def refer_to(self, references: pd.DataFrame) -> None:
        """Compare clips with these normal clips, too."""
        names = references.clip_id.to_numpy(dtype=object)
        vectors = np.stack(list(references.embedding)).astype(np.float32)
        if not self._by_representatives:
            train = pd.concat([self._train, references])
            fitted = self._fit(train, np.concatenate([self._known, vectors]))
            self.fitted = {each.machine: each for each in fitted}
            return
        for machine, rows in references.groupby("machine").indices.items():
            before = self.trained[str(machine)]
            assert isinstance(before.scorer, KMeans)
            # As clips of the target domain are, each is its own representative.
            representatives = np.concatenate([before.scorer.vectors, normalize(vectors[rows])])
            clip_ids = np.concatenate([before.clip_ids, names[rows]])
            scorer = KMeans(len(clip_ids), before.scorer.seed, before.scorer.similarity)
            scorer = scorer.of(representatives, np.arange(len(clip_ids)))
            self.fitted[str(machine)] = before._replace(scorer=scorer, clip_ids=clip_ids)


class Fused:
    """Fused scores of several methods, as the step ``fuse_scores`` had them.

    Args:
        made: the fused scores of the training and test clips.
        device: where to embed.
    """

    def __init__(self, made: Origin, device: torch.device) -> None:
        self.scale: Scale = made.settings(FuseSettings).scale
        files = made.inputs("scores")
        self.members = [scoring([origin(file)], device) for file in files]
        # There are no embeddings.
        self.shares_network, self.takes_references = True, False
        # All of one data set.
        self.decoding, self.normals = self.members[0].decoding, self.members[0].normals
        needs = [member.needs for member in self.members]
        longest = [each.most for each in needs if each.most is not None]
        most = max(longest) if len(longest) == len(needs) else None
        self.needs = Needs(needs[0].window, max(each.least for each in needs), most)
        tables = [read_table("scores", file).set_index("clip_id").score for file in files]
        train = read_table("clips", made.input("train_clips"))
        train = train[train.clip_id.isin(tables[0].index)]
        self.training: dict[str, NDArray[np.float64]] = {
            str(machine): np.stack([table[part.clip_id].to_numpy() for table in tables])
            for machine, part in train.groupby("machine")
        }
        """Scores of the training clips, (methods, clips), by machine type."""

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

    def refer_to(self, references: pd.DataFrame) -> None:
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

    def refer_to(self, references: pd.DataFrame) -> None:
        """Do nothing: there are none."""


def scoring(made: Sequence[Origin], device: torch.device) -> Scoring:
    """Return what scores new clips as these scores of training and test clips were made, of one or several seeds.

    Raises:
        UserError: what they were made from is missing or damaged, or has changed since.
    """
    members = [Fused(each, device) if "scores" in each.record.inputs else OneMethod(each, device) for each in made]
    return members[0] if len(members) == 1 else Seeds(members)


def load_extractor(embedded: Origin) -> FeatureExtractor:
    """Load the network that embeddings were made with."""
    pretrained = embedded.input("pretrained") if "pretrained" in embedded.record.inputs else None
    if "weights" in embedded.record.inputs:
        return load_model(embedded.input("weights"), embedded.input("description"), pretrained)
    network = embedded.settings(NetworkSettings).network
    return untrained_model(network.arguments(), embedded.number("num_samples"), pretrained)
