"""Train anomalous sound detectors without attribute labels, in iterative stages."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from asdpipe.monitor.detector import Detector

try:
    __version__ = version("asdpipe")
except PackageNotFoundError:
    # The workflow also runs from a checkout that is not installed.
    __version__ = "unknown"


def load(folder: str | Path, device: Literal["auto", "cpu", "cuda"] = "auto", stage: int | None = None) -> "Detector":
    """Load a trained detector, to score new recordings.

        detector = asdpipe.load("results/demo/ba_trp_ps_ex/seed0/stage5")
        detector.score_file("fan/new.wav").anomalous

    Args:
        folder: of a stage, with scores.parquet, or of a run, such as ``results/demo/ba_trp_ps_ex``: all of its seeds,
            whose scores are averaged; results/ must be whole. Or a bundle that ``asdpipe export`` has written.
        device: where to run; auto: a GPU if there is one. A bundle runs on the CPU.
        stage: of a run; None: the last one that all seeds have finished.

    Raises:
        asdpipe.errors.UserError: the folder is not that of a stage or run, or what its scores were made from is missing
            or has changed since; a bundle is damaged or of a later version.
    """
    # PyTorch takes a second to import.
    from asdpipe.monitor.detector import load_detector

    return load_detector(Path(folder), device, stage)
