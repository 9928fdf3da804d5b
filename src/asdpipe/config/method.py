"""Methods: their sections, and the settings of each of their steps."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import Field, TypeAdapter, model_validator

from asdpipe.config.base import Name, PositiveOrAuto, Section, canonical_json
from asdpipe.config.data import Decoding
from asdpipe.config.inference import Backend, Fusion, Inference
from asdpipe.config.iteration import External, PseudoLabels
from asdpipe.config.labels import Candidates, Labels, MachineLabels, TopMLabels
from asdpipe.config.losses import Loss, Subspace, Triplet
from asdpipe.config.networks import Autoencoder, MultiResolution, Network
from asdpipe.config.training import ClipTraining, FineTuning, FrameTraining, NoTraining, Training
from asdpipe.data.audio import SAMPLE_RATE
from asdpipe.imports import built


class Sections(Section):
    """The sections of a method, one per part of the paper."""

    labels: Labels = Field(
        MachineLabels(),
        description="Classes: machine types only (unlabelled); machine, section and attributes; or composites of the "
        "best candidate labels of each clip.",
    )
    network: Network = MultiResolution()
    loss: Loss = Subspace()
    triplet: Triplet = Triplet()
    training: Training = ClipTraining()
    inference: Inference = Inference()
    external: External = External()
    pseudo_labels: PseudoLabels = PseudoLabels()


_TEN_SECONDS = 10 * SAMPLE_RATE
_OnClips = Annotated[ClipTraining | FineTuning, Field(discriminator="kind")]


class ClipTrainingSettings(Section):
    """Settings of a training on clips and their classes."""

    labels: Labels
    network: Network
    loss: Loss
    triplet: Triplet
    training: _OnClips
    uses_classes: ClassVar = True

    @property
    def mixes_machines(self) -> bool:
        """Whether a loss needs clips of other machine types."""
        return self.triplet.enabled and self.triplet.noise_from == "other_machine"

    def labeller(self) -> Any:
        """Return the labeller."""
        return self.labels.build()

    def objectives(self, **context: Any) -> list[Any]:
        """Return the objectives, such as L_ss and L_trp (eq. 12); for ``context`` see ``objective_context``."""
        return [self.loss.build(**context), self.triplet.build()]


class _NoClasses(Section):
    uses_classes: ClassVar = False
    mixes_machines: ClassVar = False

    def labeller(self) -> Any:
        """Return the labeller: machine types."""
        return MachineLabels().build()


class SelfSupervisedSettings(_NoClasses):
    """Settings of a training on clips without their classes."""

    network: Network
    loss: Loss
    training: _OnClips

    def objectives(self, **context: Any) -> list[Any]:
        """Return the objective."""
        return [self.loss.build(**context)]


class FrameTrainingSettings(_NoClasses):
    """Settings of a training on frames."""

    network: Autoencoder
    training: FrameTraining

    def objectives(self, **_: Any) -> list[Any]:
        """Return the objective: the reconstruction error."""
        return [built(self.training.objective, {}, {})]


class UntrainedSettings(Section):
    """Settings of a network without training."""

    network: Network
    training: NoTraining


TrainingSettings = ClipTrainingSettings | SelfSupervisedSettings | FrameTrainingSettings | UntrainedSettings
# Building an adapter takes longer than using it.
_TRAINING_SETTINGS: TypeAdapter[TrainingSettings] = TypeAdapter(TrainingSettings)


class NetworkSettings(Section):
    """Settings of the embedding; a trained network also comes with its description."""

    network: Network


class RepresentSettings(Section):
    """Settings of representatives."""

    k_source: PositiveOrAuto
    similarity: Literal["cosine", "dot"]


class SelectSettings(Section):
    """Settings of the selection of external clips."""

    external: External


class RankLabelsSettings(Section):
    """Settings of candidate labels: without M and order, on which candidates do not depend."""

    candidates: Candidates


class PseudoLabelSettings(Section):
    """Settings of pseudo-labels."""

    pseudo_labels: PseudoLabels


class ScoreSettings(Section):
    """Settings of scores."""

    backend: Backend
    similarity: Literal["cosine", "dot"]
    decision_quantile: float


class FuseSettings(Fusion):
    """Settings of fused scores."""

    decision_quantile: float


class ExternalScoreSettings(Section):
    """Settings of the scores of external clips."""

    decoding: Decoding
    similarity: Literal["cosine", "dot"]


class Method(Sections):
    """A method: its differences from its parent, or else from the top-level sections."""

    parent: Name | None = Field(None, description="The method whose settings this one starts with.")
    start_from: Name | None = Field(
        None,
        description="The method whose stage 1 this one takes although its own would be another (Table 5); none: its "
        "own, which is shared with the parent if it is the same.",
    )

    fusion: Fusion | None = Field(
        None, description="Fuse the scores of other methods instead of training a network; none: no fusion."
    )

    @model_validator(mode="before")
    @classmethod
    def _fusion_trains_nothing(cls, values: Any) -> Any:
        """Replace what a fusion does not use, so that top-level sections are no error."""
        if isinstance(values, Mapping) and values.get("fusion") not in (None, "none", "None"):
            return {**values, "network": "log_mel", "training": "none"}
        return values

    @property
    def uses_classes(self) -> bool:
        """Whether it is trained on classes: only then labels, triplet loss and further stages matter."""
        return self.training.uses_classes and self.loss.uses_classes

    @property
    def takes_external(self) -> bool:
        """Whether stages after the first take external clips."""
        return self.uses_classes and self.external.enabled and self.external.n_max != 0

    @property
    def iterates(self) -> bool:
        """Whether stages after the first differ from it."""
        return self.takes_external or (self.uses_classes and self.pseudo_labels.enabled)

    @property
    def draws_first(self) -> bool:
        """Whether stage 1 takes external clips, drawn at random."""
        return self.takes_external and self.external.first_stage == "random"

    def training_mb(self, num_samples: int) -> int:
        """Return the memory of a training on clips of this length without its data, in MB."""
        base, per_clip = self.network.training_mb
        # The triplet loss has three views of every clip.
        views = 3 if self.uses_classes and self.triplet.enabled else 1
        return base + round(per_clip * views * self.training.clips_at_once * num_samples / _TEN_SECONDS)

    def embedding_mb(self, num_samples: int) -> int:
        """Return the memory of embedding clips of this length, in MB."""
        return round(self.network.embedding_mb * max(1, num_samples / _TEN_SECONDS))

    def training_settings(self) -> TrainingSettings:
        """Return the settings that a training depends on: for rule, sharing, checkpoint and model.json."""
        unused = () if self.uses_classes else ("labels", "triplet")
        given = {name: getattr(self, name) for name in self.training.sections if name not in unused}
        return _TRAINING_SETTINGS.validate_python(given)

    @property
    def candidates(self) -> Candidates | None:
        """How candidate labels are ranked, if the classes of a training are made of them."""
        return self.labels.candidates if isinstance(self.labels, TopMLabels) and self.uses_classes else None

    @property
    def first_model(self) -> str:
        """Settings that the model of stage 1 depends on, as JSON."""
        drawn = self.external.n_max if self.draws_first else 0
        return canonical_json([self.training_settings().model_dump(mode="json"), drawn])

    @property
    def every_model(self) -> str:
        """Settings that the models and external clips of all stages depend on, except start_from, as JSON."""
        iteration = self.model_dump(mode="json", include={"external", "pseudo_labels"}) if self.iterates else {}
        return canonical_json([self.first_model, self.represent_settings().model_dump(mode="json"), iteration])

    def represent_settings(self) -> "RepresentSettings":
        """Return the settings of representatives."""
        return RepresentSettings(k_source=self.inference.k_source, similarity=self.inference.similarity)

    def score_settings(self) -> ScoreSettings:
        """Return the settings of scores."""
        inference = self.inference.model_dump(include=set(ScoreSettings.model_fields))
        return ScoreSettings.model_validate(inference)

    def fuse_settings(self) -> FuseSettings:
        """Return the settings of fused scores."""
        quantile = self.inference.decision_quantile
        return FuseSettings.model_validate({**dict(self.fusion or ()), "decision_quantile": quantile})


KNOWN_METHODS: dict[str, Any] = yaml.safe_load(files("asdpipe").joinpath("config/methods.yaml").read_text())
