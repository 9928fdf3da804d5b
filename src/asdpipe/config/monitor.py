"""What alarms on new recordings promise: the ``monitor`` section."""

from typing import Literal

from pydantic import Field

from asdpipe.config.base import Section
from asdpipe.config.inference import Backend

By = Literal["domain", "machine", "section", "attributes"]


class Monitor(Section):
    """Alarm limits from normal clips that training has not seen (docs/monitor.md)."""

    false_alarms: float = Field(
        0.1, ge=0.01, le=0.2, description="The share of new normal clips that may raise an alarm."
    )
    holdout: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Share of the training clips kept out of training, to calibrate alarm limits with; clips in the "
        "same sub-folder of train/ go together. 0: limits promise nothing until `asdpipe calibrate` is run.",
    )
    by: By = Field(
        "domain", description="Limits are per machine type and this column of the clips; 'machine': per machine type."
    )


class HoldOutSettings(Section):
    """Settings of the clips that are kept out of training."""

    holdout: float


class CalibrateSettings(Section):
    """Settings of calibration scores: of the scores, and of the limits."""

    backend: Backend
    similarity: Literal["cosine", "dot"]
    false_alarms: float
    by: By
