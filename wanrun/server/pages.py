"""Serves the page: plain files that are read once, under a policy that lets nothing else in.

``/`` is the page for browsers, and one line of text for everyone else, as Ollama's clients expect it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from fastapi import APIRouter, HTTPException, Request, Response

RUNNING = "wanrun is running"
_INDEX = "index.html"
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
#: No inline script or style, nothing from elsewhere, no text that becomes HTML. Previews come as data: URIs,
#: and what needs an API key to be fetched is shown from blob: URLs.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    # every use asks whether there is a newer one, so that an update of wanrun is seen at once
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the page, and the tag under which a browser keeps it."""

    content: bytes
    media_type: str
    tag: str


def router() -> APIRouter:
    """The routes of ``/`` and of what the page is made of."""
    routes, page = APIRouter(include_in_schema=False), _read()

    @routes.api_route("/", methods=["GET", "HEAD"])
    def root(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return _answer(page[_INDEX], request)
        return Response(RUNNING, media_type="text/plain", headers={"Vary": "Accept"})

    @routes.api_route("/page/{name}", methods=["GET", "HEAD"])
    def part(name: str, request: Request) -> Response:
        if name not in page:
            raise HTTPException(404, "the page has no such part")
        return _answer(page[name], request)

    return routes


def _read() -> Mapping[str, _File]:
    """The files by name: what is not among them has no path, whatever is asked for."""
    found = {}
    for entry in files("wanrun.server").joinpath("page").iterdir():
        media_type = _TYPES.get(entry.name.rpartition(".")[2])
        if media_type is not None:
            content = entry.read_bytes()
            found[entry.name] = _File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return found


def _answer(file: _File, request: Request) -> Response:
    headers = _HEADERS | {"ETag": file.tag, "Vary": "Accept"}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if known & {file.tag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
