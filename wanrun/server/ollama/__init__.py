"""Ollama's API, so that its clients list, pull and run video models."""

from __future__ import annotations

from fastapi import APIRouter

from wanrun.server.ollama import (
    about,
    blobs,
    changing,
    creating,
    generate,
    listing,
    planning,
    refusing,
    replaying,
    transfer,
)
from wanrun.server.ollama.shapes import FAILURES
from wanrun.server.service import Service


def router(service: Service) -> APIRouter:
    """Every route below ``/api``."""
    api = APIRouter(prefix="/api", tags=["ollama"], responses=FAILURES)
    api.include_router(about.router())
    for part in (listing, changing, blobs, creating, transfer, generate, planning, replaying, refusing):
        api.include_router(part.router(service))
    return api
