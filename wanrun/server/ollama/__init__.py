"""Ollama's API, so that its clients list, pull and run video models."""

from __future__ import annotations

from fastapi import APIRouter

from wanrun.server.ollama import about
from wanrun.server.service import Service


def router(service: Service) -> APIRouter:
    """Every route below ``/api``."""
    api = APIRouter(prefix="/api", tags=["ollama"])
    api.include_router(about.router())
    return api
