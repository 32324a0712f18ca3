"""Speaks to one repository of a registry: identifies the user, tries again, trusts no length or address.

The protocol is opencontainers/distribution-spec 1.1, spec.md.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from wanrun.errors import DownloadError, ModelNotFound
from wanrun.sources.oci.authorization import Asked, answer
from wanrun.sources.oci.challenge import parse_challenges
from wanrun.sources.oci.credentials import find_credentials
from wanrun.sources.oci.repository import Repository, may_lead, parse_url
from wanrun.sources.outside import watched
from wanrun.sources.remote import origin
from wanrun.types import Resource

#: Answers after which the same request may succeed (429 and the 5xx of overloaded servers).
RETRIED = (408, 429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 3
_TRIES = 5
_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0
_CONNECT_S, _SILENCE_S, _ANSWER_S = 10.0, 60.0, 120.0
_SMALL = 1 << 16


@dataclass(frozen=True, slots=True)
class Request:
    """What to send. ``body`` is called for every try; an upload (``tries`` 1) is repeated by its owner."""

    method: str
    url: httpx.URL
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[], Iterator[bytes]] | bytes | None = None
    #: Longest answer in bytes that is read.
    limit: int = _SMALL
    tries: int = _TRIES


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole; ``url`` is whom it came from."""

    status: int
    headers: httpx.Headers
    body: bytes
    url: httpx.URL


class Lost(DownloadError):
    """No answer, or a busy server's, as often as the request is tried; ``wait`` is what it says to wait."""

    def __init__(self, message: str, wait: str = "") -> None:
        super().__init__(message)
        self.wait = wait


class Client(Resource):
    """A connection to ``repository`` for the actions ``pull``, or ``pull,push``.

    ``mounts`` are other repositories of the registry that blobs shall be mounted from.
    """

    def __init__(self, repository: Repository, actions: str, mounts: tuple[str, ...] = ()) -> None:
        self.repository = repository
        self._scopes = [f"repository:{repository.path}:{actions}"]
        self._scopes += [f"repository:{path}:pull" for path in mounts]
        self._registry = repository.base
        self._authorization: str | None = None
        self._http = httpx.Client(
            timeout=httpx.Timeout(_SILENCE_S, connect=_CONNECT_S),
            headers={"User-Agent": "wanrun", "Accept-Encoding": "identity"},
            trust_env=self._registry.scheme == "https",  # no proxy between two ends of one machine
        )

    def close(self) -> None:
        self._http.close()

    @property
    def headers(self) -> dict[str, str]:
        """What a request to the registry itself must carry to be let in, as of the last answer."""
        return {} if self._authorization is None else {"Authorization": self._authorization}

    def owns(self, url: httpx.URL) -> bool:
        """Whether ``url`` is on the registry's own host, the only one that is shown who the user is."""
        return origin(url) == origin(self._registry)

    def follows(self, url: httpx.URL) -> bool:
        """Whether the registry may send us to ``url``: to itself, or where it may lead."""
        return self.owns(url) or may_lead(self._registry, url)

    def send(self, request: Request) -> Answer:
        """The registry's answer, whatever its status, after as many tries as ``request`` allows.

        Raises DownloadError when the user is not let in, Lost when no answer came.
        """
        return self._persist(request, self._admitted)

    def get(self, url: httpx.URL, accept: str, limit: int) -> Answer:
        """GET that follows redirects; the user's identity stays behind where one leads to another host."""
        for _ in range(_MAX_REDIRECTS + 1):
            reply = self.send(Request("GET", url, {"Accept": accept}, limit=limit))
            if reply.status not in _REDIRECTS:
                return reply
            url = self.location(reply)
        raise DownloadError(f"{self._registry.host} redirects without end")

    def location(self, reply: Answer) -> httpx.URL:
        """Where ``reply`` sends us; DownloadError unless that is the registry, or a public host by https."""
        text = reply.headers.get("location", "")
        url = parse_url(text, reply.url) if text else None
        if url is None or not self.follows(url):
            raise DownloadError(
                f"{self._registry.host} sends us to {text!r:.200}, which is neither its own host nor a "
                "public one that is spoken to over https"
            )
        return url

    def _persist(self, request: Request, once: Callable[[Request], Answer]) -> Answer:
        for attempt in range(1, request.tries + 1):
            try:
                reply = once(request)
            except httpx.HTTPError as error:
                problem, wait = f"{type(error).__name__}: {error}"[:200], ""
            else:
                if reply.status not in RETRIED:
                    return reply
                problem, wait = describe(reply), reply.headers.get("retry-after", "")
            if attempt < request.tries:
                pause(attempt, wait)
        raise Lost(f"{request.url.host} does not answer as it should ({problem}): try again later", wait)

    def _admitted(self, request: Request) -> Answer:
        reply = self._exchange(self._signed(request))
        if reply.status == 401 and self.owns(reply.url):
            self._authorize(reply)
            reply = self._exchange(self._signed(request))
        if reply.status in (401, 403):
            raise DownloadError(self._denied(reply))
        return reply

    def _signed(self, request: Request) -> Request:
        own = self.headers if self.owns(request.url) else {}
        return replace(request, headers={**request.headers, **own})

    def _exchange(self, request: Request) -> Answer:
        content = request.body() if callable(request.body) else request.body
        built = self._http.build_request(
            request.method,
            request.url,
            headers=request.headers,
            content=content,
            extensions={"trace": watched(request.url)},
        )
        reply = self._http.send(built, stream=True)
        try:
            return Answer(reply.status_code, reply.headers, _read(reply, request.limit), request.url)
        finally:
            reply.close()

    def _authorize(self, refusal: Answer) -> None:
        challenges = parse_challenges(", ".join(refusal.headers.get_list("www-authenticate")))
        credentials = find_credentials(self.repository.host)
        for challenge in sorted(challenges, key=lambda found: found.scheme != "bearer"):
            found = answer(challenge, self._registry, self._scopes, credentials, self._ask_token_server)
            if found is not None:
                self._authorization = found
                return
        raise DownloadError(self._denied(refusal))

    def _ask_token_server(self, asked: Asked) -> bytes:
        headers = {"Authorization": asked.authorization} if asked.authorization else {}
        if asked.form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        method = "GET" if asked.form is None else "POST"
        reply = self._persist(Request(method, asked.url, headers, asked.form, 1 << 20), self._exchange)
        if reply.status == 200:
            return reply.body
        raise DownloadError(
            f"{self.repository}: the token server {asked.url.host} gives no token, status {reply.status}: "
            f"{self._advice}"
        )

    @property
    def _advice(self) -> str:
        return f"check the name, or log in with 'docker login {self.repository.host}'"

    def _denied(self, reply: Answer) -> str:
        return f"{self.repository}: {describe(reply)}: {self._advice}"


def require(reply: Answer, *statuses: int, what: str) -> Answer:
    """``reply``, if its status is one of ``statuses``; ModelNotFound for 404, else DownloadError."""
    if reply.status in statuses:
        return reply
    error = ModelNotFound if reply.status == 404 else DownloadError
    raise error(f"{what}: {describe(reply)}")


def describe(reply: Answer) -> str:
    """The status and the registry's own words, if any, made harmless."""
    try:
        first: Any = json.loads(reply.body)["errors"][0]
        words = f"{first.get('code', '')}: {first.get('message', '')}"
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        words = ""
    plain = "".join(letter if letter.isprintable() else " " for letter in words)[:200].strip(" :")
    return f"status {reply.status}" + (f", {plain}" if plain else "")


def _read(reply: httpx.Response, limit: int) -> bytes:
    """The body, if no longer than ``limit`` and in time; never unpacked, so no bomb goes off here."""
    if reply.request.method == "HEAD":
        return b""
    if reply.headers.get("content-encoding", "identity").lower() != "identity":
        raise DownloadError(f"{reply.url.host} sends compressed bytes that were not asked for")
    data, end = bytearray(), time.monotonic() + _ANSWER_S
    for chunk in reply.iter_raw():
        data += chunk
        if len(data) > limit or time.monotonic() > end:
            raise DownloadError(
                f"{reply.url.host} sends an answer of more than {limit} bytes, or for over {_ANSWER_S:.0f} s"
            )
    return bytes(data)


def pause(attempt: int, asked: str = "") -> None:
    """Waits as long as the server asks for, within reason, or else twice as long after every try."""
    if asked.isascii() and asked.isdecimal() and len(asked) < 10:
        seconds = float(asked)
    else:
        seconds = _PAUSE_S * 2.0 ** (attempt - 1) * random.uniform(0.75, 1.25)
    time.sleep(min(seconds, _LONGEST_PAUSE_S))
