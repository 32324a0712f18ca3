"""Asks for a range of a remote file, and believes an answer only after checking it.

Headers such as a token go to the host they were meant for only. An answer in a content coding is refused, so
nothing is ever unpacked. Rules of ranges: RFC 9110, section 14.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

import wanrun
from wanrun.errors import DownloadError
from wanrun.sources.outside import Trace, watched
from wanrun.sources.remote import Refused, Remote, origin, redirected

_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"wanrun/{wanrun.__version__}"}
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_NUMBER = re.compile(r"[0-9]{1,18}")
_WHAT_TO_DO = {
    401: "; it asks for a login: for hf.co set HF_TOKEN or run 'hf auth login'",
    403: "; the file is not open to everybody: accept its terms on its page and give a token for it",
    404: "; there is no such file: check the name",
    410: "; the file is gone",
}


class Passing(Exception):
    """A failure that may be over the next time; ``after_s`` is how long the server wants to be left alone."""

    def __init__(self, reason: str, after_s: float = 0) -> None:
        super().__init__(reason)
        self.after_s = after_s


class Changed(Exception):
    """The server's file is not the one that the bytes so far are from, or cannot be told to be."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response whose headers are sound; its body is bytes ``start`` up to ``stop``, None for until it ends.

    ``total`` is the whole file's length where the server says it; ``validator`` tells its versions apart.
    """

    response: httpx.Response
    start: int
    stop: int | None
    total: int | None
    validator: str


@dataclass(slots=True)
class Line:
    """A worker's way to the server, which others may cut; ``gained`` counts bytes since ``since``."""

    client: httpx.Client
    gained: int = 0
    since: float = 0
    busy: bool = False
    closed: bool = False
    _writing: threading.Lock = field(default_factory=threading.Lock)
    _sockets: list[socket.socket] = field(default_factory=list)

    def write(self, descriptor: int, data: bytes, offset: int) -> bool:
        """Writes bytes that have come, unless the line was closed; returns whether it did. Raises OSError."""
        with self._writing:
            if self.closed:
                return False
            rest = memoryview(data)
            while rest:
                written = os.pwrite(descriptor, rest, offset)
                rest, offset = rest[written:], offset + written
        self.gained += len(data)
        return True

    def close(self) -> None:
        """Sees to it that nothing is written any more, and that whoever waits stops waiting."""
        with self._writing:
            self.closed = True
        self.cut()

    def trace(self, event: str, details: Mapping[str, Any]) -> None:
        """Learns of the sockets that the client opens (the "trace" extension of httpcore)."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            opened = details["return_value"].get_extra_info("socket")
            self._sockets = [known for known in self._sockets if known.fileno() >= 0] + [opened]
            if self.closed:
                self.cut()

    def cut(self) -> None:
        """Makes whatever waits on this line fail now."""
        for opened in list(self._sockets):
            try:
                # Not SSLSocket.shutdown, which takes the encryption away under the reader.
                socket.socket.shutdown(opened, socket.SHUT_RDWR)
            except OSError:
                continue  # closed already

    def watch(self, now: float, stall_s: float, slowest: int) -> None:
        """Cuts the line when it brought fewer than ``slowest`` bytes a second for ``stall_s``."""
        if self.busy and now - self.since >= stall_s:
            if self.gained < slowest * stall_s:
                self.cut()
            self.gained, self.since = 0, now


@contextmanager
def ask(
    line: Line, remote: Remote, wanted: tuple[int, int] | None, validator: str, redirects: int
) -> Iterator[Answer]:
    """The answer to a request for bytes ``wanted[0]`` up to ``wanted[1]``, or for the whole file.

    ``validator`` is that of the bytes so far. Raises Passing, Changed, Refused or DownloadError.
    """
    asked = {}
    if wanted is not None:
        asked["Range"] = f"bytes={wanted[0]}-{wanted[1] - 1}"
        if validator and wanted[0] and remote.digest is None:
            asked["If-Range"] = validator
    line.gained, line.since, line.busy = 0, time.monotonic(), True
    try:
        response = _send(line, remote, asked, redirects)
        try:
            yield _checked(response, remote, wanted, validator)
        finally:
            response.close()
    except httpx.TimeoutException as error:
        raise Passing("no answer in time") from error
    except httpx.ConnectError as error:
        raise Passing(f"no connection to its host ({error})"[:300]) from error
    except httpx.TransportError as error:  # whose text may hold headers
        raise Passing(f"the connection failed ({type(error).__name__})") from error
    except (httpx.InvalidURL, UnicodeError) as error:
        raise DownloadError(f"cannot download {remote.label}: its host has no valid name") from error
    finally:
        line.busy = False


def _send(line: Line, remote: Remote, asked: dict[str, str], redirects: int) -> httpx.Response:
    url, headers = httpx.URL(remote.url), dict(remote.headers)
    for _ in range(redirects + 1):
        request = line.client.build_request(
            "GET", url, headers={**_HEADERS, **headers, **asked}, extensions={"trace": _both(line, url)}
        )
        response = line.client.send(request, stream=True)
        if response.status_code not in (301, 302, 303, 307, 308):
            return response
        response.close()
        target = redirected(url, response.headers.get("Location", ""), remote)
        if origin(target) != origin(url):
            headers = {}
        url = target
    raise DownloadError(f"cannot download {remote.label}: more than {redirects} redirects")


def _both(line: Line, url: httpx.URL) -> Trace:
    """The line learns of its sockets, and no request goes where it must not."""
    watch = watched(url)

    def trace(event: str, details: Mapping[str, Any]) -> None:
        watch(event, details)
        line.trace(event, details)

    return trace


def _checked(
    response: httpx.Response, remote: Remote, wanted: tuple[int, int] | None, validator: str
) -> Answer:
    start = wanted[0] if wanted is not None else 0
    if response.status_code == 416:
        if start or response.headers.get("Content-Range") != "bytes */0":
            raise Changed("it has become shorter")
        return Answer(response, 0, 0, 0, "")
    _check_status(response, remote)
    stop, total = _extent(response, wanted)
    if remote.size is not None and total not in (None, remote.size):
        raise DownloadError(
            f"cannot download {remote.label}: {response.url.host} has {total} bytes of it, "
            f"but it must have {remote.size}"
        )
    found = _validator(response)
    if response.status_code == 200 and start:
        raise Changed("the server sends it from the start only")
    if remote.digest is None and validator and validator != found:
        raise Changed("it was replaced by another version")
    return Answer(response, start, stop, total, found)


def _extent(response: httpx.Response, wanted: tuple[int, int] | None) -> tuple[int | None, int | None]:
    """Where the body stops and how long the whole file is, as the headers say."""
    length = response.headers.get("Content-Length", "")
    if response.status_code == 200:
        stop = int(length) if _NUMBER.fullmatch(length) else None
        return stop, stop
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None or wanted is None or int(match[1]) != wanted[0]:
        raise Passing("the server sends another range than the one asked for")
    stop, total = int(match[2]) + 1, None if match[3] == "*" else int(match[3])
    sound = wanted[0] < stop <= wanted[1] and (total is None or stop <= total)
    if not sound or length not in ("", str(stop - wanted[0])):
        raise Passing("the server's lengths contradict each other")
    return stop, total


def _check_status(response: httpx.Response, remote: Remote) -> None:
    status, host = response.status_code, response.url.host
    if status in (408, 425, 429) or status >= 500:
        raise Passing(f"{host} answered {status}", _retry_after(response))
    if status not in (200, 206):
        todo = _WHAT_TO_DO.get(status, "")
        raise Refused(status, f"cannot download {remote.label}: {host} answered {status}{todo}")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise DownloadError(
            f"cannot download {remote.label}: {host} sends it compressed, "
            "so its length and digest cannot be checked"
        )


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the Retry-After header asks for (RFC 9110, section 10.2.3), 0 without a sound one."""
    text = response.headers.get("Retry-After", "").strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    try:
        when = parsedate_to_datetime(text)
        return max(0.0, when.replace(tzinfo=when.tzinfo or UTC).timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0


def _validator(response: httpx.Response) -> str:
    """A strong ETag, else the time of change, else nothing."""
    tag = str(response.headers.get("ETag", ""))
    return tag if tag.startswith('"') else str(response.headers.get("Last-Modified", ""))
