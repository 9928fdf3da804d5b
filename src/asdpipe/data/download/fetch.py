"""Downloads over HTTP: several at a time, resumed after an interruption, renamed only once verified.

urllib3's Retry does not resume within a body, and nothing interrupts its sleeps; so retries are made here.
"""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import requests
import urllib3
from urllib3.exceptions import InvalidHeader

from asdpipe.data.download.checksums import Checksums, Remote, WrongChecksum
from asdpipe.errors import UserError
from asdpipe.progress import Progress

# Seconds before the first retry and, after doubling, at most; and at most as long as the server asks.
FIRST_DELAY = 1.0
LONGEST_DELAY = 60.0
LONGEST_RETRY_AFTER = 600
# Seconds to connect, and between two pieces of the body.
TIMEOUT = (15.0, 60.0)
PIECE = 1 << 16
MEGABYTE = 1_000_000
# identity: lengths and byte ranges are then those of the file. Zenodo refuses clients without a user agent.
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "asdpipe"}
# Request timeout, too early, too many requests: the only client errors (4xx) worth a retry.
TEMPORARY = frozenset({408, 425, 429})

logger = logging.getLogger(__name__)


class _Again(Exception):
    """A try failed for a reason that may be temporary; wait: seconds that the server asks for."""

    def __init__(self, reason: object, wait: float | None = None) -> None:
        super().__init__(str(reason))
        self.wait = wait


class _Stopped(Exception):
    """The main thread was interrupted."""


def fetch(files: Sequence[Remote], lock: Path, connections: int = 4, attempts: int = 8) -> None:
    """Download the files that are missing, and verify them.

    An interrupted download is resumed from ``<path>.part``, also after the process was killed.

    Args:
        lock: file of recorded checksums, for files without a published one.
        connections: number of simultaneous downloads.
        attempts: tries without progress before a file is given up.

    Raises:
        UserError: files cannot be downloaded, or have a wrong checksum; the others were downloaded.
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
            # Leaving the block joins the threads, so stop them.
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
    """Return how many bytes of a file are left to download, 0 if the server does not tell."""
    with suppress(requests.RequestException):
        response = requests.head(remote.url, headers=HEADERS, timeout=TIMEOUT, allow_redirects=True)
        if response.ok:
            return max(0, (_content_length(response) or 0) - _size(_part(remote.path)))
    return 0


class _Received:
    """Progress of all threads together, in MB."""

    def __init__(self, total: int) -> None:
        self.progress = Progress("fetching", -(-total // MEGABYTE), "MB")
        self._bytes = 0
        self._mutex = threading.Lock()

    def add(self, number: int) -> None:
        with self._mutex:
            self._bytes += number
            whole = -(-self._bytes // MEGABYTE)
            if whole > self.progress.done:
                # More than expected: a length was unknown, or a file was downloaded twice.
                self.progress.total = max(self.progress.total, whole)
                self.progress.advance(whole - self.progress.done)


class _Fetcher:
    """Downloads one file per call; shared by several threads."""

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
            # Log it now, as the other files may take hours.
            logger.warning("%s", error)
            raise

    def _complete(self, remote: Remote, part: Path) -> None:
        resumed = self._download(remote, part)
        try:
            self.checksums.verify(remote, part)
        except WrongChecksum as error:
            if not resumed:
                raise
            logger.warning("%s; it was resumed, so it is fetched once more from the start", error)
            self._download(remote, part)
            self.checksums.verify(remote, part)

    def _download(self, remote: Remote, part: Path) -> bool:
        """Try until the file is complete; return whether the last try resumed an earlier one."""
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
        """Request the missing bytes once; return whether this resumed an earlier try."""
        tag = _tag(part)
        start, validator = _size(part), tag.read_text() if tag.exists() else ""
        if not validator and not self.checksums.known(remote):
            # Nothing would detect that the file changed between two tries.
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
                # The part is longer than the file, or the server answered another range: start over without a range.
                part.unlink()
                return self._transfer(remote, part)
        elif response.status_code == 200:
            start = 0
            # Empty the part before its tag changes, so that a tag never belongs to another version's bytes.
            part.write_bytes(b"")
            _tag(part).write_text(_validator(response))
        else:
            _refuse(response, remote.url)
        length = _content_length(response)
        with part.open("ab") as file:
            # Not iter_content, which drops the last piece when the connection breaks.
            while piece := response.raw.read1(PIECE, decode_content=True):
                file.write(piece)
                # What is flushed survives a kill.
                file.flush()
                self.received.add(len(piece))
                if self.stop.is_set():
                    raise _Stopped
        if length is not None and _size(part) != start + length:
            raise _Again(f"{start + length} bytes were promised, {_size(part)} came")
        return start > 0


def _refuse(response: requests.Response, url: str) -> NoReturn:
    """Raise the error of a status: _Again if it may be temporary."""
    status = f"the server answers {response.status_code} {response.reason}"
    if response.status_code in TEMPORARY or response.status_code >= 500:
        raise _Again(status, _retry_after(response))
    raise UserError(f"{url}: {status}; check the address and the mirrors (download in the config)")


def _retry_after(response: requests.Response) -> float | None:
    """Return how many seconds the server asks to wait, None if it does not tell."""
    try:
        seconds = urllib3.Retry().get_retry_after(response.raw)
    except InvalidHeader:
        return None
    return None if seconds is None else min(seconds, LONGEST_RETRY_AFTER)


def _content_length(response: requests.Response) -> int | None:
    value = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    return int(value) if value.isdigit() and not encoded else None


def _validator(response: requests.Response) -> str:
    """Return what identifies this version of the file byte by byte, which a weak ETag does not."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _reason(error: BaseException) -> str:
    """Return the innermost reason, as requests and urllib3 wrap exceptions in each other."""
    wrapped = (cause for cause in (getattr(error, "reason", None), *error.args) if isinstance(cause, Exception))
    inner = next(wrapped, None)
    return str(error) if inner is None else _reason(inner)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
