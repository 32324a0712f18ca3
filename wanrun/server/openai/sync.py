"""``/v1/videos/sync``: the video itself as the answer, for clients that would rather wait than ask."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from wanrun.server.openai.asked import AskedVideo
from wanrun.server.openai.body import body_schema, read
from wanrun.server.openai.content import FILM, film
from wanrun.server.openai.failing import WAITING
from wanrun.server.openai.orders import video_order
from wanrun.server.openai.videos import IdempotencyKey
from wanrun.server.openai.waiting import completed
from wanrun.server.service import Service


def router(service: Service) -> APIRouter:
    """The route that waits."""
    routes = APIRouter()

    @routes.post(
        "/videos/sync",
        summary="Make a video and wait for it",
        response_class=Response,
        responses=WAITING | {200: {"content": FILM, "description": "The video's file."}},
        openapi_extra=body_schema(AskedVideo, form=True),
    )
    async def sync(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
        """A client that hangs up cancels its video; the header ``wanrun-video-id`` names the one it gets."""
        asked = await read(request, AskedVideo)
        order = await run_in_threadpool(video_order, service, asked, idempotency_key)
        job = await run_in_threadpool(service.submit, order)
        (job,) = await completed(service, request, [job])
        response = await run_in_threadpool(film, request, service, job)
        response.headers["wanrun-video-id"] = job.id
        return response

    return routes
