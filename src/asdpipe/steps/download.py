"""Step 0, download: a DCASE data set's recordings and ground truth, once."""

import fcntl
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from asdpipe.artifacts.files import written
from asdpipe.config.data import DcaseListing, Download
from asdpipe.data.dcase.archives import Archive, TruthFile, archives, ground_truth_files
from asdpipe.data.download.fetch import Checksums, Remote, fetch
from asdpipe.data.download.unpack import DamagedArchive, unpack
from asdpipe.errors import UserError
from asdpipe.steps.options import OutFile, Settings, Text

Mirrors = Annotated[str, Option(envvar="ASDPIPE_DOWNLOAD", help="Config's download section, as JSON.")]

logger = logging.getLogger(__name__)


def download(name: Text, root: Text, settings: Settings, index: OutFile, mirrors: Mirrors = "{}") -> None:
    """Fetch and unpack what is missing of a DCASE data set.

    Args:
        name: of the data set; root: its folder; settings: uses year, machines, parts, revealed_attributes.
    """
    dataset = DcaseListing.model_validate_json(settings)
    if dataset.year is None:
        raise UserError(f"datasets.{name}: download needs the year of the challenge")
    wanted = archives(dataset.year, dataset.parts, dataset.machines)
    truth = ground_truth_files(dataset.year, dataset.machines, dataset.parts, dataset.revealed_attributes)
    folder = _Folder(Path(root), Download.model_validate_json(mirrors))
    with folder.alone():
        folder.check_records({archive.record for archive in archives(dataset.year, ("dev", "eval"))}, dataset.year)
        missing = [archive for archive in wanted if folder.entry(archive) is None]
        logger.info("%s: %d of %d archives are there already", name, len(wanted) - len(missing), len(wanted))
        folder.fetch(truth, missing)
        folder.unpack(missing)
        entries = [folder.entry(archive) for archive in wanted]
    listing = {"year": dataset.year, "archives": entries, "ground_truth": sorted(file.path for file in truth)}
    with written(index) as temporary:
        temporary.write_text(json.dumps(listing, indent=1, sort_keys=True) + "\n")


class _Folder:
    """The folder of a data set: archives/, {dev,eval}_data/raw/, ground_truth/ and checksums.json."""

    def __init__(self, root: Path, source: Download) -> None:
        self.root, self.source = root, source
        self.archives, self.lock = root / "archives", root / "checksums.json"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other process fetches into this folder."""
        self.archives.mkdir(parents=True, exist_ok=True)
        with (self.archives / ".lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.warning("%s: waiting for another process that fetches into it", self.root)
                # Released by the system, however that process ends.
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def check_records(self, records: set[int], year: int) -> None:
        """Raise a UserError if archives of another year were unpacked here: their names are the same."""
        for done in sorted(self.archives.glob("*.done")):
            if _read(done).get("record") not in records:
                raise UserError(f"{self.root}: holds another year's {done.stem}; give DCASE {year} a root of its own")

    def entry(self, archive: Archive) -> dict[str, Any] | None:
        """Return what is known of an archive whose clips are there; None if they are not."""
        done, place = self._done(archive), self._raw(archive) / archive.machine
        if done.exists() and place.is_dir():
            # It may have been killed before that.
            self._zip(archive).unlink(missing_ok=True)
            return _read(done)
        if self._zip(archive).exists() or not all((place / folder).is_dir() for folder in archive.folders):
            return None
        # Somebody put the clips there by other means.
        return {"name": archive.name, "record": archive.record, "md5": None, "sha256": None, "files": None}

    def fetch(self, truth: list[TruthFile], missing: list[Archive]) -> None:
        """Fetch ground truth and archives that are not there."""
        bases = {"zenodo": self.source.zenodo.rstrip("/"), "github": self.source.github.rstrip("/")}
        files = [
            Remote(bases[file.base] + file.url_path, self.root / "ground_truth" / file.path, None) for file in truth
        ]
        files += [self._remote(archive) for archive in missing]
        absent = [file for file in files if not file.path.exists()]
        logger.info("fetching %d files: %s", len(absent), ", ".join(file.path.name for file in absent) or "none")
        fetch(files, self.lock, self.source.connections, self.source.attempts)

    def unpack(self, missing: list[Archive]) -> None:
        """Unpack the archives and delete them.

        Raises:
            UserError: some cannot be unpacked; the others were.
        """
        checksums = Checksums(self.lock)
        failures = []
        for archive in missing:
            try:
                self._unpack(archive, checksums)
            except UserError as error:
                logger.warning("%s", error)
                failures.append(str(error))
        if failures:
            raise UserError("\n".join([f"{len(failures)} of {len(missing)} archives could not be unpacked", *failures]))

    def _unpack(self, archive: Archive, checksums: Checksums) -> None:
        path, remote = self._zip(archive), self._remote(archive)
        found = checksums.verify(remote, path)
        try:
            files = unpack(path, self._raw(archive), archive.machine)
        except DamagedArchive as error:
            path.unlink()
            checksums.forget(remote.url)
            raise UserError(f"{error}; it was removed: run again to fetch it anew") from None
        with written(self._done(archive)) as temporary:
            known = {"name": archive.name, "record": archive.record, **found._asdict(), "files": files}
            temporary.write_text(json.dumps(known, sort_keys=True) + "\n")
        path.unlink()
        logger.info("%s: %d files", archive.name, files)

    def _remote(self, archive: Archive) -> Remote:
        md5 = archive.md5 if self.source.checksums == "published" else None
        return Remote(self.source.zenodo.rstrip("/") + archive.url_path, self._zip(archive), md5)

    def _zip(self, archive: Archive) -> Path:
        return self.archives / archive.name

    def _done(self, archive: Archive) -> Path:
        return self.archives / f"{archive.name}.done"

    def _raw(self, archive: Archive) -> Path:
        return self.root / f"{archive.part}_data" / "raw"


def _read(done: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(done.read_text()))
    except (ValueError, TypeError):
        raise UserError(f"{done}: is not JSON; delete it") from None
