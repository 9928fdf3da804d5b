"""What scores decoded clips as the workflow does: one method, several seeds of it, or a fusion of several methods."""

from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from asdpipe.artifacts.tables import read_table
from asdpipe.artifacts.vectors import embedded_clips
from asdpipe.config.data import Decoding
from asdpipe.config.method import FuseSettings, NetworkSettings, ScoreSettings
from asdpipe.errors import UserError
from asdpipe.method.fusion import Scale
from asdpipe.method.representatives import normalize
from asdpipe.method.scorers import KMeans
from asdpipe.models.base import FeatureExtractor
from asdpipe.models.files import load_model, untrained_model
from asdpipe.monitor.calibration import read
from asdpipe.monitor.model import Fused, Judged, Known, Loaded, Needs, Samples, Scoring, Seeds, judge
from asdpipe.monitor.normals import TrainingClips
from asdpipe.monitor.origin import Origin, origin, run_scores
from asdpipe.training.device import pick_device
from asdpipe.training.embedding import BATCH, GPU_BATCH, embeddings
from asdpipe.training.scoring import fitted_scorers

THRESHOLDS = "thresholds.parquet"
DECODING_THREADS = 4


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
        self._train, self._embedding, self._by_representatives = train, known, used.backend.by_representatives
        self.takes_references = used.backend.takes_references
        self.trained = {each.machine: Known(each.scorer, each.clip_ids) for each in self._fit(train, known)}
        self.known = dict(self.trained)
        """What clips are compared with, by machine type."""
        embedded = origin(file)
        self.normals = TrainingClips(embedded)
        self.decoding = origin(embedded.input("index")).settings(Decoding)
        self.extractor = load_extractor(embedded).eval().to(device)
        window = embedded.number("num_samples")
        self.needs = Needs(window, self.extractor.min_samples, self.extractor.num_samples)
        self.shares_network = len({self.extractor.of_machine(machine) for machine in self.known}) == 1
        self.device = device

    @property
    def machines(self) -> list[str]:
        """The machine types that it was trained on."""
        return sorted(self.known)

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
        return judge(self.embed(clips, machines), machines, self.known)

    def refer_to(self, references: pd.DataFrame) -> None:
        """Compare clips with these normal clips, too."""
        names = references.clip_id.to_numpy(dtype=object)
        vectors = np.stack(list(references.embedding)).astype(np.float32)
        if not self._by_representatives:
            train = pd.concat([self._train, references])
            fitted = self._fit(train, np.concatenate([self._embedding, vectors]))
            self.known = {each.machine: Known(each.scorer, each.clip_ids) for each in fitted}
            return
        for machine, rows in references.groupby("machine").indices.items():
            before = self.trained[str(machine)]
            assert isinstance(before.scorer, KMeans)
            # As clips of the target domain are, each is its own representative.
            representatives = np.concatenate([before.scorer.vectors, normalize(vectors[rows])])
            clip_ids = np.concatenate([before.clip_ids, names[rows]])
            scorer = KMeans(len(clip_ids), before.scorer.seed, before.scorer.similarity)
            scorer = scorer.of(representatives, np.arange(len(clip_ids)))
            self.known[str(machine)] = Known(scorer, clip_ids)


def fused(made: Origin, device: torch.device) -> Fused:
    """Return what fuses scores as the step ``fuse_scores`` did; arguments as for ``OneMethod``."""
    scale: Scale = made.settings(FuseSettings).scale
    files = made.inputs("scores")
    members = [scoring([origin(file)], device) for file in files]
    tables = [read_table("scores", file).set_index("clip_id").score for file in files]
    train = read_table("clips", made.input("train_clips"))
    train = train[train.clip_id.isin(tables[0].index)]
    training = {
        str(machine): np.stack([table[part.clip_id].to_numpy() for table in tables])
        for machine, part in train.groupby("machine")
    }
    return Fused(members, training, scale)


def scoring(made: Sequence[Origin], device: torch.device) -> Scoring:
    """Return what scores new clips as these scores of training and test clips were made, of one or several seeds.

    Raises:
        UserError: what they were made from is missing or damaged, or has changed since.
    """
    members = [fused(each, device) if "scores" in each.record.inputs else OneMethod(each, device) for each in made]
    return members[0] if len(members) == 1 else Seeds(members)


def load_trained(folder: Path, device: Literal["auto", "cpu", "cuda"] = "auto", stage: int | None = None) -> Loaded:
    """Load what scores clips as a stage, or all seeds of a run; arguments and errors as for ``asdpipe.load``."""
    made = run_scores(folder, stage)
    where = pick_device(device)
    model = scoring(made, where)
    calibrated = read(made)
    if calibrated.references is not None:
        model.refer_to(calibrated.references)
    thresholds = pd.DataFrame([_thresholds(each, model.machines) for each in made]).mean()
    # On a CPU the network takes all cores; threads would only keep it waiting for Python's lock.
    batch, threads = (GPU_BATCH, DECODING_THREADS) if where.type == "cuda" else (BATCH, 0)
    return Loaded(model, thresholds.to_dict(), batch, threads, calibrated.promises)


def _thresholds(made: Origin, machines: Sequence[str]) -> dict[str, float]:
    """Return the decision thresholds of the machine types that scores were made with.

    Raises:
        UserError: one is missing.
    """
    file = origin(made.file.with_name(THRESHOLDS)).file
    table = read_table("thresholds", file)
    limits = dict(zip(table.machine, table.decision_threshold, strict=True))
    if missing := sorted(set(machines) - set(limits)):
        raise UserError(f"{file}: has no limit of {missing[0]}; run the workflow again")
    return {machine: limits[machine] for machine in machines}


def load_extractor(embedded: Origin) -> FeatureExtractor:
    """Load the network that embeddings were made with."""
    pretrained = embedded.input("pretrained") if "pretrained" in embedded.record.inputs else None
    if "weights" in embedded.record.inputs:
        return load_model(embedded.input("weights"), embedded.input("description"), pretrained)
    network = embedded.settings(NetworkSettings).network
    return untrained_model(network.arguments(), embedded.number("num_samples"), pretrained)
