"""The classes of the training clips: a union on ``kind``."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from asdpipe.config.base import Section, with_kind


class MachineLabels(Section):
    """Classes are machine types (unlabelled)."""

    target: ClassVar = "asdpipe.method.classes.MachineLabels"
    by_machine: ClassVar = True
    """Whether a machine type is one class, whatever its clips."""
    needs_candidates: ClassVar = False
    """Whether classes are made of ranked candidates (Top-M pseudo-labels)."""
    kind: Literal["machine"] = "machine"


class AttributeLabels(Section):
    """Classes are machine type, section and attributes (labelled)."""

    target: ClassVar = "asdpipe.method.classes.AttributeLabels"
    by_machine: ClassVar = False
    needs_candidates: ClassVar = False
    kind: Literal["attribute"] = "attribute"


Labels = Annotated[MachineLabels | AttributeLabels, Field(discriminator="kind"), with_kind("labels")]
