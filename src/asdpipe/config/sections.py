"""The sections of a method, one per part of the paper.

Sections of several kinds are unions on the key ``kind``; ``target`` names the class that a section builds.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from asdpipe.config.base import PositiveInt, Section, with_kind
from asdpipe.models.kinds import EXTRACTORS

# ---------------------------------------------------------------- labels


class MachineLabels(Section):
    """Classes are machine types (unlabelled)."""

    target: ClassVar = "asdpipe.method.classes.MachineLabels"
    by_machine: ClassVar = True
    """Whether a machine type is one class, whatever its clips."""
    kind: Literal["machine"] = "machine"


class AttributeLabels(Section):
    """Classes are machine type, section and attributes (labelled)."""

    target: ClassVar = "asdpipe.method.classes.AttributeLabels"
    by_machine: ClassVar = False
    kind: Literal["attribute"] = "attribute"


Labels = Annotated[MachineLabels | AttributeLabels, Field(discriminator="kind"), with_kind("labels")]


# ---------------------------------------------------------------- network: clip to embedding


class _Network(Section):
    def misfit(self, num_samples: int) -> str:
        """Return why clips of this many samples cannot be used; "" if they can."""
        return ""


class MultiResolution(_Network):
    """The multi-resolution feature extractor (paper §3.1)."""

    target: ClassVar = EXTRACTORS["multi_resolution"]
    kind: Literal["multi_resolution"] = "multi_resolution"
    width: int = Field(128, ge=8, le=1024, multiple_of=8, description="Channels and size of each branch's embedding.")
    windows: tuple[int, ...] = Field(
        (4096, 128), min_length=1, max_length=16, description="STFT window of each branch, in samples."
    )
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

    def misfit(self, num_samples: int) -> str:
        """Return why clips of this many samples are too short for the DFT branch; "" if they are not."""
        length = num_samples // 2 + 1
        for kernel, stride in zip(self.dft_kernels, self.dft_strides, strict=True):
            length = (length - kernel) // stride + 1
        return "" if length >= 1 else f"kernels {list(self.dft_kernels)}, strides {list(self.dft_strides)}"


class LogMel(_Network):
    """Mean and standard deviation of the log-mel spectrogram, without training."""

    target: ClassVar = EXTRACTORS["log_mel"]
    kind: Literal["log_mel"] = "log_mel"


class Autoencoder(_Network):
    """The autoencoder of the DCASE baseline, one per machine type."""

    target: ClassVar = EXTRACTORS["autoencoder"]
    kind: Literal["autoencoder"] = "autoencoder"


Network = Annotated[MultiResolution | LogMel | Autoencoder, Field(discriminator="kind"), with_kind("network")]


# ---------------------------------------------------------------- loss


class Subspace(Section):
    """Sub-cluster AdaCos, subspace loss, mixup (paper §3.2, eq. 1) and FeatEx."""

    target: ClassVar = "asdpipe.method.objectives.SubspaceObjective"
    kind: Literal["subspace"] = "subspace"
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


# A second kind makes this a union: Annotated[Subspace | Other, Field(discriminator="kind"), with_kind("loss")].
Loss = Annotated[Subspace, with_kind("loss")]


class Triplet(Section):
    """Triplet loss with background-noise positives and pitch-shifted negatives (paper §4.2.1, eq. 8-11)."""

    target: ClassVar = "asdpipe.method.objectives.TripletObjective"
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


# ---------------------------------------------------------------- training: how it is minimised


class ClipTraining(Section):
    """One network for all machine types, trained on clips and their classes (paper §5.2)."""

    target: ClassVar = "asdpipe.training.on_clips.ClipTrainer"
    trains: ClassVar = True
    uses_classes: ClassVar = True
    sections: ClassVar = ("labels", "network", "loss", "triplet", "training")
    minutes: ClassVar = (60.0, 0.07)
    kind: Literal["clips"] = "clips"
    epochs: PositiveInt = Field(50, description="Passes over the source clips.")
    source_per_batch: PositiveInt = Field(80, description="Source (and external) clips of a batch.")
    target_per_batch: int = Field(20, ge=0, description="Target clips of a batch, drawn with replacement.")
    epoch: Literal["all", "random_half"] = Field(
        "all", description="Source and external clips of an epoch: all (paper), or a random half (released code)."
    )
    learning_rate: float = Field(1e-3, gt=0, description="AdamW's learning rate.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Of convolutions and matrix products in training; auto: bfloat16 where the hardware has it (a GPU, "
        "or a CPU with AVX512-BF16 or AMX if width >= 64), else float32. Scores are computed in float32.",
    )


class FrameTraining(Section):
    """An autoencoder per machine type, trained on runs of five frames; defaults are those of the DCASE baseline."""

    target: ClassVar = "asdpipe.training.on_frames.FrameTrainer"
    objective: ClassVar = "asdpipe.method.objectives.ReconstructionObjective"
    further_targets: ClassVar = (objective, MachineLabels.target)
    trains: ClassVar = True
    uses_classes: ClassVar = False
    sections: ClassVar = ("network", "training")
    # A thousand clips of 10 s take a core some 20 minutes.
    minutes: ClassVar = (960.0, 0.0)
    kind: Literal["frames"] = "frames"
    epochs: PositiveInt = Field(100, description="Passes over the vectors of five frames.")
    batch_size: int = Field(256, ge=2, description="Vectors of a batch.")
    learning_rate: float = Field(1e-3, gt=0, description="Adam's learning rate.")
    validation: float = Field(0.1, ge=0, lt=1, description="Share of the vectors that is only watched.")


class NoTraining(Section):
    """The network is used as it is."""

    trains: ClassVar = False
    uses_classes: ClassVar = False
    sections: ClassVar = ("network", "training")
    kind: Literal["none"] = "none"


Training = Annotated[ClipTraining | FrameTraining | NoTraining, Field(discriminator="kind"), with_kind("training")]


# ---------------------------------------------------------------- inference


class _Backend(Section):
    by_representatives: ClassVar = False
    """Whether clips are compared with the representatives instead of the training clips."""
    takes_nan: ClassVar = False


class KMeans(_Backend):
    """Similarity to the representatives (paper §3.3)."""

    target: ClassVar = "asdpipe.method.scorers.KMeans"
    by_representatives: ClassVar = True
    kind: Literal["kmeans"] = "kmeans"


class _Neighbours(_Backend):
    neighbours: PositiveInt = Field(1, description="Nearest training clips ('knn': per domain).")
    smote_ratio: float = Field(
        0.0, ge=0, description="Target over source clips after SMOTE (ASDKit: 0.2); 0: no SMOTE."
    )
    smote_neighbours: PositiveInt = Field(2, description="Nearest target clips that SMOTE draws the other end from.")


class NearestNeighbours(_Neighbours):
    """Similarity to the nearest training clips of each domain."""

    target: ClassVar = "asdpipe.method.scorers.NearestNeighbours"
    kind: Literal["knn"] = "knn"


class DensityRescaled(_Neighbours):
    """Distance to the nearest training clips over the local density there."""

    target: ClassVar = "asdpipe.method.scorers.DensityRescaled"
    kind: Literal["rescaled"] = "rescaled"
    density_neighbours: PositiveInt = Field(16, description="Neighbours that make the local density.")


class CityBlock(_Backend):
    """City-block distance to the nearest training clip."""

    target: ClassVar = "asdpipe.method.scorers.CityBlock"
    kind: Literal["city_block"] = "city_block"


class ReconstructionError(_Backend):
    """The autoencoder's mean squared error (the DCASE baseline's simple mode)."""

    target: ClassVar = "asdpipe.method.scorers.ReconstructionError"
    takes_nan: ClassVar = True
    kind: Literal["reconstruction"] = "reconstruction"


class SelectiveMahalanobis(_Backend):
    """The smaller of the autoencoder's Mahalanobis distances to both domains (the baseline's selective mode)."""

    target: ClassVar = "asdpipe.method.scorers.SelectiveMahalanobis"
    takes_nan: ClassVar = True
    kind: Literal["mahalanobis"] = "mahalanobis"


Backend = Annotated[
    KMeans | NearestNeighbours | DensityRescaled | CityBlock | ReconstructionError | SelectiveMahalanobis,
    Field(discriminator="kind"),
    with_kind("backend"),
]


class Inference(Section):
    """Representatives (paper §3.3) and the back end that scores clips."""

    k_source: PositiveInt = Field(16, description="k-means centroids of the source clips, per machine type.")
    similarity: Literal["cosine", "dot"] = Field(
        "cosine",
        description="To a representative: cosine (eq. 5), or product of the unit embedding and the centroid as it is, "
        "not normalised (released code).",
    )
    backend: Backend = Field(
        KMeans(),
        description="How clips are scored. External clips are always selected by the representatives.",
    )
    decision_quantile: float = Field(
        0.9, gt=0, lt=1, description="Quantile of the distribution of training scores that decides 'anomalous'."
    )


# ---------------------------------------------------------------- iteration


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
