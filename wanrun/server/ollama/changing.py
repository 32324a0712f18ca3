"""``/api/copy`` and ``/api/delete``: names of models."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field

from wanrun.errors import ModelNotFound
from wanrun.server.ollama.shapes import Asked, Named, parsed
from wanrun.server.service import Service
from wanrun.store.names import PATTERN


class AskedCopy(Asked):
    """Which model gets which second name."""

    model_config = ConfigDict(json_schema_extra={"required": ["source", "destination"]})

    source: str = Field("", max_length=512, json_schema_extra={"pattern": PATTERN})
    destination: str = Field("", max_length=512, json_schema_extra={"pattern": PATTERN})


def router(service: Service) -> APIRouter:
    """``/copy`` and ``/delete``."""
    routes, store = APIRouter(), service.store

    @routes.post("/copy", summary="Give a model a second name", response_class=Response)
    def copy(asked: AskedCopy) -> Response:
        source = parsed(asked.source, f'source "{asked.source[:100]}" is invalid')
        target = parsed(asked.destination, f'destination "{asked.destination[:100]}" is invalid')
        try:
            store.copy(source, target)
        except ModelNotFound:
            raise ModelNotFound(f'model "{asked.source}" not found') from None
        return Response()

    @routes.delete("/delete", summary="Delete a model", response_class=Response)
    def delete(asked: Named) -> Response:
        name = parsed(asked.wanted, f'name "{asked.wanted[:100]}" is invalid')
        service.scheduler.workers.stop(str(name))
        try:
            store.remove(name)
        except ModelNotFound:
            raise ModelNotFound(f"model '{asked.wanted}' not found") from None
        return Response()

    return routes
