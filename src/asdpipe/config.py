"""The configuration: every key, its default, bounds and meaning, in one place.

Defaults are the paper's values; ``config/*.yaml`` only state what differs. ``workflow/schemas/config.schema.yaml`` is
generated from these models (``make docs``).
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from asdpipe.challenge import YEARS
from asdpipe.config_data import Dataset, Download, Name, Pool, PositiveInt, Section
from asdpipe.errors import UserError

# Folders below results/ that are no data set.
RESERVED = re.compile(r"data|external|tables|stage\d+")


class Network(Section):
    """The multi-resolution feature extractor (paper §3.1)."""

    width: int = Field(128, ge=8, le=1024, multiple_of=8, description="Channels and size of each branch's embedding.")
    windows: tuple[int, ...] = Field((4096, 128), min_length=1, description="STFT window of each branch, in samples.")
    f_min: float = Field(200.0, ge=0, lt=8000, description="Lowest frequency the STFT branches see, in Hz.")
    dft_kernels: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (256, 64, 16), description="Kernel sizes of the DFT branch."
    )
    dft_strides: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (64, 32, 4), description="Strides of the DFT branch."
    )

    @field_validator("windows")
    @classmethod
    def _even(cls, windows: tuple[int, ...]) -> tuple[int, ...]:
        if any(window < 32 or window % 2 for window in windows):
            message = f"STFT windows must be even and at least 32 samples, not {list(windows)}"
            raise ValueError(message)
        return windows

    def dft_length(self, num_samples: int) -> int:
        """Return what the DFT branch's convolutions leave of a signal of ``num_samples``; below 1 it does not fit."""
        length = num_samples // 2 + 1
        for kernel, stride in zip(self.dft_kernels, self.dft_strides, strict=True):
            length = (length - kernel) // stride + 1
        return length


class Loss(Section):
    """Sub-cluster AdaCos, subspace loss, mixup (paper §3.2, eq. 1) and FeatEx."""

    branches: bool = Field(
        True,
        description="Add a loss with learned sub-clusters on every branch (eq. 1), or train on the fixed ones of the "
        "whole embedding alone (Wilkinghoff).",
    )
    feat_ex: bool = Field(
        False, description="Add FeatEx (Wilkinghoff, ICASSP 2024): half of the clips exchange branches with others."
    )
    subclusters: PositiveInt = Field(16, description="Sub-clusters per class (S).")
    scale: Literal["fixed", "adaptive"] = Field("fixed", description="Scale s: sqrt(2)*ln(C*S-1), or AdaCos' update.")
    mixup_probability: float = Field(0.5, ge=0, le=1, description="Share of the clips that mixup changes.")
    mixup_partner: Literal["reversed", "random"] = Field(
        "reversed", description="Partner of each clip: the batch reversed (released code), or a random permutation."
    )


class Triplet(Section):
    """Triplet loss with background-noise positives and pitch-shifted negatives (paper §4.2.1, eq. 8-11)."""

    enabled: bool = Field(True, description="Add the triplet loss (L_mlt, eq. 12) or train on L_ss alone.")
    tau: float = Field(0.2, gt=0, description="Temperature of the similarity (eq. 10).")
    gamma: float = Field(0.5, ge=0, description="Margin (eq. 11).")
    margin: Literal["gamma_plus_one", "gamma"] = Field(
        "gamma_plus_one", description="Hinge offset: gamma + 1 (paper), or gamma (what the released code amounts to)."
    )
    reduction: Literal["mean", "sum"] = Field("mean", description="Over the clips of the batch that have a partner.")
    snr_db: tuple[float, float] = Field((-5.0, 20.0), description="Range of the positives' SNR alpha, in dB (eq. 8).")
    semitones: tuple[int, int] = Field((6, 12), description="Range of |beta|, in semitones, both signs (eq. 9).")
    shift_per: Literal["clip", "batch"] = Field("clip", description="Draw beta per clip, or per batch (released code).")
    noise_from: Literal["other_machine", "same_machine"] = Field(
        "other_machine", description="Where a positive's noise comes from (the released code keeps the same machine)."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.snr_db[0] > self.snr_db[1] or not 1 <= self.semitones[0] <= self.semitones[1] <= 24:
            message = "snr_db and semitones are [lowest, highest], semitones between 1 and 24"
            raise ValueError(message)
        return self


class Training(Section):
    """The training of one stage (paper §5.2)."""

    epochs: PositiveInt = Field(50, description="Passes over the source clips.")
    source_per_batch: PositiveInt = Field(80, description="Source (and external) clips of a batch.")
    target_per_batch: int = Field(20, ge=0, description="Target clips of a batch, drawn with replacement.")
    learning_rate: float = Field(1e-3, gt=0, description="AdamW's learning rate.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay.")


class Inference(Section):
    """Representatives and scores (paper §3.3)."""

    k_source: PositiveInt = Field(16, description="k-means centroids of the source clips, per machine type.")
    decision_quantile: float = Field(
        0.9, gt=0, lt=1, description="Quantile of the gamma distribution of training scores that decides 'anomalous'."
    )


class External(Section):
    """Selection of the pseudo-anomalous set (paper §4.1)."""

    enabled: bool = Field(True, description="Add external clips to the training set from stage 2 on.")
    n_max: int = Field(1000, ge=0, description="At most so many external clips per machine type (eq. 7).")
    selection: Literal["score", "random"] = Field("score", description="By anomaly score, or at random (Table 4).")
    assign: Literal["most_similar", "rarest"] = Field(
        "most_similar",
        description="Machine type of a clip that several accept: the most similar (paper), "
        "or the one with the fewest candidates (released code).",
    )
    first_stage: Literal["none", "random"] = Field(
        "none",
        description="External clips of stage 1, which has no scores yet: none (paper), or n_max at random per machine "
        "type, for data sets of one machine type.",
    )


class PseudoLabels(Section):
    """Pseudo-labels by k-means (paper §4.2.2, eq. 13)."""

    enabled: bool = Field(True, description="Replace machine labels by pseudo-labels from stage 2 on.")
    k_source: PositiveInt = Field(16, description="Clusters of the source clips, per machine type.")
    k_target: PositiveInt = Field(4, description="Clusters of the target clips, per machine type.")


class Sections(Section):
    """The settings of the method's steps: one section per part of the paper."""

    labels: Literal["machine", "attribute"] = Field(
        "machine", description="Classes: machine types only (unlabelled), or machine, section and attributes."
    )
    network: Network = Network()
    loss: Loss = Loss()
    triplet: Triplet = Triplet()
    training: Training = Training()
    inference: Inference = Inference()
    external: External = External()
    pseudo_labels: PseudoLabels = PseudoLabels()


class Method(Sections):
    """A way to score clips: what differs from the top-level sections."""

    kind: Literal["iterative", "raw_logmel"] = Field(
        "iterative", description="The paper's system, or the yardstick: nearest neighbour on mean+std log-mel."
    )
    start_from: Name | None = Field(None, description="The method whose stage 1 this one shares; none: its own.")

    @property
    def iterates(self) -> bool:
        """Whether stages after the first differ from it."""
        return self.kind == "iterative" and (self.pseudo_labels.enabled or self.external.enabled)

    @property
    def draws_first(self) -> bool:
        """Whether stage 1 takes external clips, drawn at random."""
        external = self.external
        return self.kind == "iterative" and external.enabled and external.n_max > 0 and external.first_stage == "random"


KNOWN_METHODS: dict[str, Any] = {
    "raw_logmel": {"kind": "raw_logmel"},
    "wilkinghoff": {
        "network": {"windows": [1024]},
        "loss": {"branches": False},
        "triplet": {"enabled": False},
        "external": {"enabled": False},
        "pseudo_labels": {"enabled": False},
    },
    "ba_trp": {"external": {"enabled": False}, "pseudo_labels": {"enabled": False}},
    "ba_trp_ps_ex": {"start_from": "ba_trp"},
}

KNOWN_DATASETS: dict[str, Any] = {f"dcase{year}": {"format": "dcase", "year": year} for year in YEARS}


class Config(Sections):
    """The whole configuration."""

    dataset: Name = Field(description="The data set that results/stage{n}/auc.csv reports.")
    method: Name = Field("ba_trp_ps_ex", description="The method that results/stage{n}/auc.csv reports.")
    yardstick: Name | None = Field("raw_logmel", description="A training-free method to print beside it; none: none.")
    stages: PositiveInt = Field(5, description="Stages that `snakemake` without a target runs.")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0, 1, 2, 3, 4), min_length=1, description="One training per seed; results are means over them."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where networks run; auto: a GPU if there is.")
    data_root: str | None = Field(None, description="Fills {data_root} in the roots of data sets and pools.")
    download: Download = Download()
    datasets: dict[Name, Dataset] = Field(
        {},
        validate_default=True,
        description="More data sets than dcase2020 to dcase2025, or changes of these, by name.",
    )
    pools: dict[Name, Pool] = Field({}, description="External pools by name.")
    methods: dict[Name, Method] = Field(
        {},
        validate_default=True,
        description="More methods than raw_logmel, wilkinghoff, ba_trp and ba_trp_ps_ex, or changes of these; "
        "each states only what differs from the sections below.",
    )

    @field_validator("methods", mode="before")
    @classmethod
    def _with_known_methods(cls, methods: object) -> object:
        return merge(KNOWN_METHODS, methods) if isinstance(methods, Mapping) else methods

    @field_validator("datasets", mode="before")
    @classmethod
    def _with_known_datasets(cls, datasets: object) -> object:
        return merge(KNOWN_DATASETS, datasets) if isinstance(datasets, Mapping) else datasets

    def resolve_method(self, name: str) -> Method:
        """Return a method with the top-level sections as its defaults.

        Raises:
            UserError: no such method.
        """
        if name not in self.methods:
            raise UserError(_unknown("method", name, self.methods))
        shared = self.model_dump(exclude_unset=True, include=set(Sections.model_fields))
        own = self.methods[name].model_dump(exclude_unset=True)
        return Method.model_validate(merge(shared, own))

    def resolve_dataset(self, name: str) -> Dataset:
        """Return a data set with ``{data_root}`` filled in and ``download`` decided.

        Raises:
            UserError: no such data set, or data_root is missing.
        """
        if name not in self.datasets:
            raise UserError(_unknown("data set", name, self.datasets))
        dataset = self.datasets[name]
        root = f"downloads/{name}" if dataset.fetched and dataset.root is None else dataset.root
        truth = dataset.ground_truth
        update = {
            "download": dataset.fetched,
            "root": self._root(f"datasets.{name}.root", root, dataset.format),
            "ground_truth": truth and self._root(f"datasets.{name}.ground_truth", truth, dataset.format),
        }
        return dataset.model_copy(update=update)

    def resolve_pool(self, name: str) -> Pool:
        """Return an external pool with ``{data_root}`` filled in.

        Raises:
            UserError: no such pool, or data_root is missing.
        """
        if name not in self.pools:
            raise UserError(_unknown("pool", name, self.pools))
        pool = self.pools[name]
        return pool.model_copy(update={"root": self._root(f"pools.{name}.root", pool.root, pool.format)})

    def _root(self, key: str, root: str | None, kind: str) -> str | None:
        if kind == "demo":
            return None
        if root is None:
            raise UserError(f"{key} is not set: give the folder of the recordings")
        if "{data_root}" in root:
            if self.data_root is None:
                raise UserError(f"{key} is {root!r}, but data_root is not set: add --config data_root=FOLDER")
            root = root.replace("{data_root}", self.data_root.rstrip("/"))
        return root

    def check(self) -> None:
        """Check what spans several sections.

        Raises:
            UserError: a name that is not defined, or clips too short for the network.
        """
        dataset = self.resolve_dataset(self.dataset)
        for name, each in self.datasets.items():
            if RESERVED.fullmatch(name):
                raise UserError(f"datasets.{name}: results/{name} holds other results; choose another name")
            if each.pool is not None and each.pool not in self.pools:
                raise UserError(f"datasets.{name}.pool: " + _unknown("pool", each.pool, self.pools))
        for name, method in self.methods.items():
            if method.start_from is not None:
                self._check_start(name, method.start_from)
        for name in filter(None, (self.method, self.yardstick)):
            resolved = self.resolve_method(name)
            if resolved.kind == "iterative" and resolved.network.dft_length(dataset.num_samples) < 1:
                kernels, strides = list(resolved.network.dft_kernels), list(resolved.network.dft_strides)
                message = (
                    f"datasets.{self.dataset}.clip_seconds = {dataset.clip_seconds:g} s is too short for the DFT "
                    f"branch of method {name} (kernels {kernels}, strides {strides}): lengthen the clips, "
                    "or set smaller network.dft_kernels and network.dft_strides"
                )
                raise UserError(message)
            if resolved.draws_first and dataset.pool is None:
                message = f"external.first_stage: random needs an external pool: set datasets.{self.dataset}.pool"
                raise UserError(message)

    def _check_start(self, name: str, start: str) -> None:
        if start not in self.methods:
            raise UserError(f"methods.{name}.start_from: " + _unknown("method", start, self.methods))
        if self.methods[start].start_from is not None or start == name:
            message = f"methods.{name}.start_from: {start} has no stage 1 of its own; name a method without start_from"
            raise UserError(message)
        if self.resolve_method(name).draws_first and not self.resolve_method(start).draws_first:
            message = (
                f"methods.{name}.start_from: stage 1 of {start} has no external clips, but external.first_stage: "
                f"random asks for them; set methods.{name}.start_from to null"
            )
            raise UserError(message)


def canonical_json(value: Any) -> str:
    """Return JSON that does not depend on the order of keys, for Snakemake's params."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``over`` laid over ``base``, mapping by mapping."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    return f"there is no {kind} {name!r}; the config has: {', '.join(sorted(known)) or 'none'}"
