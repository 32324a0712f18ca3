"""``/v1/models``: what the store holds."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as PathParameter

from wanrun.errors import ModelNotFound
from wanrun.server.openai.answers import ModelCard, ModelList
from wanrun.server.openai.failing import MISSING
from wanrun.server.service import Service
from wanrun.store.names import PATTERN, parse_name
from wanrun.store.store import Entry


def router(service: Service) -> APIRouter:
    """The routes of models."""
    routes = APIRouter()

    @routes.get("/models", summary="List the models of the store")
    def models() -> ModelList:
        entries = sorted(service.store.list(), key=lambda entry: entry.modified, reverse=True)
        return ModelList(data=[_card(entry, str(entry.name)) for entry in entries])

    @routes.get("/models/{model:path}", summary="Get a model", responses=MISSING)
    def model(model: Annotated[str, PathParameter(json_schema_extra={"pattern": PATTERN})]) -> ModelCard:
        name = parse_name(model)
        for entry in service.store.list():
            if entry.name == name:
                return _card(entry, model)
        raise ModelNotFound(f"model '{name}' not found: the list of models has those that there are")

    return routes


def _card(entry: Entry, shown: str) -> ModelCard:
    return ModelCard(id=shown, created=int(entry.modified), owned_by=entry.name.namespace)
