"""Representatives, and the back ends that score clips: a union on ``kind``."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from asdpipe.config.base import Name, PositiveInt, PositiveOrAuto, Section, with_kind


class _Backend(Section):
    by_representatives: ClassVar = False
    """Whether clips are compared with the representatives instead of the training clips."""
    takes_nan: ClassVar = False
    takes_references: ClassVar = True
    """Whether normal clips can be added to those that clips are compared with, without training."""


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

    target: ClassVar = "asdpipe.method.density.DensityRescaled"
    kind: Literal["rescaled"] = "rescaled"
    density_neighbours: PositiveInt = Field(16, description="Neighbours that make the local density.")
    per_domain: bool = Field(
        False, description="Take neighbours and densities within each domain; the lower score counts."
    )


class ShrinkageMahalanobis(_Backend):
    """Mahalanobis distance to the mean of the training clips, with a shrunk covariance (Ledoit and Wolf)."""

    target: ClassVar = "asdpipe.method.mahalanobis.ShrinkageMahalanobis"
    kind: Literal["shrinkage_mahalanobis"] = "shrinkage_mahalanobis"
    per_domain: bool = Field(
        False, description="Mean and covariance of each domain, and the smaller distance; else of all clips."
    )


class CityBlock(_Backend):
    """City-block distance to the nearest training clip."""

    target: ClassVar = "asdpipe.method.scorers.CityBlock"
    kind: Literal["city_block"] = "city_block"


class ReconstructionError(_Backend):
    """The autoencoder's mean squared error (the DCASE baseline's simple mode)."""

    target: ClassVar = "asdpipe.method.scorers.ReconstructionError"
    takes_nan: ClassVar = True
    takes_references: ClassVar = False
    kind: Literal["reconstruction"] = "reconstruction"


class SelectiveMahalanobis(_Backend):
    """The smaller of the autoencoder's Mahalanobis distances to both domains (the baseline's selective mode)."""

    target: ClassVar = "asdpipe.method.scorers.SelectiveMahalanobis"
    takes_nan: ClassVar = True
    takes_references: ClassVar = False
    kind: Literal["mahalanobis"] = "mahalanobis"


Backend = Annotated[
    KMeans
    | NearestNeighbours
    | DensityRescaled
    | ShrinkageMahalanobis
    | CityBlock
    | ReconstructionError
    | SelectiveMahalanobis,
    Field(discriminator="kind"),
    with_kind("backend"),
]


class Fusion(Section):
    """The mean of several methods' scores, each on the scale of its training clips."""

    methods: tuple[Name, ...] = Field(min_length=2, description="The methods whose scores are fused.")
    scale: Literal["z_score", "rank"] = Field(
        "z_score", description="Scores minus their mean over their standard deviation, or their rank."
    )

    @field_validator("methods")
    @classmethod
    def _once(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(methods)) < len(methods):
            message = "a method is named twice"
            raise ValueError(message)
        return methods


class Inference(Section):
    """Representatives (paper §3.3) and the back end that scores clips."""

    k_source: PositiveOrAuto = Field(
        16, description="k-means centroids of the source clips, per machine type; auto: by their number."
    )
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
