"""The losses that a training minimises: a union on ``kind``, and the triplet loss."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from asdpipe.config.base import PositiveInt, PositiveOrAuto, Section, with_kind


class _Loss(Section):
    uses_classes: ClassVar = True
    """Whether the loss needs classes of the training clips."""
    reconstructs: ClassVar = False
    """Whether the network must predict hidden patches."""

    @property
    def augments(self) -> bool:
        """Whether the network must take ``augment``."""
        return False


class Subspace(_Loss):
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
    subclusters: PositiveOrAuto = Field(
        16, description="Sub-clusters per class (S); auto: by the number of clips per machine type."
    )
    scale: Literal["fixed", "adaptive"] = Field("fixed", description="Scale s: sqrt(2)*ln(C*S-1), or AdaCos' update.")
    mixup_probability: float = Field(0.5, ge=0, le=1, description="Share of the clips that mixup changes.")
    mixup_partner: Literal["reversed", "random"] = Field(
        "reversed", description="Partner of each clip: the batch reversed (released code), or a random permutation."
    )


class CrossEntropy(_Loss):
    """Cross-entropy of a linear classifier, with SpecAugment as an option."""

    target: ClassVar = "asdpipe.method.cross_entropy.CrossEntropyObjective"
    kind: Literal["cross_entropy"] = "cross_entropy"
    spec_augment: bool = Field(
        False, description="SpecAugment: mask one span of frames and one of mel bands of every clip."
    )
    time_mask: PositiveInt = Field(192, description="Widest mask in time, in frames (AudioMAE's fine-tuning: 192).")
    frequency_mask: PositiveInt = Field(48, description="Widest mask in frequency, in mel bands (AudioMAE: 48).")

    @property
    def augments(self) -> bool:
        """Whether the network must take ``augment``."""
        return self.spec_augment


class _AngularMargin(_Loss):
    margin: float = Field(0.5, ge=0, lt=3, description="Angular margin, in radians.")
    scale: float = Field(30.0, gt=0, description="Factor of the cosines (s).")


class ArcFace(_AngularMargin):
    """Cross-entropy with an angular margin (Deng et al., 2019)."""

    target: ClassVar = "asdpipe.method.arc_face.ArcFaceObjective"
    kind: Literal["arc_face"] = "arc_face"


class SubCenterArcFace(_AngularMargin):
    """ArcFace with several centres per class, of which the nearest counts (Deng et al., 2020)."""

    target: ClassVar = "asdpipe.method.sub_center_arc_face.SubCenterArcFaceObjective"
    kind: Literal["sub_center_arc_face"] = "sub_center_arc_face"
    subclusters: PositiveInt = Field(3, description="Centres per class (K).")


class AdaProj(_Loss):
    """AdaProj: a subspace per class, adaptive scale (Wilkinghoff, 2024)."""

    target: ClassVar = "asdpipe.method.ada_proj.AdaProjObjective"
    kind: Literal["ada_proj"] = "ada_proj"
    subspace_dim: PositiveInt = Field(
        32, description="Dimensions of each class's subspace; at most half of the embedding's."
    )


class MaskedReconstruction(_Loss):
    """Reconstruction of masked spectrogram patches (AudioMAE's pre-training); uses no classes."""

    target: ClassVar = "asdpipe.method.masked_reconstruction.MaskedReconstruction"
    uses_classes: ClassVar = False
    reconstructs: ClassVar = True
    kind: Literal["masked_reconstruction"] = "masked_reconstruction"
    mask_ratio: float = Field(0.8, gt=0, lt=1, description="Share of the patches that are masked.")


Loss = Annotated[
    Subspace | CrossEntropy | ArcFace | SubCenterArcFace | AdaProj | MaskedReconstruction,
    Field(discriminator="kind"),
    with_kind("loss"),
]


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
