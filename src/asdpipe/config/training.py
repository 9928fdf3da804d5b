"""How the losses are minimised: a union on ``kind``."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from asdpipe.config.base import CountOrAuto, PositiveInt, PositiveOrAuto, Section, with_kind
from asdpipe.config.labels import MachineLabels
from asdpipe.method import data_size

Share = Annotated[float, Field(ge=0, lt=1)]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16"],
    Field(
        description="Of convolutions and matrix products in training; auto: bfloat16 where the hardware has it (a GPU, "
        "or a CPU with AVX512-BF16 or AMX if width >= 64), else float32. Scores are computed in float32."
    ),
]


class ClipTraining(Section):
    """One network for all machine types, trained on clips and their classes (paper §5.2)."""

    target: ClassVar = "asdpipe.training.on_clips.ClipTrainer"
    further_targets: ClassVar = (MachineLabels.target,)
    trains: ClassVar = True
    uses_classes: ClassVar = True
    sections: ClassVar = ("labels", "network", "loss", "triplet", "training")
    minutes: ClassVar = (60.0, 0.07)
    kind: Literal["clips"] = "clips"
    epochs: PositiveOrAuto = Field(
        50, description="Passes over the source clips; auto: 50, or more if these are few optimiser steps."
    )
    source_per_batch: PositiveOrAuto = Field(
        80, description="Source (and external) clips of a batch; auto: by the number of source clips."
    )
    target_per_batch: CountOrAuto = Field(
        20, description="Target clips of a batch, drawn with replacement; auto: by source_per_batch."
    )
    epoch: Literal["all", "random_half"] = Field(
        "all", description="Source and external clips of an epoch: all (paper), or a random half (released code)."
    )
    learning_rate: float = Field(1e-3, gt=0, description="AdamW's learning rate.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay.")
    precision: Precision = "auto"

    @property
    def clips_at_once(self) -> int:
        """Clips of a forward pass; of ``auto``, which is decided later, the most."""
        source, target = self.source_per_batch, self.target_per_batch
        source = source if isinstance(source, int) else data_size.SOURCE_PER_BATCH[1]
        return source + (target if isinstance(target, int) else data_size.target_per_batch(source))


class FineTuning(Section):
    """Pre-trained or new Transformers, trained on all clips once per epoch, in large batches."""

    target: ClassVar = "asdpipe.training.fine_tuning.FineTuneTrainer"
    further_targets: ClassVar = (MachineLabels.target,)
    trains: ClassVar = True
    uses_classes: ClassVar = True
    sections: ClassVar = ("labels", "network", "loss", "triplet", "training")
    # A GPU that takes 50 ms for a 10-s clip (BEATs base: about 15) needs 6 seconds a MB for 40 epochs.
    minutes: ClassVar = (60.0, 0.1)
    kind: Literal["fine_tune"] = "fine_tune"
    epochs: PositiveInt = Field(40, description="Passes over the clips.")
    batch_size: PositiveInt = Field(512, description="Clips of an optimiser step.")
    micro_batch: PositiveInt = Field(
        8, description="Clips in memory at a time, whose gradients add up to those of the batch."
    )
    learning_rate: float = Field(2e-4, gt=0, description="AdamW's highest learning rate, at the end of the warm-up.")
    scale_by_batch: bool = Field(False, description="Multiply the learning rate by batch_size / 256.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay, of all weights.")
    betas: tuple[Share, Share] = Field((0.9, 0.999), description="AdamW's decay rates of its running means.")
    warm_up_epochs: int = Field(
        4, ge=0, description="Epochs in which the learning rate rises linearly from 0; a cosine brings it back to 0."
    )
    layer_decay: float = Field(
        0.6, gt=0, le=1, description="Factor of the gradient from block to block downwards, if the network supports it."
    )
    layer_drop: Share = Field(
        0.05, description="Probability to skip a block in a forward pass, if the network supports it."
    )
    checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass to save memory, if the network supports it."
    )
    precision: Precision = "auto"

    @property
    def clips_at_once(self) -> int:
        """Clips of a forward pass."""
        return self.micro_batch

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.warm_up_epochs >= self.epochs:
            message = f"warm_up_epochs must be less than epochs ({self.epochs}), not {self.warm_up_epochs}"
            raise ValueError(message)
        return self


class FrameTraining(Section):
    """An autoencoder per machine type, trained on runs of five frames; defaults are those of the DCASE baseline."""

    target: ClassVar = "asdpipe.training.on_frames.FrameTrainer"
    objective: ClassVar = "asdpipe.method.objectives.ReconstructionObjective"
    further_targets: ClassVar = (objective, MachineLabels.target)
    trains: ClassVar = True
    uses_classes: ClassVar = False
    sections: ClassVar = ("network", "training")
    clips_at_once: ClassVar = 0
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
    clips_at_once: ClassVar = 0
    kind: Literal["none"] = "none"


Training = Annotated[
    ClipTraining | FineTuning | FrameTraining | NoTraining, Field(discriminator="kind"), with_kind("training")
]
