"""The settings of every step: everything except its input files that its result depends on."""

from collections.abc import Callable
from typing import Any

from asdpipe.config.base import Section, settings_of
from asdpipe.config.checkpoints import CheckpointSettings
from asdpipe.config.data import DownloadSettings, UnionSettings
from asdpipe.config.listings import LabelSettings
from asdpipe.config.method import (
    ExternalScoreSettings,
    NetworkSettings,
    PseudoLabelSettings,
    RankLabelsSettings,
    SelectSettings,
)
from asdpipe.config.monitor import CalibrateSettings, HoldOutSettings

# Steps with settings of a pool.
POOL_STEPS = {"generate_pool", "list_pool_clips", "pack_pool", "pack_selected", "score_external"}


def step_settings(
    step: str, dataset: Any, pool: Any, method: Any, checkpoint: Any = None, monitor: Any = None
) -> Section:
    """Return the settings of a step; an empty section if it has none.

    Args:
        dataset, pool, method, checkpoint, monitor: sections of the step, None where it has none.
    """
    sections: dict[str, Callable[[], Section]] = {
        "import_checkpoint": lambda: settings_of(checkpoint, CheckpointSettings),
        "generate_dataset": lambda: dataset.recordings,
        "generate_pool": lambda: pool.recordings,
        "download": lambda: settings_of(dataset, DownloadSettings),
        "list_clips": lambda: dataset.listing,
        "label_clips": lambda: LabelSettings(listing=dataset.listing),
        "unite_clips": lambda: settings_of(dataset, UnionSettings),
        "hold_out_clips": lambda: settings_of(monitor, HoldOutSettings),
        "pack_clips": lambda: dataset.decoding,
        "list_pool_clips": lambda: pool.listing,
        "pack_pool": lambda: pool.decoding,
        "pack_selected": lambda: pool.decoding,
        "train": lambda: method.training_settings(),  # noqa: PLW0108 (there may be no method)
        "embed": lambda: NetworkSettings(network=method.network),
        "represent": lambda: method.represent_settings(),  # noqa: PLW0108
        "score": lambda: method.score_settings(),  # noqa: PLW0108
        "calibrate": lambda: CalibrateSettings.model_validate(
            {
                **method.score_settings().model_dump(include={"backend", "similarity"}),
                **monitor.model_dump(include={"false_alarms", "by"}),
            }
        ),
        "fuse_scores": lambda: method.fuse_settings(),  # noqa: PLW0108
        "score_external": lambda: ExternalScoreSettings(decoding=pool.decoding, similarity=method.inference.similarity),
        "select": lambda: SelectSettings(external=method.external),
        "rank_labels": lambda: RankLabelsSettings(candidates=method.labels.candidates),
        "pseudo_label": lambda: PseudoLabelSettings(pseudo_labels=method.pseudo_labels),
    }
    return sections.get(step, Section)()
