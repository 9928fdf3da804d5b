"""What a stage hands to the next: external clips and pseudo-labels."""

from typing import Literal

from pydantic import Field

from asdpipe.config.base import CountOrAuto, PositiveOrAuto, Section


class External(Section):
    """Selection of the pseudo-anomalous set (paper §4.1)."""

    enabled: bool = Field(True, description="Add external clips to the training set from stage 2 on.")
    n_max: CountOrAuto = Field(
        1000,
        description="At most so many external clips per machine type (eq. 7); auto: by the number of its training "
        "clips.",
    )
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
    k_source: PositiveOrAuto = Field(
        16, description="Clusters of the source clips, per machine type; auto: by their number."
    )
    k_target: PositiveOrAuto = Field(
        4, description="Clusters of the target clips, per machine type; auto: by their number."
    )
