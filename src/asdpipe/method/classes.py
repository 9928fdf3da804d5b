"""The class of every training clip of a stage (paper §4.1.1, §4.2, §5.4; second paper, §3.2).

A class is identified by its parts. Its name, the parts joined by underscores, is for people only: two classes may have
the same name, such as (fan, "01_x") and (fan_01, "x").
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from asdpipe.method.composite_labels import Order, composite


class Clip(NamedTuple):
    """The properties of a clip that its class may depend on."""

    clip_id: str
    machine: str
    section: str | None
    """None if the machine type has only one section."""
    domain: str
    attributes: str | None
    """Operating state; None if unknown."""
    candidates: tuple[str, ...] = ()
    """Candidate labels, the best first (second paper)."""

    @property
    def own_label(self) -> str | None:
        """Section and attributes, as far as the clip has them; None if it has neither."""
        return "_".join(filter(None, (self.section, self.attributes))) or None


class ClipClass(NamedTuple):
    """A class; parts that it does not use are empty."""

    origin: str
    """``original`` or ``external``; clips of different origin never share a class (§4.1.1)."""
    machine: str
    section: str = ""
    attributes: str = ""
    domain: str = ""
    pseudo_label: str = ""
    label: str = ""
    """Label of an external clip; the same label at two machine types gives two classes."""
    candidates: tuple[str, ...] = ()
    """The candidates of a composite label."""

    @property
    def name(self) -> str:
        """The parts except ``origin``, joined by underscores."""
        return "_".join(filter(None, (*self[1:-1], *self.candidates)))


class Labeller(Protocol):
    """Assigns classes to training clips."""

    needs_attributes: bool
    """Whether every clip must have attributes."""
    num_candidates: int
    """How many candidate labels of a clip it uses, if the clip has so many."""

    def __call__(self, clip: Clip) -> ClipClass:
        """Return the class of an original training clip."""


class MachineLabels:
    """The class is the machine type (unlabelled setting)."""

    needs_attributes = False
    num_candidates = 0

    def __call__(self, clip: Clip) -> ClipClass:
        """Return the class of a clip."""
        return ClipClass("original", clip.machine)


class AttributeLabels:
    """The class is machine type, section and operating state (labelled setting, §5.4)."""

    needs_attributes = True
    num_candidates = 0

    def __call__(self, clip: Clip) -> ClipClass:
        """Return the class of a clip."""
        return ClipClass("original", clip.machine, clip.section or "", clip.attributes or "")


class TopMLabels:
    """The class is the machine type and the composite of the clip's best candidate labels (second paper, §3.2).

    Args:
        m: candidates per clip; a clip with fewer has all of its own.
        order: "ranked" as in the paper, "sorted" for classes that do not depend on the order of candidates.
    """

    needs_attributes = False

    def __init__(self, m: int, order: Order) -> None:
        self.num_candidates, self.order = m, order

    def __call__(self, clip: Clip) -> ClipClass:
        """Return the class of a clip."""
        composed = composite(clip.candidates, self.num_candidates, self.order)
        return ClipClass("original", clip.machine, candidates=composed)


class PseudoLabels:
    """Split the classes of another labeller by domain and pseudo-label (§4.2.2).

    Args:
        labeller: gives the classes that are split.
        by_clip: pseudo-label of every clip, by clip_id.
    """

    def __init__(self, labeller: Labeller, by_clip: Mapping[str, str]) -> None:
        self.labeller, self.by_clip = labeller, by_clip
        self.needs_attributes, self.num_candidates = labeller.needs_attributes, labeller.num_candidates

    def __call__(self, clip: Clip) -> ClipClass:
        """Return the class of a clip."""
        return self.labeller(clip)._replace(domain=clip.domain, pseudo_label=self.by_clip[clip.clip_id])


def class_indices(classes: Sequence[ClipClass]) -> tuple[NDArray[np.int32], list[ClipClass]]:
    """Return the class index of every clip (clips,), and the classes in the order of their indices."""
    ordered = sorted(set(classes), key=lambda clip_class: (clip_class.origin, clip_class.name, clip_class))
    index = {clip_class: number for number, clip_class in enumerate(ordered)}
    return np.array([index[clip_class] for clip_class in classes], dtype=np.int32), ordered
