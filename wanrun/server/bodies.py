"""What may be in a request's body: pure ASGI middleware that bounds it, and checks JSON before it is read.

Below ``/api`` every body is JSON whatever its type says, as Ollama has it: ``curl -d`` says it is a form.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from contextlib import suppress
from typing import Any, NoReturn

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wanrun.server.failures import failure

_LARGE, _SMALL = 64 << 20, 4 << 20
#: Where pictures may be sent along.
_PICTURES = ("/api/generate", "/v1/")
#: No route takes another method's body.
_WITH_BODY = ("POST", "DELETE")
_DEPTH, _DIGITS = 64, 300
#: A client that sends nothing for this long has gone, or wants to keep the server busy.
_SILENCE_S = 60.0
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Bodies:
    """Answers 400, 408 or 413 for a body that no route can use."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in _WITH_BODY:
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        limit = None if path.startswith("/api/blobs/") else _LARGE if path.startswith(_PICTURES) else _SMALL
        bounded = _bounded(receive, Headers(scope=scope), limit)
        if limit is None or not _is_json(scope):
            await self._app(scope, bounded, send)
            return
        try:
            body = await _whole(bounded)
            if body or path.startswith("/api/"):
                await asyncio.to_thread(check, body)
        except HTTPException as error:
            if error.status_code == 413 and _announced(Headers(scope=scope)) <= 2 * limit:
                await _drain(receive, limit)
            await failure(path, error.status_code, error.detail, {"Connection": "close"})(
                scope, receive, send
            )
        except ValueError as error:
            await failure(path, 400, str(error)[:300])(scope, receive, send)
        else:
            MutableHeaders(scope=scope)["content-type"] = "application/json"
            await self._app(scope, _replayed(body, receive), send)


def check(body: bytes) -> None:
    """Raises ValueError unless ``body`` is JSON of finite numbers and Unicode, and not nested without end."""
    if not body.strip():
        raise ValueError("missing request body")
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", body)):
        depth += 1 if bracket in b"[{" else -1
        if depth > _DEPTH:
            raise ValueError(f"JSON may be nested {_DEPTH} deep at most")
    found = json.loads(body.decode(), parse_constant=_no_constant, parse_float=_finite, parse_int=_short)
    if not isinstance(found, dict):
        raise ValueError("the request body must be a JSON object")
    if _SURROGATE.search(body):
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("the text has half of a surrogate pair, which is no Unicode") from error


def _is_json(scope: Scope) -> bool:
    kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    return scope["path"].startswith("/api/") or kind == "application/json" or kind.endswith("+json")


def _bounded(receive: Receive, headers: Headers, limit: int | None) -> Receive:
    """``receive`` that raises HTTPException for more than ``limit`` bytes of a body, and for silence."""
    read, over = 0, False
    expected = _announced(headers)

    async def bounded() -> Message:
        nonlocal read, over
        if limit is not None and max(read, expected) > limit:
            raise HTTPException(413, f"the request body may have {limit} bytes at most")
        try:
            async with asyncio.timeout(None if over else _SILENCE_S):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, "the request body does not come") from None
        read += len(message.get("body", b""))
        over = not message.get("more_body", False)
        if limit is not None and read > limit:
            raise HTTPException(413, f"the request body may have {limit} bytes at most")
        return message

    return bounded


def _announced(headers: Headers) -> int:
    """Bytes that the body is said to have, 0 where nothing is said."""
    text = headers.get("content-length", "")
    return int(text[:20]) if text.isdecimal() else 0


async def _drain(receive: Receive, most: int) -> None:
    """Let a client that sends a little too much come to its end: it reads no answer before."""
    left, more = most, True
    with suppress(TimeoutError):
        async with asyncio.timeout(_SILENCE_S):
            while more and left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                more = message.get("more_body", False)


async def _whole(receive: Receive) -> bytes:
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HTTPException(400, "the request body was cut short")
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read already, then whatever comes after it."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _short(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"{text[:30]}… is too large a number")
    return int(text)


def _finite(text: str) -> Any:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:30]} is too large a number")
    return number
