"""The configuration of the method's steps, one section per part of the paper, and of methods built of them."""

from importlib.resources import files
from typing import Any, Literal, Self

import yaml
from pydantic import Field, field_validator, model_validator

from asdpipe.config.base import Name, PositiveInt, Section, canonical_json


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
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Of convolutions and matrix products in training; auto: bfloat16 where the hardware has it (a GPU, "
        "or a CPU with AVX512-BF16 or AMX if width >= 64), else float32. Scores are computed in float32.",
    )


class Autoencoder(Section):
    """The DCASE baseline's autoencoder, for methods of this kind; defaults are the baseline's."""

    epochs: PositiveInt = Field(100, description="Passes over the vectors of five frames.")
    batch_size: int = Field(256, ge=2, description="Vectors of a batch.")
    learning_rate: float = Field(1e-3, gt=0, description="Adam's learning rate.")
    validation: float = Field(0.1, ge=0, lt=1, description="Share of the vectors that is only watched.")


class Inference(Section):
    """Representatives (paper §3.3) and the back end that scores clips."""

    k_source: PositiveInt = Field(16, description="k-means centroids of the source clips, per machine type.")
    backend: Literal["kmeans", "knn", "rescaled"] = Field(
        "kmeans",
        description="Scores: similarity to the representatives (paper), to the nearest training clips, or distance to "
        "these divided by the local density. External clips are always selected by the first.",
    )
    neighbours: PositiveInt = Field(1, description="'knn', 'rescaled': nearest training clips ('knn': per domain).")
    smote_ratio: float = Field(
        0.0, ge=0, description="'knn', 'rescaled': target over source clips after SMOTE (ASDKit: 0.2); 0: no SMOTE."
    )
    smote_neighbours: PositiveInt = Field(2, description="Nearest target clips that SMOTE draws the other end from.")
    density_neighbours: PositiveInt = Field(16, description="'rescaled': neighbours that make the local density.")
    autoencoder_score: Literal["simple", "selective"] = Field(
        "simple", description="Autoencoder: reconstruction error, or the smaller Mahalanobis distance of both domains."
    )
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
    autoencoder: Autoencoder = Autoencoder()
    inference: Inference = Inference()
    external: External = External()
    pseudo_labels: PseudoLabels = PseudoLabels()


class Method(Sections):
    """A way to score clips: what differs from its parent, or else from the top-level sections."""

    kind: Literal["iterative", "raw_logmel", "autoencoder"] = Field(
        "iterative",
        description="The paper's system, nearest neighbour on mean+std log-mel, or the DCASE baseline's autoencoder.",
    )
    parent: Name | None = Field(None, description="The method whose settings this one starts with.")
    start_from: Name | None = Field(
        None,
        description="The method whose stage 1 this one takes although its own would be another (Table 5); none: its "
        "own, which is shared with the parent if it is the same.",
    )

    @property
    def takes_external(self) -> bool:
        """Whether stages after the first take external clips."""
        return self.kind == "iterative" and self.external.enabled and self.external.n_max > 0

    @property
    def iterates(self) -> bool:
        """Whether stages after the first differ from it."""
        return self.takes_external or (self.kind == "iterative" and self.pseudo_labels.enabled)

    @property
    def draws_first(self) -> bool:
        """Whether stage 1 takes external clips, drawn at random."""
        return self.takes_external and self.external.first_stage == "random"

    @property
    def first_model(self) -> str:
        """What the model of stage 1 depends on, as JSON."""
        used = {"kind", "labels", "network", "loss", "triplet", "training"}
        if self.kind == "autoencoder":
            used = {"kind", "autoencoder"}
        drawn = self.external.n_max if self.draws_first else 0
        return canonical_json([self.model_dump(mode="json", include=used), drawn])

    @property
    def every_model(self) -> str:
        """What the models and external clips of all stages depend on, but for start_from, as JSON."""
        own = self.model_dump(mode="json", exclude={"parent", "start_from", "inference"})
        return canonical_json([own, self.inference.k_source])

    @property
    def scoring(self) -> str:
        """The settings that the scores depend on beside model and representatives, as JSON."""
        smote: set[str] = {"smote_ratio", "smote_neighbours"} if self.inference.smote_ratio else set()
        backends: dict[str, set[str]] = {"kmeans": set(), "knn": {"neighbours"} | smote}
        backends["rescaled"] = backends["knn"] | {"density_neighbours"}
        used: dict[str, set[str]] = {"raw_logmel": set(), "autoencoder": {"autoencoder_score"}}
        used["iterative"] = {"backend"} | backends[self.inference.backend]
        inference = self.inference.model_dump(mode="json", include=used[self.kind] | {"decision_quantile"})
        return canonical_json({"kind": self.kind, "inference": inference})


KNOWN_METHODS: dict[str, Any] = yaml.safe_load(files("asdpipe").joinpath("config/methods.yaml").read_text())
