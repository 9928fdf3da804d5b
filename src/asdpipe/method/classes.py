"""Class assembly: the class of every training clip of a stage (paper §4.1.1, §4.2, §5.4)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray


def original_class(
    machine: str,
    section: str | None,
    attributes: str | None,
    domain: str,
    cluster: int | None,
    labels: Literal["machine", "attribute"],
) -> str:
    """Return the class name of an original training clip.

    ===========  =======================  ======================================
    labels       without pseudo-labels    with pseudo-labels
    ===========  =======================  ======================================
    machine      machine                  machine_domain_cluster
    attribute    machine[_section]_attr.  machine[_section]_attr._domain_cluster
    ===========  =======================  ======================================

    Args:
        section: None where the machine type has only one section.
        attributes: operating state; None where it is unknown, which leaves it out.
        cluster: pseudo-label; None before stage 2 or without pseudo-labels.
    """
    parts = [machine]
    if labels == "attribute":
        parts += [part for part in (section, attributes) if part]
    if cluster is not None:
        parts += [domain, str(cluster)]
    return "_".join(parts)


def external_class(machine: str, mid: str) -> str:
    """Return the class name of a selected external clip: one label at two machine types is two classes (§4.1.1)."""
    return f"{machine}_{mid}"


def class_indices(origins: Sequence[str], names: Sequence[str]) -> tuple[NDArray[np.int32], list[tuple[str, str]]]:
    """Number the classes by namespace and name.

    A machine type's own class and an external class never meet, even with equal names: the namespace
    ("original" or "external") is part of the class.

    Returns:
        The class index of every clip (clips,), and the (namespace, name) of every class.
    """
    keys = list(zip(origins, names, strict=True))
    classes = sorted(set(keys))
    index = {key: number for number, key in enumerate(classes)}
    return np.array([index[key] for key in keys], dtype=np.int32), classes
