"""What is said of a recording: its score and what it is compared with, or why it has none."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


@dataclass(frozen=True)
class Result:
    """The score of a recording."""

    score: float
    """Larger is more anomalous; compare within one machine type and model only."""
    limit: float
    """Of the machine type, and of the condition if it is known; without a p-value the decision threshold."""
    machine: str
    nearest_clip: str | None
    """The most similar training clip; None: the score compares with none."""
    spread: float | None = None
    """Standard deviation of the score over the seeds; None: there is one seed."""
    start: float | None = None
    """Where the window with this score begins, in s; None: the recording was not split into windows."""
    p_value: float | None = None
    """How often normal clips score as high: at most the rate of false alarms if the score is above the limit. None:
    the limit promises no rate of false alarms."""

    @property
    def anomalous(self) -> bool:
        """Whether the score is above the limit."""
        return self.score > self.limit


class Row(NamedTuple):
    """A file, and its result or the reason why there is none."""

    file: Path
    machine: str | None
    result: Result | None
    reason: str = ""
