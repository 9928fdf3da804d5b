"""Checksums of downloaded files: compared with published ones, or recorded at the first download."""

import hashlib
import json
import re
import threading
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from asdpipe.artifacts.files import written
from asdpipe.errors import UserError


class Remote(NamedTuple):
    """A file to download: its URL, its path on disk, and its published MD5 if there is one."""

    url: str
    path: Path
    md5: str | None


class Digests(NamedTuple):
    """Digests and size of a file, in bytes."""

    md5: str
    sha256: str
    size: int


class WrongChecksum(UserError):
    """A file differs from what was published or recorded for its URL."""


def digests(path: Path) -> Digests:
    """Return MD5, SHA-256 and size of a file."""
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            md5.update(piece)
            sha256.update(piece)
            size += len(piece)
    return Digests(md5.hexdigest(), sha256.hexdigest(), size)


class Checksums:
    """The lock file with the digests of files that have no published MD5, by the path of their URL.

    The host is left out, so that a mirror is compared with the original.

    Raises:
        UserError: the file is not such a lock file.
    """

    def __init__(self, lock: Path) -> None:
        self.lock = lock
        self._mutex = threading.Lock()
        try:
            # Deleting the last line leaves a trailing comma.
            text = re.sub(r",\s*}\s*$", "}", lock.read_text()) if lock.exists() else "{}"
            self._entries = {key: Digests(**entry) for key, entry in json.loads(text).items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{lock}: is not a file of checksums ({error}); mend it, or delete it") from None

    def verify(self, remote: Remote, path: Path) -> Digests:
        """Compare the file at ``path`` with the published or recorded digests; record them if there are none.

        Raises:
            WrongChecksum: they differ; the file was removed.
        """
        found = digests(path)
        key = urlsplit(remote.url).path
        recorded = self._entries.get(key)
        if remote.md5 is not None and found.md5 != remote.md5:
            problem = f"MD5 is {found.md5}, but {remote.md5} was published"
            remedy = "for a mirror that packed the archives anew set download.checksums: recorded in the config"
        elif remote.md5 is None and recorded is not None and found != recorded:
            problem = f"SHA-256 is {found.sha256}, but {recorded.sha256} was recorded at the first download"
            remedy = f"if the file was replaced on purpose, delete the line of {key} from {self.lock}"
        else:
            if remote.md5 is None and recorded is None:
                self._change(key, found)
            return found
        path.unlink()
        raise WrongChecksum(f"{remote.url}: {problem}; the file was removed: run again to fetch it anew; {remedy}")

    def known(self, remote: Remote) -> bool:
        """Tell whether a published or recorded digest exists."""
        return remote.md5 is not None or urlsplit(remote.url).path in self._entries

    def forget(self, url: str) -> None:
        """Delete the record of a file that turned out to be damaged."""
        self._change(urlsplit(url).path, None)

    def _change(self, key: str, entry: Digests | None) -> None:
        with self._mutex:
            self._entries.pop(key, None)
            if entry is not None:
                self._entries[key] = entry
            # One line per file, so that users can delete single lines.
            entries = sorted(self._entries.items())
            lines = [f" {json.dumps(name)}: {json.dumps(known._asdict())}" for name, known in entries]
            with written(self.lock) as temporary:
                temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n")
