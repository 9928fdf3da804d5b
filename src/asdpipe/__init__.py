"""Train anomalous-sound detectors without labels: the five-stage method, step by step."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("asdpipe")
except PackageNotFoundError:
    # The workflow uses this package from its checkout, also where only its dependencies are installed.
    __version__ = "unknown"
