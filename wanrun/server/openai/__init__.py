"""OpenAI's API for videos, images and models, with the extensions that other servers of Wan share."""

from __future__ import annotations

from fastapi import APIRouter

from wanrun.server.openai import content, events, images, models, provenance, refusing, sync, videos
from wanrun.server.openai.failing import REFUSED
from wanrun.server.openai.states import States
from wanrun.server.service import Service


def router(service: Service, states: States) -> APIRouter:
    """Every route below ``/v1``; status calls are answered from ``states``."""
    api = APIRouter(prefix="/v1", tags=["openai"], responses=REFUSED)
    for part in (models, images, sync, content, provenance):
        api.include_router(part.router(service))
    for part_of_videos in (refusing, videos, events):
        api.include_router(part_of_videos.router(service, states))
    return api
