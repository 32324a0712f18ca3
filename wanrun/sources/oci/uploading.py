"""Sends one blob to a registry: in one piece when it is small, else in chunks that survive a lost connection.

opencontainers/distribution-spec, spec.md, "Pushing blobs". Every answer names the URL for the next request
and says how much has arrived; after a failure the registry is asked for both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from wanrun.errors import DownloadError, StoreError
from wanrun.sources.oci import sessions
from wanrun.sources.oci.client import Answer, Client, Lost, Request, describe, pause, require
from wanrun.store.digest import Digest
from wanrun.types import Progress

CHUNK = 32 << 20
_MAX_CHUNK = 1 << 30
_READ = 1 << 20
_FAILURES = 5
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,16})")
_BYTES = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True, slots=True)
class Blob:
    """A file of the store that is to be sent."""

    path: Path
    digest: Digest
    size: int
    title: str


@dataclass(frozen=True, slots=True)
class Session:
    """An upload under way: where the next bytes go, how many are there, how many to send at least."""

    url: httpx.URL
    offset: int
    chunk: int


def is_there(client: Client, url: httpx.URL) -> bool:
    """Whether the registry has the blob at ``url``."""
    status = client.send(Request("HEAD", url)).status
    return status == 200 or 300 <= status < 400


def begin(client: Client, query: dict[str, str] | None = None) -> Session | None:
    """A new upload; None when ``query`` asks for a mount and the registry has made it."""
    url = client.repository.uploads().copy_merge_params(query or {})
    reply = client.send(Request("POST", url, {"Content-Length": "0"}))
    require(reply, *((201, 202) if query else (202,)), what=f"{client.repository}: an upload is refused")
    if reply.status == 201:
        return None
    least = reply.headers.get("oci-chunk-min-length", "")
    chunk = int(least) if least.isascii() and least.isdecimal() and len(least) < 16 else 0
    if chunk > _MAX_CHUNK:
        raise DownloadError(f"{client.repository}: the registry wants chunks of {chunk} bytes")
    return Session(client.location(reply), 0, max(chunk, CHUNK))


def upload(client: Client, blob: Blob, session: Session, record: Path, progress: Progress) -> None:
    """Sends what the registry does not have yet of ``blob``; ``record`` keeps the upload's URL meanwhile.

    Raises Lost after failures in a row without a step forward, DownloadError when the registry refuses.
    """
    known: Session | None = session
    failures, furthest = 0, -1
    while True:
        try:
            known = begin(client) if known is None else known
            assert known is not None  # no mount was asked for
            if known.offset == blob.size or blob.size <= known.chunk:
                _finish(client, blob, known, progress)
                sessions.forget(record)
                return
            sessions.save(record, known.url)
            known = _send_chunk(client, blob, known, progress)
        except Lost as error:
            if is_there(client, client.repository.blob(blob.digest)):
                sessions.forget(record)
                return
            advanced = known is not None and known.offset > furthest
            failures = 1 if advanced else failures + 1
            furthest = max(furthest, known.offset if known is not None else -1)
            if failures >= _FAILURES:
                raise
            pause(failures, error.wait)
            known = None if known is None else resume(client, known, blob.size)


def resume(client: Client, session: Session, size: int) -> Session | None:
    """The session as the registry knows it; None when it has forgotten it."""
    if not client.follows(session.url):
        return None
    reply = client.send(Request("GET", session.url))
    if reply.status != 204:
        return None
    offset = _arrived(reply, 0)
    url = client.location(reply) if "location" in reply.headers else session.url
    return Session(url, offset, session.chunk) if offset <= size else None


def _send_chunk(client: Client, blob: Blob, session: Session, progress: Progress) -> Session:
    end = min(session.offset + session.chunk, blob.size)
    headers = {"Content-Range": f"{session.offset}-{end - 1}"}
    reply = client.send(_request("PATCH", session.url, headers, _Slice(blob, session.offset, end, progress)))
    if reply.status in (400, 404, 416):
        raise Lost(f"{client.repository}: {blob.title}: the registry lost count ({describe(reply)})")
    require(reply, 202, what=f"{client.repository}: {blob.title} is refused")
    arrived = _arrived(reply, end)
    url = client.location(reply) if "location" in reply.headers else session.url
    if not session.offset < arrived <= end:
        raise Lost(f"{client.repository}: {blob.title}: the registry says that {arrived} bytes arrived")
    return Session(url, arrived, session.chunk)


def _finish(client: Client, blob: Blob, session: Session, progress: Progress) -> None:
    url = session.url.copy_merge_params({"digest": str(blob.digest)})
    reply = client.send(_request("PUT", url, {}, _Slice(blob, session.offset, blob.size, progress)))
    if reply.status == 404 or (reply.status in (400, 416) and session.offset):
        raise Lost(f"{client.repository}: {blob.title}: the registry lost the upload ({describe(reply)})")
    require(reply, 201, 204, what=f"{client.repository}: {blob.title} is refused")
    progress(f"pushing {blob.title}", blob.size, blob.size)


def _arrived(reply: Answer, otherwise: int) -> int:
    """How many bytes the registry has; ``0-0`` is what an empty upload is said to hold."""
    match = _RANGE.fullmatch(reply.headers.get("range", ""))
    if match is None:
        return otherwise
    return int(match[1]) + 1 if int(match[1]) else 0


def _request(method: str, url: httpx.URL, headers: dict[str, str], piece: _Slice) -> Request:
    length = {"Content-Length": str(piece.end - piece.start)}
    return Request(method, url, {**_BYTES, **length, **headers}, piece.read, tries=1)


@dataclass(frozen=True, slots=True)
class _Slice:
    """The bytes of ``blob`` from ``start`` to ``end``, which can be read again for another try."""

    blob: Blob
    start: int
    end: int
    progress: Progress

    def read(self) -> Iterator[bytes]:
        descriptor = os.open(self.blob.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            place = self.start
            while place < self.end:
                data = os.pread(descriptor, min(_READ, self.end - place), place)
                if not data:
                    raise StoreError(f"blob {self.blob.digest} is cut; create the model again or rm it")
                yield data
                place += len(data)
                self.progress(f"pushing {self.blob.title}", place, self.blob.size)
        finally:
            os.close(descriptor)
