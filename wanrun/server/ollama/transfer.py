"""``/api/pull`` and ``/api/push``: models from and to other machines, through ``wanrun.sources`` alone."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from wanrun.errors import InvalidRequest
from wanrun.server.ollama.shapes import Named, found, parsed
from wanrun.server.ollama.streams import NDJSON, Line, Lines, Tell, answer, paced, worked
from wanrun.server.service import Service
from wanrun.sources import oci
from wanrun.store import planning, pulling
from wanrun.store.digest import Digest
from wanrun.store.names import DEFAULT_HOST, Name
from wanrun.store.repositories import parse_repository
from wanrun.store.store import Store


class AskedTransfer(Named):
    """Which model to bring or to send."""

    insecure: bool | None = Field(
        None, description="Ignored: http is used to this machine, and nowhere else."
    )
    stream: bool | None = None


class Progress(BaseModel):
    """How far it is: what is done, and of one file its bytes."""

    status: str
    digest: str | None = None
    total: int | None = None
    completed: int | None = None


def router(service: Service) -> APIRouter:
    """``/pull`` and ``/push``."""
    routes, store = APIRouter(), service.store

    @routes.post(
        "/pull",
        summary="Bring a model here",
        response_model=Progress,
        response_model_exclude_none=True,
        responses={200: {"content": NDJSON}},
    )
    async def pull(asked: AskedTransfer, request: Request) -> Response:
        if not asked.wanted or parse_repository(asked.wanted) is None:
            parsed(asked.wanted)
        return await answer(_pulling(store, asked.wanted), asked.stream, request)

    @routes.post(
        "/push",
        summary="Send a model to a registry",
        response_model=Progress,
        response_model_exclude_none=True,
        responses={200: {"content": NDJSON}},
    )
    async def push(asked: AskedTransfer, request: Request) -> Response:
        name = found(store, asked.wanted)
        if name.host == DEFAULT_HOST:
            raise InvalidRequest(
                f"'{name}' names no registry: copy it to HOST/NAMESPACE/MODEL:TAG, push that"
            )
        return await answer(_pushing(store, name), asked.stream, request)

    return routes


def _pulling(store: Store, text: str) -> Lines:
    def pull(tell: Tell) -> None:
        tell({"status": "pulling manifest"})
        plan = planning.plan(store, text)
        digests = {item.title: item.digest for item in plan.items if item.digest is not None}
        pulling.pull(store, text, paced(_teller(tell, "pulling", digests)))
        tell({"status": "verifying sha256 digest"})
        tell({"status": "writing manifest"})
        tell({"status": "success"})

    return worked(pull)


def _pushing(store: Store, name: Name) -> Lines:
    def push(tell: Tell) -> None:
        tell({"status": "retrieving manifest"})
        manifest = store.manifest(name)
        digests = {
            layer.title or layer.digest.short: layer.digest for layer in (manifest.config, *manifest.layers)
        }
        oci.push(store, name, paced(_teller(tell, "pushing", digests)))
        tell({"status": "success"})

    return worked(push)


def _teller(tell: Tell, doing: str, digests: dict[str, Digest]) -> Callable[[str, int, int], None]:
    """Progress in Ollama's words: files that are known are called by their digests."""

    def progress(phase: str, done: int, total: int) -> None:
        digest = digests.get(phase.removeprefix(f"{doing} "))
        line: Line = {"status": phase}
        if digest is not None:
            line = {"status": f"{doing} {digest.short}", "digest": str(digest)}
        tell(line | ({"total": total, "completed": done} if total else {}))

    return progress
