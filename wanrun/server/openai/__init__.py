"""OpenAI's API for videos, images and models, with the extensions that other servers of Wan share."""

from __future__ import annotations

from fastapi import APIRouter

from wanrun.server.openai import content, events, images, models, provenance, sync, videos
from wanrun.server.openai.failing import REFUSED
from wanrun.server.service import Service


def router(service: Service) -> APIRouter:
    """Every route below ``/v1``."""
    api = APIRouter(prefix="/v1", tags=["openai"], responses=REFUSED)
    for part in (models, images, sync, videos, content, provenance, events):
        api.include_router(part.router(service))
    return api
