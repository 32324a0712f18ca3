"""``/v1/videos/{id}/content``: the video's file, or pictures of it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from wanrun.server.job import Job
from wanrun.server.openai.failing import MISSING, errors
from wanrun.server.openai.ranges import answer_file, known
from wanrun.server.service import Service
from wanrun.video.stills import spritesheet, thumbnail

TYPES = {"mp4": "video/mp4", "webm": "video/webm", "gif": "image/gif"}
_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
#: For the OpenAPI document: what a video's file may be.
FILM: dict[str, Any] = dict.fromkeys(TYPES.values(), _BYTES)
#: Pictures that are kept in memory, some tens of kilobytes each; galleries ask for the same ones.
_KEPT = 64

Variant = Annotated[
    Literal["video", "thumbnail", "spritesheet"],
    Query(description="The file; its first frame as WebP; up to 16 of its frames in rows of 4 as JPEG."),
]


def router(service: Service) -> APIRouter:
    """The route of content."""
    routes = APIRouter()

    @routes.get(
        "/videos/{video_id}/content",
        summary="Get a video's file",
        response_class=Response,
        responses=MISSING
        | errors(s416="The range lies beyond the file; Content-Range says how long it is.")
        | {
            200: {
                "content": FILM | {"image/webp": _BYTES, "image/jpeg": _BYTES},
                "description": "The file. Range and If-None-Match are understood.",
            },
            206: {"content": FILM, "description": "The part that Range asks for."},
            304: {"description": "The client has it already: its ETag is in If-None-Match."},
        },
    )
    def content(request: Request, video_id: str, variant: Variant = "video") -> Response:
        """A video that is not finished has none: 400."""
        job = service.jobs.get(video_id)
        path = service.jobs.video(job)
        if variant == "video":
            return film(request, service, job)
        etag = f'"{job.id}-{variant}"'
        headers = {"etag": etag, "cache-control": "private, no-cache"}
        if known(request, etag):
            return Response(status_code=304, headers=headers)
        if variant == "thumbnail":
            return Response(_thumbnail(path), 200, headers, "image/webp")
        return Response(_spritesheet(path, job.request.frames), 200, headers, "image/jpeg")

    return routes


def film(request: Request, service: Service, job: Job) -> Response:
    """A finished job's video, or the part of it that is asked for; raises JobNotReady where there is none."""
    return answer_file(request, service.jobs.video(job), TYPES[job.format], f'"{job.id}"')


# a finished video's file never changes
_thumbnail = lru_cache(_KEPT)(thumbnail)


@lru_cache(_KEPT)
def _spritesheet(path: Path, frames: int) -> bytes:
    return spritesheet(path, frames)
