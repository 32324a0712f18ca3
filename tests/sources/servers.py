"""A web server on 127.0.0.1 that does what it is told, also what no server should."""

from __future__ import annotations

import hashlib
import random
import re
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_CHUNK = 1 << 17


@dataclass(frozen=True, slots=True)
class Fault:
    """What to do instead of the right thing; every field left alone is done right."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Close the connection after so many bytes of the body.
    cut: int | None = None
    #: Send nothing more after so many bytes of the body, but stay.
    stall: int | None = None
    #: Wait so many seconds after every byte.
    drip_s: float = 0
    ranges: bool = True
    #: Content-Length, if not the true one; -1 for none, with the body in chunks; -2 for neither.
    length: int | None = None
    content_range: str | None = None
    body: bytes | None = None
    etag: str | None = None


RIGHT = Fault()


@dataclass(slots=True)
class Site:
    """What a server has, what it is to do, and what it has seen. Used by its threads and by the test."""

    files: dict[str, bytes] = field(default_factory=dict)
    #: What to do on the next requests for a path, one each; then what to do always.
    next: dict[str, list[Fault]] = field(default_factory=dict)
    always: dict[str, Fault] = field(default_factory=dict)
    #: Answers a request in its own way when it returns True.
    route: Callable[[Handler], bool] = lambda handler: False
    #: Bytes of bodies sent, by path.
    sent: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    #: Set at the end, so that nobody goes on stalling.
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def headers(self, path: str) -> list[dict[str, str]]:
        """The headers of each request for ``path``, by lower-case name."""
        return [headers for asked, headers in self.requests if asked == path]

    def fault(self, path: str) -> Fault:
        with self.lock:
            queue = self.next.get(path)
            return queue.pop(0) if queue else self.always.get(path, RIGHT)


class Handler(BaseHTTPRequestHandler):
    """Serves the site that its server has."""

    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        site, path = self.site, self.path.partition("?")[0]
        with site.lock:
            site.requests.append((path, {key.lower(): value for key, value in self.headers.items()}))
        try:
            if not site.route(self):
                self.answer(path, site.fault(path))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def answer(self, path: str, fault: Fault) -> None:
        """Sends the file of ``path`` as ``fault`` has it."""
        data = self.site.files.get(path) if fault.body is None else fault.body
        if fault.status or data is None:
            self.reply(fault.status or 404, fault.headers)
            return
        etag = fault.etag or f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        start, stop = self._range(etag, len(data)) if fault.ranges else (0, -1)
        if start >= len(data) and stop >= 0:
            self.reply(416, {"Content-Range": f"bytes */{len(data)}"})
            return
        body = data[start : stop + 1] if stop >= 0 else data
        self.send_response(206 if stop >= 0 else 200)
        if etag != "none":
            self.send_header("ETag", etag)
        if stop >= 0:
            honest = f"bytes {start}-{start + len(body) - 1}/{len(data)}"
            self.send_header("Content-Range", fault.content_range or honest)
        self._finish_headers(fault, len(body))
        if self.command == "GET":
            self._send(path, body, fault)

    def reply(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> bool:
        """Sends a short answer; True, as one that has answered."""
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
        return True

    def _range(self, etag: str, size: int) -> tuple[int, int]:
        """First and last byte asked for; last is -1 when everything is."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match is None or self.headers.get("If-Range", etag) != etag:
            return 0, -1
        return int(match[1]), min(int(match[2] or size - 1), max(size - 1, 0))

    def _finish_headers(self, fault: Fault, length: int) -> None:
        for key, value in fault.headers.items():
            self.send_header(key, value)
        if fault.length is None or fault.length >= 0:
            self.send_header("Content-Length", str(length if fault.length is None else fault.length))
        elif fault.length == -1:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Connection", "close")
        self.end_headers()

    def _send(self, path: str, body: bytes, fault: Fault) -> None:
        view, at = memoryview(body), 0
        limits = [limit for limit in (fault.cut, fault.stall, len(body)) if limit is not None]
        stop = min(limits)
        step = 1 if fault.drip_s else _CHUNK
        while at < stop and not self.site.over.is_set():
            part = view[at : min(at + step, stop)]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), bytes(part)) if fault.length == -1 else part)
            at += len(part)
            with self.site.lock:
                self.site.sent[path] += len(part)
            if fault.drip_s:
                self.site.over.wait(fault.drip_s)
        if fault.stall is not None:
            self.site.over.wait(60)
        if fault.length == -1 and fault.cut is None:
            self.wfile.write(b"0\r\n\r\n")
        if fault.cut is not None or fault.length is not None:
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""


@contextmanager
def serving(files: Mapping[str, bytes] | None = None, tls: ssl.SSLContext | None = None) -> Iterator[Site]:
    """A server with ``files`` by path, over https if it is given ``tls``, until the end of the block."""
    site = Site(dict(files or {}))
    server = _Server(("127.0.0.1", 0), type("SiteHandler", (Handler,), {"site": site}))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    site.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that no two seeds have in common."""
    return random.Random(seed).randbytes(size)
