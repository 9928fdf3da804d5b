"""The folder of a DCASE data set: archives/, {dev,eval}_data/raw/, ground_truth/ and checksums.json."""

import fcntl
import json
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from asdpipe.artifacts.files import written
from asdpipe.data.dcase.archives import Archive, TruthFile
from asdpipe.data.download.checksums import Checksums, Remote
from asdpipe.data.download.fetch import fetch
from asdpipe.data.download.unpack import DamagedArchive, unpack
from asdpipe.errors import UserError

logger = logging.getLogger(__name__)


class Mirrors(NamedTuple):
    """Where to download from, and how."""

    zenodo: str
    """Base URL of the archives; ``github``: of the ground truth."""
    github: str
    checksums: Literal["published", "recorded"]
    """Compare with published MD5s where there are any, or only with those recorded at the first download."""
    connections: int
    attempts: int


class DcaseFolder:
    """A data set's folder, into which archives and ground truth are downloaded.

    Args:
        root: the folder; mirrors: where to download from.
    """

    def __init__(self, root: Path, mirrors: Mirrors) -> None:
        self.root, self.mirrors = root, mirrors
        self.archives, self.checksums = root / "archives", root / "checksums.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from downloading into this folder; wait if one does."""
        self.archives.mkdir(parents=True, exist_ok=True)
        with (self.archives / ".lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.warning("%s: waiting for another process that fetches into it", self.root)
                fcntl.flock(file, fcntl.LOCK_EX)
            # The system releases the lock however this process ends.
            yield

    def check_year(self, year: int, records: Collection[int]) -> None:
        """Check that what was unpacked here is of this year: archives of several years have the same names.

        Args:
            records: the Zenodo records of the year.

        Raises:
            UserError: it is of another year.
        """
        for marker in sorted(self.archives.glob("*.done")):
            if _read_marker(marker).get("record") not in records:
                raise UserError(f"{self.root}: holds another year's {marker.stem}; give DCASE {year} a root of its own")

    def entry(self, archive: Archive) -> dict[str, Any] | None:
        """Return the index entry of an archive whose clips are there; None if they are not."""
        marker, clips = self._marker(archive), self._raw(archive) / archive.machine
        if marker.exists() and clips.is_dir():
            # Left over if the process was killed between writing the marker and deleting the archive.
            self._zip(archive).unlink(missing_ok=True)
            return _read_marker(marker)
        if self._zip(archive).exists() or not all((clips / folder).is_dir() for folder in archive.folders):
            return None
        # The user put the clips there by hand.
        return {"name": archive.name, "record": archive.record, "md5": None, "sha256": None, "files": None}

    def fetch(self, truth: Sequence[TruthFile], archives: Sequence[Archive]) -> None:
        """Download the files of these that are missing.

        Raises:
            UserError: some could not be downloaded or are damaged; the others are there.
        """
        bases = {"zenodo": self.mirrors.zenodo.rstrip("/"), "github": self.mirrors.github.rstrip("/")}
        files = [
            Remote(bases[file.base] + file.url_path, self.root / "ground_truth" / file.path, None) for file in truth
        ]
        files += [self._remote(archive) for archive in archives]
        missing = [file.path.name for file in files if not file.path.exists()]
        logger.info("fetching %d files: %s", len(missing), ", ".join(missing) or "none")
        fetch(files, self.checksums, self.mirrors.connections, self.mirrors.attempts)

    def unpack(self, archives: Sequence[Archive]) -> None:
        """Unpack downloaded archives and delete them.

        Raises:
            UserError: some could not be unpacked; the others were.
        """
        checksums = Checksums(self.checksums)
        failures = []
        for archive in archives:
            try:
                self._unpack(archive, checksums)
            except UserError as error:
                logger.warning("%s", error)
                failures.append(str(error))
        if failures:
            raise UserError(
                "\n".join([f"{len(failures)} of {len(archives)} archives could not be unpacked", *failures])
            )

    def _unpack(self, archive: Archive, checksums: Checksums) -> None:
        path, remote = self._zip(archive), self._remote(archive)
        digests = checksums.verify(remote, path)
        try:
            files = unpack(path, self._raw(archive), archive.machine)
        except DamagedArchive as error:
            path.unlink()
            checksums.forget(remote.url)
            raise UserError(f"{error}; it was removed: run again to fetch it anew") from None
        entry = {"name": archive.name, "record": archive.record, **digests._asdict(), "files": files}
        with written(self._marker(archive)) as temporary:
            temporary.write_text(json.dumps(entry, sort_keys=True) + "\n")
        path.unlink()
        logger.info("%s: %d files", archive.name, files)

    def _remote(self, archive: Archive) -> Remote:
        md5 = archive.md5 if self.mirrors.checksums == "published" else None
        return Remote(self.mirrors.zenodo.rstrip("/") + archive.url_path, self._zip(archive), md5)

    def _zip(self, archive: Archive) -> Path:
        return self.archives / archive.name

    def _marker(self, archive: Archive) -> Path:
        return self.archives / f"{archive.name}.done"

    def _raw(self, archive: Archive) -> Path:
        return self.root / f"{archive.part}_data" / "raw"


def _read_marker(marker: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(marker.read_text()))
    except (ValueError, TypeError):
        raise UserError(f"{marker}: is not JSON; delete it") from None
