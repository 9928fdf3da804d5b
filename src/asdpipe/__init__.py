"""Train anomalous sound detectors without attribute labels, in iterative stages."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("asdpipe")
except PackageNotFoundError:
    # The workflow also runs from a checkout that is not installed.
    __version__ = "unknown"
