"""What steps reach through their settings alone: definitions that no import statement of theirs shows."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from asdpipe.config.data import Listing
from asdpipe.config.pools import PoolListing
from asdpipe.config.sections import Backend, Labels, Loss, Network, Training, Triplet

BUILT: dict[str, Any] = {
    "labels": Labels,
    "network": Network,
    "loss": Loss,
    "triplet": Triplet,
    "training": Training,
    "backend": Backend,
}


def targets(settings: Mapping[str, Any]) -> list[str]:
    """Return what a step builds or calls by its settings, as dotted names: its code depends on them.

    Args:
        settings: of a step, as JSON-able mappings; other keys play no part.
    """
    found = [
        TypeAdapter(kind).validate_python(settings[name]).target for name, kind in BUILT.items() if name in settings
    ]
    if "format" in settings:
        kind: Any = PoolListing if "shards" in settings else Listing
        own = {name: value for name, value in settings.items() if name not in OPTIONS}
        found.append(TypeAdapter(kind).validate_python(own).listed_by)
    if "listing" in settings:
        found.append(TypeAdapter(Listing).validate_python(settings["listing"]).labelled_by)
    return sorted(filter(None, found))


# What records hold beside the settings of a listing: further options of the step.
OPTIONS = {"name", "root", "split", "truth"}
