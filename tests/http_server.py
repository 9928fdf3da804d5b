"""A local HTTP server for tests that serves a folder and misbehaves on request.

with serve(folder, drop_after=1000) as server:
    fetch(f"{server.url}/records/1/files/a.zip")
    server.drop_after = None            # every switch may be changed while it runs
    assert server.gets("/records/1/files/a.zip") == 1
"""

import hashlib
import math
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

PIECE = 8192


class Request(NamedTuple):
    """A request as it came in."""

    method: str
    path: str
    range: str | None


@dataclass
class Server:
    """Switches, and what was asked for and sent so far."""

    folder: Path
    url: str = ""
    ranges: bool = True
    """Answer Range with 206 (and 416); else ignore it, as some servers do."""
    etags: bool = True
    """Send a strong ETag, the MD5 of the content; If-Range is compared with it."""
    drop_after: int | None = None
    """Drop the connection after so many bytes of a body that is longer."""
    drops: int | None = None
    """How often that happens in all; None: always."""
    failures: int = 0
    """Answer 503 to so many GETs of each path before it is served."""
    retry_after: str | None = None
    """Retry-After of the 503."""
    bytes_per_second: float = math.inf
    """Speed of each body, in pieces of 8 KiB."""
    extra_length: int = 0
    """Added to the true Content-Length: a lie."""
    requests: list[Request] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    """Bytes of bodies by path."""
    dropped: int = 0
    most_at_once: int = 0
    """Largest number of GETs that were answered at the same time."""

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.active: set[object] = set()

    def gets(self, path: str | None = None) -> int:
        """Return the number of GET requests, of one path or in all."""
        return sum(each.method == "GET" and path in (None, each.path) for each in self.requests)

    @property
    def bytes_sent(self) -> int:
        """Bytes of all bodies."""
        with self.lock:
            return sum(self.sent.values())

    def paths(self) -> set[str]:
        """Return the paths that were asked for."""
        return {each.path for each in self.requests}


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            with server.lock:
                server.active.add(self)
                server.most_at_once = max(server.most_at_once, len(server.active))
            try:
                self.answer(body=True)
            except OSError:
                pass  # The client went away.
            finally:
                with server.lock:
                    server.active.discard(self)

        def answer(self, body: bool) -> None:
            asked = self.headers.get("Range")
            with server.lock:
                server.requests.append(Request(self.command, self.path, asked))
                busy = body and server.gets(self.path) <= server.failures
            file = server.folder / self.path.lstrip("/")
            if busy:
                return self.head(503, 0, {"Retry-After": server.retry_after})
            if not file.is_file():
                return self.head(404, 0)
            content = file.read_bytes()
            tag = f'"{hashlib.md5(content).hexdigest()}"' if server.etags else None
            start = 0
            if asked and server.ranges and self.headers.get("If-Range") in (None, tag):
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
                if start >= len(content):
                    return self.head(416, 0, {"Content-Range": f"bytes */{len(content)}"})
            length = len(content) - start + server.extra_length
            if start:
                span = f"bytes {start}-{len(content) - 1}/{len(content)}"
                self.head(206, length, {"ETag": tag, "Content-Range": span})
            else:
                self.head(200, length, {"ETag": tag})
            return self.body(content[start:]) if body else None

        def head(self, status: int, length: int, headers: dict[str, str | None] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(length)}.items():
                if value is not None:
                    self.send_header(name, value)
            self.end_headers()

        def body(self, content: bytes) -> None:
            end = len(content)
            with server.lock:
                if server.drop_after is not None and end > server.drop_after and server.dropped != server.drops:
                    end = server.drop_after
                    server.dropped += 1
            for at in range(0, end, PIECE):
                piece = content[at : min(at + PIECE, end)]
                time.sleep(len(piece) / server.bytes_per_second)
                # Noted before the client has it: then the test may go on while this thread waits for its turn.
                with server.lock:
                    server.sent[self.path] += len(piece)
                    if at + PIECE >= end:
                        server.active.discard(self)
                self.wfile.write(piece)
            if end < len(content):
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def serve(folder: Path, **switches: object) -> Iterator[Server]:
    """Serve a folder at ``server.url`` (http://127.0.0.1:PORT) until the block ends; switches: fields of Server."""
    state = Server(folder, **switches)  # type: ignore[arg-type]
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    httpd.daemon_threads = True
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
