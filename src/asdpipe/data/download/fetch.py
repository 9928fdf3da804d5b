"""Fetching files over HTTP: several at a time, resumed where they broke off, verified before they get their name."""

import hashlib
import json
import logging
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple, NoReturn
from urllib.parse import urlsplit

import requests
import urllib3

from asdpipe.artifacts.files import written
from asdpipe.errors import UserError
from asdpipe.progress import Progress

FIRST_DELAY = 1.0
LONGEST_DELAY = 60.0
LONGEST_RETRY_AFTER = 600.0
# Seconds to connect, and between two pieces.
TIMEOUT = (15.0, 60.0)
PIECE = 1 << 16
MEGABYTE = 1_000_000
# identity: the length and the byte ranges are then those of the file. Zenodo refuses clients without a name.
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "asdpipe"}
# Too early, too many requests and the like: all other 4xx stay as they are.
PASSING = frozenset({408, 425, 429})

logger = logging.getLogger(__name__)


class Remote(NamedTuple):
    """A file to fetch: from where, to where, and its published MD5 if there is one."""

    url: str
    path: Path
    md5: str | None


class Digests(NamedTuple):
    """What tells one file's content from another's."""

    md5: str
    sha256: str
    size: int


class WrongChecksum(UserError):
    """A file is not what was published or recorded under its URL."""


class _Again(Exception):
    """A try that failed for a reason that may pass; wait: seconds that the server asks for."""

    def __init__(self, reason: object, wait: float | None = None) -> None:
        super().__init__(str(reason))
        self.wait = wait


class _Stopped(Exception):
    """The main thread was interrupted."""


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
    """The lock file: digests recorded at the first download of what has no published MD5, by the path of the URL.

    Raises:
        UserError: the file is not such a lock file.
    """

    def __init__(self, lock: Path) -> None:
        self.lock = lock
        self._mutex = threading.Lock()
        try:
            # Who deletes the last line leaves a comma behind.
            text = re.sub(r",\s*}\s*$", "}", lock.read_text()) if lock.exists() else "{}"
            entries = json.loads(text)
            self._entries = {key: Digests(**entry) for key, entry in entries.items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{lock}: is not a file of checksums ({error}); mend it, or delete it") from None

    def verify(self, remote: Remote, path: Path) -> Digests:
        """Compare the file at ``path`` with the published or recorded digests; record them if there are none.

        Raises:
            WrongChecksum: it is another file; it was removed.
        """
        found = digests(path)
        key = urlsplit(remote.url).path
        recorded = self._entries.get(key)
        if remote.md5 is not None and found.md5 != remote.md5:
            problem = f"MD5 is {found.md5}, but {remote.md5} was published"
            remedy = "for a mirror that packed the archives anew set download.checksums: recorded in the config"
        elif remote.md5 is None and recorded is not None and found != recorded:
            problem = f"SHA-256 is {found.sha256}, but {recorded.sha256} was recorded at the first download"
            remedy = f"if the file was rightly replaced, delete the line of {key} from {self.lock}"
        else:
            if remote.md5 is None and recorded is None:
                self._change(key, found)
            return found
        path.unlink()
        raise WrongChecksum(f"{remote.url}: {problem}; the file was removed: run again to fetch it anew; {remedy}")

    def known(self, remote: Remote) -> bool:
        """Tell whether there is something to compare with."""
        return remote.md5 is not None or urlsplit(remote.url).path in self._entries

    def forget(self, url: str) -> None:
        """Drop what was recorded of a file that turned out to be damaged."""
        self._change(urlsplit(url).path, None)

    def _change(self, key: str, entry: Digests | None) -> None:
        with self._mutex:
            self._entries.pop(key, None)
            if entry is not None:
                self._entries[key] = entry
            # A line for each file: people delete lines.
            lines = [f" {json.dumps(key)}: {json.dumps(each._asdict())}" for key, each in sorted(self._entries.items())]
            with written(self.lock) as temporary:
                temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def fetch(files: Sequence[Remote], lock: Path, connections: int = 4, attempts: int = 8) -> None:
    """Fetch the files that are not at their path yet; what is there was verified before it got its name.

    A broken download continues where it ended, also after the process was killed (``<path>.part``).

    Args:
        lock: file of recorded checksums, for files without a published one.
        connections: files at the same time.
        attempts: tries without progress until a file is given up.

    Raises:
        UserError: files cannot be had, or are not what they should be; the others were fetched.
    """
    missing = [remote for remote in files if not remote.path.exists()]
    checksums = Checksums(lock)
    if not missing:
        return
    stop = threading.Event()
    with ThreadPoolExecutor(connections) as pool:
        try:
            received = _Received(sum(pool.map(_length, missing)))
            fetcher = _Fetcher(checksums, attempts, received, stop)
            futures = [pool.submit(fetcher.run, remote) for remote in missing]
            wait(futures)
        except BaseException:
            # The pool waits for its threads, so they have to end.
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    received.progress.close()
    failures = []
    for future in futures:
        try:
            future.result()
        except UserError as error:
            failures.append(str(error))
    if failures:
        intro = (
            f"{len(failures)} of {len(missing)} files could not be fetched; run again later: what was fetched is kept"
        )
        raise UserError("\n".join([intro, *failures]))


def _length(remote: Remote) -> int:
    """Return how many bytes are left of a file, 0 if the server does not tell."""
    with suppress(requests.RequestException):
        response = requests.head(remote.url, headers=HEADERS, timeout=TIMEOUT, allow_redirects=True)
        if response.ok:
            return max(0, (_content_length(response) or 0) - _size(_part(remote.path)))
    return 0


class _Received:
    """Counts the bytes of all threads, in MB."""

    def __init__(self, total: int) -> None:
        self.progress = Progress("fetching", -(-total // MEGABYTE), "MB")
        self._bytes = 0
        self._mutex = threading.Lock()

    def add(self, number: int) -> None:
        with self._mutex:
            self._bytes += number
            whole = -(-self._bytes // MEGABYTE)
            if whole > self.progress.done:
                # More than was promised: a length was not known, or a file had to be fetched twice.
                self.progress.total = max(self.progress.total, whole)
                self.progress.advance(whole - self.progress.done)


class _Fetcher:
    """Fetches one file after the other; called by several threads."""

    def __init__(self, checksums: Checksums, attempts: int, received: _Received, stop: threading.Event) -> None:
        self.checksums, self.attempts, self.received, self.stop = checksums, attempts, received, stop

    def run(self, remote: Remote) -> None:
        part = _part(remote.path)
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            self._complete(remote, part)
            part.replace(remote.path)
            _tag(part).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{part}: cannot be written ({error.strerror})") from None
        except UserError as error:
            # At once, as the others may take hours.
            logger.warning("%s", error)
            raise

    def _complete(self, remote: Remote, part: Path) -> None:
        resumed = self._download(remote, part)
        try:
            self.checksums.verify(remote, part)
        except WrongChecksum as error:
            if not resumed:
                raise
            logger.warning("%s; it was put together from pieces, so it is fetched once more as a whole", error)
            self._download(remote, part)
            self.checksums.verify(remote, part)

    def _download(self, remote: Remote, part: Path) -> bool:
        """Try until the file is complete; return whether the last try continued an earlier one."""
        tries, most = 0, _size(part)
        while True:
            try:
                return self._transfer(remote, part)
            except _Again as error:
                size = _size(part)
                tries, most = (0, size) if size > most else (tries + 1, most)
                if tries >= self.attempts:
                    message = f"{remote.url}: {error}; given up after {tries} tries without progress"
                    raise UserError(message) from None
                delay = min(FIRST_DELAY * 2 ** max(tries - 1, 0), LONGEST_DELAY) if error.wait is None else error.wait
                logger.warning("%s: %s; trying again in %.0f s", remote.url, error, delay)
                if self.stop.wait(delay):
                    raise _Stopped from None

    def _transfer(self, remote: Remote, part: Path) -> bool:
        """Ask once for what is missing of the file; return whether there was something of it before."""
        tag = _tag(part)
        start, validator = _size(part), tag.read_text() if tag.exists() else ""
        if not validator and not self.checksums.known(remote):
            # Nothing would tell that the pieces are of two different files.
            start = 0
        headers = dict(HEADERS)
        if start:
            headers["Range"] = f"bytes={start}-"
            if validator:
                headers["If-Range"] = validator
        try:
            with requests.get(remote.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
                return self._receive(response, remote, part, start)
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
            raise _Again(f"the connection failed ({_reason(error)})") from None
        except requests.RequestException as error:
            raise UserError(f"{remote.url}: cannot be fetched ({error}); check download in the config") from None

    def _receive(self, response: requests.Response, remote: Remote, part: Path, start: int) -> bool:
        if start and response.status_code in (206, 416):
            span = response.headers.get("Content-Range", "")
            if span == f"bytes */{start}":
                return True
            if not span.startswith(f"bytes {start}-"):
                # The part is longer than the file, or the server cannot count: from the start, without a range.
                part.unlink()
                return self._transfer(remote, part)
        elif response.status_code == 200:
            start = 0
            # Before its tag changes, so that a tag never names another version's bytes.
            part.write_bytes(b"")
            _tag(part).write_text(_validator(response))
        else:
            _refuse(response, remote.url)
        length = _content_length(response)
        with part.open("ab") as file:
            # Not iter_content, which loses the last piece with the connection.
            while piece := response.raw.read1(PIECE, decode_content=True):
                file.write(piece)
                # So that it survives the process.
                file.flush()
                self.received.add(len(piece))
                if self.stop.is_set():
                    raise _Stopped
        if length is not None and _size(part) != start + length:
            raise _Again(f"{start + length} bytes were promised, {_size(part)} came")
        return start > 0


def _refuse(response: requests.Response, url: str) -> NoReturn:
    status = f"the server answers {response.status_code} {response.reason}"
    if response.status_code in PASSING or response.status_code >= 500:
        raise _Again(status, _retry_after(response))
    raise UserError(f"{url}: {status}; check the address and the mirrors (download in the config)")


def _retry_after(response: requests.Response) -> float | None:
    """Return the seconds that the server asks to wait; it may tell a date."""
    value = response.headers.get("Retry-After", "")
    with suppress(ValueError):
        seconds = float(value) if value.isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
        return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)
    return None


def _content_length(response: requests.Response) -> int | None:
    value = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    return int(value) if value.isdigit() and not encoded else None


def _validator(response: requests.Response) -> str:
    """Return what names this version of the file; a weak ETag does not name its bytes."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _reason(error: BaseException) -> str:
    """Return the innermost reason: requests and urllib3 wrap each other's."""
    inner = getattr(error, "reason", None) or next((each for each in error.args if isinstance(each, Exception)), None)
    return _reason(inner) if isinstance(inner, Exception) else str(error)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
