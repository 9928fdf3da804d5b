"""The classes and functions that steps use because their settings name them, not because they import them."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from asdpipe.config.inference import Backend
from asdpipe.config.labels import Labels
from asdpipe.config.listings import Listing
from asdpipe.config.losses import Loss, Triplet
from asdpipe.config.networks import Network
from asdpipe.config.pools import PoolListing
from asdpipe.config.training import Training
from asdpipe.models.kinds import EXTRACTORS

BUILT: dict[str, Any] = {
    "labels": Labels,
    "network": Network,
    "loss": Loss,
    "triplet": Triplet,
    "training": Training,
    "backend": Backend,
}


def targets(settings: Mapping[str, Any]) -> list[str]:
    """Return the dotted names of what the settings of a step make it build or call, for its code digest.

    Args:
        settings: of a step, as JSON-able mappings; other keys are ignored.
    """
    found: list[str] = []
    for name, kind in BUILT.items():
        if name in settings:
            section = TypeAdapter(kind).validate_python(settings[name])
            found += [section.target, *section.further_targets]
    if "layout" in settings:
        found.append(EXTRACTORS[settings["layout"]])
    if "format" in settings:
        listing: Any = PoolListing if "shards" in settings else Listing
        own = {name: value for name, value in settings.items() if name not in OPTIONS}
        found.append(TypeAdapter(listing).validate_python(own).listed_by)
    if "listing" in settings:
        found.append(TypeAdapter(Listing).validate_python(settings["listing"]).labelled_by)
    return sorted(filter(None, found))


# Options of the step that records hold beside the settings of a listing.
OPTIONS = {"name", "root", "split", "truth"}
