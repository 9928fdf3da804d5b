"""The manifest of a bundle: what is in it, and digests by which damage is found."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asdpipe.artifacts.files import file_digest, written
from asdpipe.errors import UserError, short

MANIFEST = "manifest.json"
FORMAT = "asdpipe bundle"
VERSION = 1
OWN_DIGEST = "manifest_sha256"
LARGEST = 10_000_000


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the manifest of a folder that holds all other files of a bundle.

    Args:
        content: JSON-able facts.
    """
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    files = {name: file_digest(folder / name) for name in names if name != MANIFEST}
    whole = {"format": FORMAT, "version": VERSION, **content, "files": files}
    whole[OWN_DIGEST] = _digest(whole)
    with written(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(whole, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def is_bundle(folder: Path) -> bool:
    """Return whether a folder is a bundle, of any version, damaged or not, that may be replaced by another."""
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the facts about a bundle whose files are all there and as they were written.

    Raises:
        UserError: it is no bundle, of a later version, or damaged.
    """
    file = folder / MANIFEST
    try:
        if file.stat().st_size > LARGEST:
            raise UserError(f"{file}: is too large for the manifest of a bundle; give the folder of a bundle")
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        reason = short(str(error))
        raise UserError(f"{file}: is damaged, or not the manifest of a bundle ({reason}); export again") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        message = f"{file}: is not the manifest of a bundle of asdpipe"
        raise UserError(f"{message}; give a folder that asdpipe export has written")
    version = content.get("version")
    if not isinstance(version, int) or version != VERSION:
        of = short(str(content.get("asdpipe", "another version")))
        what = f"{file}: is of version {short(str(version))} of bundles, written by asdpipe {of}"
        raise UserError(f"{what}; this asdpipe reads version {VERSION}: update it, or export again")
    digest = content.pop(OWN_DIGEST, None)
    if digest != _digest(content):
        raise UserError(f"{file}: is damaged or was edited: its digest is another; export again")
    files = content.get("files")
    if not isinstance(files, dict) or not all(map(_is_within, files)):
        raise UserError(f"{file}: does not list the files of a bundle; export again")
    for name, wanted in files.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: is missing, but {MANIFEST} lists it; copy the whole bundle, or export again")
        if file_digest(path) != wanted:
            raise UserError(f"{path}: is damaged: its digest is not that of {MANIFEST}; copy it again, or export again")
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _is_within(name: str) -> bool:
    """Return whether a name is that of a file within the folder."""
    path = Path(name)
    return "\0" not in name and not path.is_absolute() and ".." not in path.parts
