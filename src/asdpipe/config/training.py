"""How the losses are minimised: a union on ``kind``."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from asdpipe.config.base import PositiveInt, Section, with_kind
from asdpipe.config.labels import MachineLabels


class ClipTraining(Section):
    """One network for all machine types, trained on clips and their classes (paper §5.2)."""

    target: ClassVar = "asdpipe.training.on_clips.ClipTrainer"
    further_targets: ClassVar = (MachineLabels.target,)
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
