"""Class assembly: the class of every training clip of a stage (paper §4.1.1, §4.2, §5.4).

A class is known by its parts, never by its name: the parts joined by underscores are for people, and two classes may
have the same name, such as those of (fan, "01_x") and (fan_01, "x").
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Clip(NamedTuple):
    """What a class may depend on."""

    clip_id: str
    machine: str
    section: str | None
    """None where the machine type has only one section."""
    domain: str
    attributes: str | None
    """Operating state; None where it is unknown."""


class ClipClass(NamedTuple):
    """A class. Empty parts do not take part in it."""

    origin: str
    """``original`` or ``external``: clips of the two never share a class (§4.1.1)."""
    machine: str
    section: str = ""
    attributes: str = ""
    domain: str = ""
    pseudo_label: str = ""
    label: str = ""
    """Of an external clip: one label at two machine types is two classes."""

    @property
    def name(self) -> str:
        """The parts joined by underscores."""
        return "_".join(filter(None, self[1:]))


class Labeller(Protocol):
    """Give training clips their classes."""

    needs_attributes: bool
    """Whether a clip without attributes has no class."""

    def __call__(self, clip: Clip) -> ClipClass:
        """Return the class of an original training clip."""


class MachineLabels:
    """The machine type is the class: nothing else is known."""

    needs_attributes = False

    def __call__(self, clip: Clip) -> ClipClass:
        """Return the class of a clip."""
        return ClipClass("original", clip.machine)


class AttributeLabels:
    """Machine type, section and operating state are the class (the paper's labelled setting, §5.4)."""

    needs_attributes = True

    def __call__(self, clip: Clip) -> ClipClass:
        """Return the class of a clip."""
        return ClipClass("original", clip.machine, clip.section or "", clip.attributes or "")


class PseudoLabels:
    """Split the classes of another labeller by domain and pseudo-label (§4.2.2).

    Args:
        of: the classes without pseudo-labels.
        by_clip: pseudo-label of every clip.
    """

    def __init__(self, of: Labeller, by_clip: Mapping[str, str]) -> None:
        self.of, self.by_clip = of, by_clip
        self.needs_attributes = of.needs_attributes

    def __call__(self, clip: Clip) -> ClipClass:
        """Return the class of a clip."""
        return self.of(clip)._replace(domain=clip.domain, pseudo_label=self.by_clip[clip.clip_id])


def class_indices(classes: Sequence[ClipClass]) -> tuple[NDArray[np.int32], list[ClipClass]]:
    """Return the class index of every clip (clips,), and the classes in the order of their indices."""
    ordered = sorted(set(classes), key=lambda each: (each.origin, each.name, each))
    index = {each: number for number, each in enumerate(ordered)}
    return np.array([index[each] for each in classes], dtype=np.int32), ordered
