"""The settings of a training that are ``auto``, as numbers."""

from collections.abc import Mapping
from statistics import median
from typing import Any

from asdpipe.method import data_size
from asdpipe.method.data_size import AUTO, Sizes
from asdpipe.training.batches import num_batches


def numbers(settings: Mapping[str, Any], sizes: Sizes) -> dict[str, int]:
    """Return the numbers that ``auto`` stands for, by dotted key; none if nothing is.

    Args:
        settings: of the step ``train``, as in JSON.
        sizes: of the original training clips; external clips do not count, so that all stages have as many epochs.
    """
    loss, training = settings.get("loss", {}), settings["training"]
    sources, found = [size.source for size in sizes.values()] or [0], dict[str, int]()
    if loss.get("subclusters") == AUTO:
        found["loss.subclusters"] = data_size.subclusters(median(sources))
    source = training.get("source_per_batch")
    if source == AUTO:
        source = found["training.source_per_batch"] = data_size.source_per_batch(sum(sources))
    if training.get("target_per_batch") == AUTO:
        found["training.target_per_batch"] = data_size.target_per_batch(source)
    if training.get("epochs") == AUTO:
        found["training.epochs"] = data_size.epochs(num_batches(sum(sources), source, training["epoch"]))
    return found
