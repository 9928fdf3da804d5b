"""The import of pre-trained weights: a file in an official layout becomes one of this package."""

import json
import logging
from pathlib import Path
from typing import Any

from asdpipe.artifacts.files import file_digest, written
from asdpipe.config.base import read_settings
from asdpipe.config.checkpoints import CheckpointSettings
from asdpipe.config.data import Download
from asdpipe.data.download.checksums import Checksums, Remote
from asdpipe.data.download.fetch import fetch
from asdpipe.errors import UserError
from asdpipe.models.layouts import read_official
from asdpipe.models.tensors import write_tensors
from asdpipe.steps.options import MaybeFile, MirrorsJson, OutFile, Settings, Text

logger = logging.getLogger(__name__)


def import_checkpoint(
    name: Text,
    folder: Text,
    settings: Settings,
    weights: OutFile,
    description: OutFile,
    file: MaybeFile = None,
    mirrors: MirrorsJson = "{}",
) -> None:
    """Import a pre-trained checkpoint.

    Args:
        name: of the checkpoint, for messages; settings: CheckpointSettings.
        folder: where a file is downloaded to; checksums.json in it has its digest.
        weights, description: the tensors without classifier, and which network they are of.
        file: in the official layout; without it, it is fetched.

    Raises:
        UserError: the file cannot be fetched, is damaged, or is not what the settings say.
    """
    used = read_settings(CheckpointSettings, settings)
    source = _fetched(name, Path(folder), used, mirrors) if file is None else file
    digest = file_digest(source)
    if used.sha256 not in (None, digest):
        message = f"{source}: SHA-256 is {digest}, not {used.sha256}: it is another file or damaged; give the right one"
        raise UserError(f"{message}, or change checkpoints.{name}.sha256")
    official = read_official(source, used.layout)
    _check_tuning(source, name, official.classifier, used.fine_tuned)
    write_tensors(official.tensors, official.network, weights)
    parameters = sum(parameter.numel() for parameter in official.extractor.parameters())
    content: dict[str, Any] = {
        "layout": used.layout,
        "fine_tuned": used.fine_tuned,
        "network": official.network,
        "parameters": parameters,
        "source_sha256": digest,
        "weights_sha256": file_digest(weights),
    }
    with written(description) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    logger.info("%s: %s with %d parameters, from %s", name, used.layout, parameters, source)


def _fetched(name: str, folder: Path, used: CheckpointSettings, mirrors: str) -> Path:
    """Return the downloaded file, verified; its digest is recorded at the first download."""
    if used.url is None:
        raise UserError(f"checkpoints.{name}.file is not set, and no address is known: give the file")
    download = Download.model_validate_json(mirrors)
    url = used.url.replace("{huggingface}", download.huggingface.rstrip("/"))
    remote = Remote(url, folder / url.rpartition("/")[2], None)
    lock = folder / "checksums.json"
    folder.mkdir(parents=True, exist_ok=True)
    fetch([remote], lock, 1, download.attempts)
    # Also what an earlier run left there.
    checksums = Checksums(lock)
    found = checksums.verify(remote, remote.path)
    if used.sha256 not in (None, found.sha256):
        remote.path.unlink()
        checksums.forget(url)
        message = f"{url}: SHA-256 is {found.sha256}, not {used.sha256}; the file was removed: run again to fetch it"
        raise UserError(f"{message} anew, or change checkpoints.{name}.sha256")
    return remote.path


def _check_tuning(file: Path, name: str, classifier: str | None, expected: bool) -> None:
    """Refuse a fine-tuned checkpoint where a pre-trained one is expected, and the other way round."""
    key = f"checkpoints.{name}.fine_tuned"
    if expected and classifier is None:
        message = f"is not fine-tuned (it has no classifier), but {key} is true: give a fine-tuned file, or set it"
        raise UserError(f"{file}: {message} to false")
    if classifier is not None and not expected:
        message = f"is fine-tuned (it has {classifier!r}), but {key} is false: give the pre-trained file, or set it"
        raise UserError(f"{file}: {message} to true")
