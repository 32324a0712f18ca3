"""Servers on this machine: the registry of the Debian package, a registry that lies, a line that is cut."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from wanrun.store.manifests import MANIFEST_TYPE

#: bcrypt of "s3cret", by htpasswd -nbB -C 4.
HTPASSWD = "ann:$2y$04$7oUWsiYcmG3jpXQb3JkkcOOpy56GdNoyZmyL3e0GCQioeQpnEfuE2\n"
CONFIG = """version: 0.1
log: {{level: error, accesslog: {{disabled: false}}}}
storage:
  filesystem: {{rootdirectory: {folder}/data}}
http: {{addr: 127.0.0.1:{port}}}
"""
AUTH = "auth: {{htpasswd: {{realm: tests, path: {folder}/htpasswd}}}}\n"


def program(name: str) -> str:
    """The path of a program that the tests cannot do without."""
    path = shutil.which(name)
    if path is None:
        pytest.fail(f"{name} is missing: apt-get install docker-registry skopeo")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Registry:
    """A docker-registry that runs."""

    port: int
    folder: Path

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def requests(self) -> list[str]:
        """Every request so far, as ``METHOD /path status``, from its own log."""
        lines = (self.folder / "log").read_text().splitlines()
        found = [line.split('"') for line in lines if " HTTP/1." in line and line.count('"') > 2]
        return [f"{parts[1].rpartition(' ')[0]} {parts[2].split()[0]}" for parts in found]


@contextmanager
def registry(folder: Path, auth: bool = False) -> Iterator[Registry]:
    """Starts the registry of the Debian package with its data in ``folder``."""
    port = free_port()
    folder.mkdir(parents=True)
    (folder / "htpasswd").write_text(HTPASSWD)
    (folder / "config.yml").write_text((CONFIG + AUTH * auth).format(folder=folder, port=port))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program("docker-registry"), "serve", str(folder / "config.yml")], stdout=log, stderr=log
        )
        try:
            wait_for(port, process)
            yield Registry(port, folder)
        finally:
            process.kill()
            process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, "docker-registry does not start: see its log"
        time.sleep(0.05)
    pytest.fail("docker-registry did not answer within 30 s")


@dataclass(slots=True)
class Exchange:
    """A request, and the means to answer it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    handler: BaseHTTPRequestHandler = field(repr=False)

    def reply(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        if self.method != "HEAD":
            self.handler.wfile.write(body)


Answering = Callable[[Exchange], object]


@dataclass(slots=True)
class Fake:
    """A server that answers as ``answer`` says and remembers what it was asked."""

    port: int
    answer: Answering
    seen: list[Exchange] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def asked(self, method: str) -> list[str]:
        return [exchange.path for exchange in self.seen if exchange.method == method]


@contextmanager
def fake(answer: Answering) -> Iterator[Fake]:
    """A threaded server on this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            with contextlib.suppress(OSError):
                super().handle_one_request()

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            exchange = Exchange(self.command, self.path, headers, body, self)
            state.seen.append(exchange)
            state.answer(exchange)

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state = Fake(server.server_address[1], answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def serving(manifest: bytes, blobs: dict[str, bytes]) -> Answering:
    """A registry of one manifest under every tag; ``blobs`` are by what stands in the URL."""

    def answer(exchange: Exchange) -> None:
        kind, _, last = exchange.path.rpartition("/")
        if kind.endswith("/manifests"):
            digest = "sha256:" + hashlib.sha256(manifest).hexdigest()
            exchange.reply(200, {"Content-Type": MANIFEST_TYPE, "Docker-Content-Digest": digest}, manifest)
        elif kind.endswith("/blobs") and last in blobs:
            send_range(exchange, blobs[last])
        else:
            exchange.reply(404, {}, b'{"errors": [{"code": "BLOB_UNKNOWN", "message": "blob unknown"}]}')

    return answer


def send_range(exchange: Exchange, data: bytes) -> None:
    """The bytes that a Range header asks for."""
    asked = exchange.headers.get("range")
    if asked is None:
        exchange.reply(200, {}, data)
        return
    first, last = asked.removeprefix("bytes=").split("-")
    end = min(int(last or len(data)), len(data) - 1)
    place = {"Content-Range": f"bytes {first}-{end}/{len(data)}"}
    exchange.reply(206, place, data[int(first) : end + 1])


@contextmanager
def cut_line(target: int, allowances: list[int]) -> Iterator[int]:
    """A port that leads to ``target``; the n-th connection is cut after ``allowances[n]`` bytes were sent.

    Connections after the last of ``allowances`` are not cut.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    left = iter(allowances)

    def carry(source: socket.socket, sink: socket.socket, allowed: float) -> None:
        with contextlib.suppress(OSError):
            while allowed > 0 and (data := source.recv(min(65536, int(min(allowed, 65536))))):
                sink.sendall(data)
                allowed -= len(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", target))
                allowed = next(left, float("inf"))
                ends = [
                    threading.Thread(target=carry, args=(near, far, allowed), daemon=True),
                    threading.Thread(target=carry, args=(far, near, float("inf")), daemon=True),
                ]
                for end in ends:
                    end.start()
                threading.Thread(target=_close_after, args=(ends, near, far), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def _close_after(ends: list[threading.Thread], *sockets: socket.socket) -> None:
    for end in ends:
        end.join()
    for one in sockets:
        one.close()
