"""The configuration of methods, which are built of sections, and what each of their steps depends on."""

from importlib.resources import files
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field, TypeAdapter

from asdpipe.config.base import Name, Section, canonical_json
from asdpipe.config.data import Decoding
from asdpipe.config.sections import (
    Autoencoder,
    Backend,
    ClipTraining,
    External,
    FrameTraining,
    Inference,
    Labels,
    Loss,
    MachineLabels,
    MultiResolution,
    Network,
    NoTraining,
    PseudoLabels,
    Subspace,
    Training,
    Triplet,
)
from asdpipe.imports import built


class Sections(Section):
    """The settings of the method's steps: one section per part of the paper."""

    labels: Labels = Field(
        MachineLabels(), description="Classes: machine types only (unlabelled), or machine, section and attributes."
    )
    network: Network = MultiResolution()
    loss: Loss = Subspace()
    triplet: Triplet = Triplet()
    training: Training = ClipTraining()
    inference: Inference = Inference()
    external: External = External()
    pseudo_labels: PseudoLabels = PseudoLabels()


class ClipTrainingSettings(Section):
    """All that a training on clips depends on, but for its inputs."""

    labels: Labels
    network: Network
    loss: Loss
    triplet: Triplet
    training: ClipTraining

    @property
    def mixes_machines(self) -> bool:
        """Whether a loss needs clips of other machine types."""
        return self.triplet.enabled and self.triplet.noise_from == "other_machine"

    def labeller(self) -> Any:
        """Return what gives clips their classes."""
        return self.labels.build()

    def objectives(self, embedding_shape: tuple[int, int], num_classes: int) -> list[Any]:
        """Return what is minimised: L_ss and L_trp (eq. 12)."""
        return [self.loss.build(embedding_shape=embedding_shape, num_classes=num_classes), self.triplet.build()]


class FrameTrainingSettings(Section):
    """All that a training on frames depends on, but for its inputs."""

    network: Autoencoder
    training: FrameTraining
    mixes_machines: ClassVar = False

    def labeller(self) -> Any:
        """Return what gives clips their classes: machine types."""
        return MachineLabels().build()

    def objectives(self, embedding_shape: tuple[int, int], num_classes: int) -> list[Any]:
        """Return what is minimised: the reconstruction error, which knows no classes."""
        return [built("asdpipe.method.objectives.ReconstructionObjective", {}, {})]


class UntrainedSettings(Section):
    """All that the embeddings of a network without training depend on."""

    network: Network
    training: NoTraining


TrainingSettings = ClipTrainingSettings | FrameTrainingSettings | UntrainedSettings


class NetworkSettings(Section):
    """What embeds clips; trained, its weights come with a description of their own."""

    network: Network


class RepresentSettings(Section):
    """All that representatives depend on beside embeddings."""

    k_source: int
    similarity: Literal["cosine", "dot"]


class SelectSettings(Section):
    """All that a selection of external clips depends on beside scores."""

    external: External


class PseudoLabelSettings(Section):
    """All that pseudo-labels depend on beside embeddings."""

    pseudo_labels: PseudoLabels


class ScoreSettings(Section):
    """All that scores depend on beside embeddings and representatives."""

    backend: Backend
    similarity: Literal["cosine", "dot"]
    decision_quantile: float


class ExternalScoreSettings(Section):
    """All that scores of external clips depend on beside models and representatives."""

    decoding: Decoding
    similarity: Literal["cosine", "dot"]


class Method(Sections):
    """A way to score clips: what differs from its parent, or else from the top-level sections."""

    parent: Name | None = Field(None, description="The method whose settings this one starts with.")
    start_from: Name | None = Field(
        None,
        description="The method whose stage 1 this one takes although its own would be another (Table 5); none: its "
        "own, which is shared with the parent if it is the same.",
    )

    @property
    def takes_external(self) -> bool:
        """Whether stages after the first take external clips."""
        return self.training.uses_classes and self.external.enabled and self.external.n_max > 0

    @property
    def iterates(self) -> bool:
        """Whether stages after the first differ from it."""
        return self.takes_external or (self.training.uses_classes and self.pseudo_labels.enabled)

    @property
    def draws_first(self) -> bool:
        """Whether stage 1 takes external clips, drawn at random."""
        return self.takes_external and self.external.first_stage == "random"

    def training_settings(self) -> TrainingSettings:
        """Return what its trainings depend on: for the rule, for sharing, the training state and model.json."""
        given = {name: getattr(self, name) for name in self.training.sections}
        return TypeAdapter[TrainingSettings](TrainingSettings).validate_python(given)

    @property
    def first_model(self) -> str:
        """What the model of stage 1 depends on, as JSON."""
        drawn = self.external.n_max if self.draws_first else 0
        return canonical_json([self.training_settings().model_dump(mode="json"), drawn])

    @property
    def every_model(self) -> str:
        """What the models and external clips of all stages depend on, but for start_from, as JSON."""
        iteration = self.model_dump(mode="json", include={"external", "pseudo_labels"}) if self.iterates else {}
        return canonical_json([self.first_model, self.represent_settings().model_dump(mode="json"), iteration])

    def represent_settings(self) -> "RepresentSettings":
        """Return what the representatives depend on beside embeddings."""
        return RepresentSettings(k_source=self.inference.k_source, similarity=self.inference.similarity)

    def score_settings(self) -> ScoreSettings:
        """Return what its scores depend on beside embeddings and representatives."""
        inference = self.inference.model_dump(include=set(ScoreSettings.model_fields))
        return ScoreSettings.model_validate(inference)


KNOWN_METHODS: dict[str, Any] = yaml.safe_load(files("asdpipe").joinpath("config/methods.yaml").read_text())
