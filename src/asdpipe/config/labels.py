"""The classes of the training clips: a union on ``kind``."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from asdpipe.config.base import Name, PositiveInt, Section, with_kind
from asdpipe.imports import built

Strategy = Literal["auto", "sample", "cluster", "direct"]


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


class Candidates(Section):
    """Candidate labels of every training clip (Top-M pseudo-labels, §2)."""

    strategy: Strategy = Field(
        "auto",
        description="'sample': the labels of the nearest clips in MFCC space; 'cluster': those of the nearest clusters "
        "in latent space; 'direct': the clip's own label; 'auto': sample for machine types whose labels are complete, "
        "few and consistent, else cluster.",
    )
    strategies: dict[str, Strategy] = Field({}, description="Strategies of single machine types, by their names.")
    k1: PositiveInt = Field(15, description="Nearest clips whose labels are candidates (sample).")
    k2: PositiveInt = Field(15, description="Clusters per machine type (cluster).")
    confidence: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="Keep candidates of a higher probability, or the best one alone (sample). Above 0.5 one candidate "
        "remains, whatever M; 0 keeps all.",
    )
    latent: Name | None = Field(
        None, description="The method whose embeddings are clustered. None: no machine type is clustered."
    )
    latent_stage: PositiveInt = Field(1, description="The stage of that method.")

    def of(self, machine: str) -> Strategy:
        """Return the strategy of a machine type."""
        return self.strategies.get(machine, self.strategy)


class TopMLabels(Section):
    """Classes are machine types, each split by the M best candidate labels of its clips (Top-M)."""

    target: ClassVar = "asdpipe.method.classes.TopMLabels"
    by_machine: ClassVar = False
    kind: Literal["top_m"] = "top_m"
    m: PositiveInt = Field(3, description="Candidates that make up a class (M).")
    order: Literal["ranked", "sorted"] = Field(
        "ranked",
        description="Keep the order of the candidates (paper), or ignore it: a and b make the same as b and a.",
    )
    candidates: Candidates = Candidates()

    @model_validator(mode="after")
    def _tells_clips_apart(self) -> Self:
        """Refuse sets of all clusters, which are the same for all clips."""
        used = {self.candidates.strategy, *self.candidates.strategies.values()}
        if self.order == "sorted" and self.m >= self.candidates.k2 and used & {"auto", "cluster"}:
            message = (
                f"order: sorted with m = {self.m} and candidates.k2 = {self.candidates.k2} gives one class per machine "
                "type that is clustered, because every clip has the same clusters; take order: ranked, or a smaller m"
            )
            raise ValueError(message)
        return self

    def build(self, **context: Any) -> Any:
        """Return the labeller; candidates are ranked in a step of their own."""
        return built(self.target, {"m": self.m, "order": self.order}, context)


Labels = Annotated[MachineLabels | AttributeLabels | TopMLabels, Field(discriminator="kind"), with_kind("labels")]
