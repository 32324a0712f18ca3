"""Speaks to the server at WANRUN_HOST."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx

from wanrun import settings
from wanrun.errors import InvalidRequest, WanrunError

_TIMEOUT = httpx.Timeout(60, connect=5)


class Client:
    """Requests of the server; what it refuses is raised as WanrunError in its words.

    InvalidRequest means that the request itself is wrong.
    """

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def get(self, path: str, **query: str | int) -> Any:
        """The JSON at ``path``."""
        return self._send("GET", path, params=query)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON that answers ``body``."""
        return self._send("POST", path, json=body or {})

    def delete(self, path: str) -> Any:
        """The JSON that answers."""
        return self._send("DELETE", path)

    def has(self, path: str) -> bool:
        """Whether there is anything at ``path``."""
        return not self._answer("HEAD", path).is_error

    def file(self, path: str) -> bytes:
        """The bytes at ``path``."""
        answer = self._answer("GET", path)
        if answer.is_error:
            raise WanrunError(f"the server answers {answer.status_code}")
        return answer.content

    def events(self, path: str) -> Iterator[tuple[str, Any]]:
        """Name and data of the server-sent events at ``path``; they end where the connection does."""
        name = ""
        with suppress(httpx.RequestError), self._http.stream("GET", path) as answer:
            for line in answer.iter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    yield name, json.loads(value)

    def _answer(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **more)
        except httpx.RequestError as error:
            raise WanrunError(
                f"no server answers at {self._http.base_url}: run 'wanrun serve', or set WANRUN_HOST"
            ) from error

    def _send(self, method: str, path: str, **more: Any) -> Any:
        answer = self._answer(method, path, **more)
        try:
            found = answer.json()
        except ValueError:
            found = {}
        if answer.is_error:
            kind = InvalidRequest if answer.status_code == httpx.codes.BAD_REQUEST else WanrunError
            raise kind(_words(found) or f"the server answers {answer.status_code}")
        return found


@contextmanager
def connected(timeout: httpx.Timeout = _TIMEOUT) -> Iterator[Client]:
    """A client of the server that the settings name."""
    host, port = settings.address()
    key = settings.get("api_key")
    with httpx.Client(
        base_url=f"http://{_reachable(host)}:{port}",
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=timeout,
        trust_env=False,  # no proxy between two ends of one machine
    ) as http:
        yield Client(http)


def _reachable(host: str) -> str:
    """The address that a server which listens on ``host`` is asked at."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return f"[{host}]" if address.version == 6 else host


def _words(found: Any) -> str:
    error = found.get("error") if isinstance(found, dict) else None
    return str(error.get("message", "")) if isinstance(error, dict) else str(error or "")
