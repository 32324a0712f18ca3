"""``/v1/videos/{id}/provenance``: what a finished video's file says of how it was made."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from wanrun.server.openai.failing import MISSING
from wanrun.server.service import Service
from wanrun.video.provenance import read_provenance


def router(service: Service) -> APIRouter:
    """The route of provenance."""
    routes = APIRouter()

    @routes.get("/videos/{video_id}/provenance", summary="Get a video's provenance", responses=MISSING)
    def provenance(video_id: str) -> dict[str, Any]:
        """The model with the digests of its components, the request, the sigmas and the versions of the
        libraries, read from the file. A video that is not finished has none: 400.
        """
        return read_provenance(service.jobs.video(service.jobs.get(video_id)))

    return routes
