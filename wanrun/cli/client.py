"""Speaks to the server at WANRUN_HOST."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from wanrun import settings
from wanrun.errors import InvalidRequest, WanrunError
from wanrun.store.durable import publish, store_errors, temporary, write_all

_TIMEOUT = httpx.Timeout(60, connect=5)
#: For a server that measures its machine first.
_PATIENT = httpx.Timeout(1800, connect=5)


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

    def save(self, path: str, file: Path) -> None:
        """Write the bytes at ``path`` to ``file``, all of them or none."""
        with (
            store_errors(f"could not write {file}"),
            temporary(file.parent) as (descriptor, partial),
            self._stream("GET", path) as answer,
        ):
            for chunk in answer.iter_bytes():
                write_all(descriptor, chunk)
            publish(descriptor, partial, file)

    def lines(self, path: str, body: dict[str, Any]) -> Iterator[Any]:
        """The lines of JSON that answer ``body``, however long they take."""
        with self._stream("POST", path, json=body, timeout=_PATIENT) as answer:
            for line in answer.iter_lines():
                found = json.loads(line)
                if isinstance(found, dict) and "error" in found:
                    raise WanrunError(_words(found))
                yield found

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

    @contextmanager
    def _stream(self, method: str, path: str, **more: Any) -> Iterator[httpx.Response]:
        with self._reached(), self._http.stream(method, path, **more) as answer:
            if answer.is_error:
                answer.read()
                raise _refusal(answer)
            yield answer

    def _answer(self, method: str, path: str, **more: Any) -> httpx.Response:
        with self._reached():
            return self._http.request(method, path, **more)

    def _send(self, method: str, path: str, **more: Any) -> Any:
        answer = self._answer(method, path, **more)
        if answer.is_error:
            raise _refusal(answer)
        try:
            return answer.json()
        except ValueError:
            return {}

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise WanrunError(f"what answers at {self._http.base_url} is no wanrun server") from error
        except httpx.RequestError as error:
            raise WanrunError(
                f"no server answers at {self._http.base_url}: run 'wanrun serve', or set WANRUN_HOST"
            ) from error


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


def _refusal(answer: httpx.Response) -> WanrunError:
    """What an answer that is an error says."""
    try:
        said = _words(answer.json())
    except ValueError:
        said = ""
    kind = InvalidRequest if answer.status_code == httpx.codes.BAD_REQUEST else WanrunError
    return kind(said or f"the server answers {answer.status_code}")


def _words(found: Any) -> str:
    error = found.get("error") if isinstance(found, dict) else None
    return str(error.get("message", "")) if isinstance(error, dict) else str(error or "")
