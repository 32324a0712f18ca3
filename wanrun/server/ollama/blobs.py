"""``/api/blobs/{digest}``: files that a client brings for a model that it is about to create."""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import ExitStack
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from wanrun.errors import InvalidRequest
from wanrun.server.service import Service
from wanrun.store import leases
from wanrun.store.blobs import blob_path
from wanrun.store.digest import Digest
from wanrun.store.durable import publish, store_errors, temporary, write_all
from wanrun.store.names import DEFAULT_HOST, Name
from wanrun.store.store import Store

_CHUNK = 1 << 20
_READ_ONLY = 0o444
_Digest = Annotated[str, Path(json_schema_extra={"pattern": "^sha256[:-][0-9a-f]{64}$"})]


def router(service: Service) -> APIRouter:
    """``/blobs/{digest}``."""
    routes, store = APIRouter(), service.store

    @routes.head(
        "/blobs/{digest}",
        summary="Ask whether a file is there",
        response_class=Response,
        responses={404: {"description": "It is not."}},
    )
    def head(digest: _Digest) -> Response:
        there = blob_path(store.blobs, _parsed(digest)).is_file()
        return Response(status_code=200 if there else 404)

    @routes.post(
        "/blobs/{digest}",
        summary="Bring a file",
        status_code=201,
        response_class=Response,
        responses={200: {"description": "It was there already."}, 201: {"description": "It is there now."}},
        openapi_extra={
            "requestBody": {
                "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
            }
        },
    )
    async def post(digest: _Digest, request: Request) -> Response:
        wanted = _parsed(digest)
        if blob_path(store.blobs, wanted).is_file():
            await asyncio.to_thread(_lease, store, wanted)
            return Response(status_code=200)
        await _receive(store, wanted, request)
        return Response(status_code=201)

    return routes


def lease_of(digest: Digest) -> Name:
    """What an uploaded file is kept under until a model is made of it."""
    return Name(DEFAULT_HOST, "uploads", "blob", digest.hex)


async def _receive(store: Store, wanted: Digest, request: Request) -> None:
    """Write the body to a temporary file, and give it its name if it is what it was said to be."""
    with ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, store.hold())
        stack.enter_context(store_errors(f"cannot bring {wanted} into the store"))
        descriptor, path = stack.enter_context(temporary(store.blobs))
        sha256, waiting = hashlib.sha256(), bytearray()

        def flush() -> None:
            sha256.update(waiting)
            write_all(descriptor, bytes(waiting))
            waiting.clear()

        async for chunk in request.stream():
            waiting += chunk
            if len(waiting) >= _CHUNK:
                await asyncio.to_thread(flush)
        await asyncio.to_thread(flush)
        given = Digest(sha256.hexdigest())
        if given != wanted:
            raise InvalidRequest(f'digest mismatch, expected "{wanted}", got "{given}"')

        def keep() -> None:
            os.fchmod(descriptor, _READ_ONLY)
            publish(descriptor, path, blob_path(store.blobs, wanted))
            _lease(store, wanted)

        await asyncio.to_thread(keep)


def _lease(store: Store, digest: Digest) -> None:
    with store.hold():
        leases.keep(store.home, lease_of(digest), digest)


def _parsed(text: str) -> Digest:
    try:
        return Digest.parse(text.replace("sha256-", "sha256:", 1) if text.startswith("sha256-") else text)
    except InvalidRequest:
        raise InvalidRequest("invalid digest format") from None
