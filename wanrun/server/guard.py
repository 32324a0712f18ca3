"""Who may ask: pure ASGI middleware that refuses what comes from elsewhere, without a key, or too often.

Everything is refused before a byte of the body is read. What is in a body is ``wanrun.server.bodies``'s.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wanrun.server.failures import failure
from wanrun.server.origins import may_ask, names_server
from wanrun.server.rates import Rates

_METHODS = "GET, HEAD, POST, PUT, DELETE, OPTIONS"
_HEADERS = (
    "Authorization, Content-Type, Accept, User-Agent, X-Requested-With, Idempotency-Key, OpenAI-Beta, Range"
)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the guard lets through."""

    #: The key that every request but those for the page must bring; "" for none.
    key: str = ""
    #: Names that the server is called by, besides addresses and localhost.
    hosts: tuple[str, ...] = ()
    #: Origins of pages that may use the server, besides those of this machine.
    origins: tuple[str, ...] = ()
    #: Requests a second of one address.
    rate: int = 1000


class Guard:
    """Lets through what ``policy`` allows."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app, self._policy = app, policy
        self._rates = Rates(policy.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        send = self._marked(headers.get("origin", ""), send)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a request that goes no further; None for one that does."""
        path, host, origins = scope["path"], headers.get("host", ""), headers.getlist("origin")
        if not path.startswith("/"):
            return failure(path, 400, "the request's target must be a path")
        if "transfer-encoding" in headers and "content-length" in headers:
            # a proxy before us may go by the other one (RFC 9112, section 6.1)
            return failure(path, 400, "a body has one length", {"Connection": "close"})
        if not names_server(host, self._policy.hosts):
            return failure(path, 403, "this server is not called so: set WANRUN_HOSTS to the names it has")
        if not all(may_ask(origin, host, self._policy.origins) for origin in origins):
            return failure(
                path, 403, "pages of this origin may not ask: set WANRUN_ORIGINS to those that may"
            )
        if scope["method"] == "OPTIONS":
            return Response(status_code=204)
        if not self._rates.allow(scope["client"][0] if scope.get("client") else ""):
            return failure(path, 429, "too many requests: slow down", {"Retry-After": "1"})
        if not (self._knows_key(headers) or _is_page(scope)):
            return failure(
                path,
                401,
                "send the server's key as 'Authorization: Bearer KEY'",
                {"WWW-Authenticate": "Bearer"},
            )
        return None

    def _knows_key(self, headers: Headers) -> bool:
        if not self._policy.key:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # hashes, so that neither the key's letters nor its length can be found by timing
        same = hmac.compare_digest(_hash(given.strip()), _hash(self._policy.key))
        return same and scheme.lower() == "bearer"

    def _marked(self, origin: str, send: Send) -> Send:
        """``send`` that tells browsers what they may do with an answer."""

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers.add_vary_header("Origin")
                if origin and message["status"] != 403:
                    headers["Access-Control-Allow-Origin"] = origin
                    headers["Access-Control-Allow-Methods"] = _METHODS
                    headers["Access-Control-Allow-Headers"] = _HEADERS
                    headers["Access-Control-Expose-Headers"] = (
                        "Content-Range, ETag, Retry-After, openai-poll-after-ms, wanrun-video-id"
                    )
                    headers["Access-Control-Max-Age"] = "600"
            await send(message)

        return marked


def _is_page(scope: Scope) -> bool:
    """Whether the request is for what the page is made of: it asks its reader for the key."""
    path: str = scope["path"]
    return scope["method"] in ("GET", "HEAD") and (path == "/" or path.startswith("/page/"))


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
