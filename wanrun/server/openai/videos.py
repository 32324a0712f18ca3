"""``/v1/videos``: make, look at, list, cancel and delete videos."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from wanrun.server.job import Job
from wanrun.server.openai.answers import Video, VideoDeleted, VideoList
from wanrun.server.openai.asked import AskedVideo
from wanrun.server.openai.body import body_schema, read
from wanrun.server.openai.failing import MISSING, ORDERING, SENT
from wanrun.server.openai.orders import video_order
from wanrun.server.openai.present import video
from wanrun.server.openai.states import States
from wanrun.server.service import Service

#: Seconds that a running video which is deleted has to stop; see ``wanrun.runtime.process``.
_STOPS_S = 30.0

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        description="The same request with the same key is the same video, however often it is sent.",
    ),
]


def router(service: Service, states: States) -> APIRouter:
    """The routes of videos as objects."""
    routes = APIRouter(prefix="/videos")

    def shown(job: Job, response: Response | None = None) -> Video:
        if response is not None:
            response.headers["openai-poll-after-ms"] = str(states.poll_after_ms(job))
        return video(job, service.jobs, service.scheduler.options.expire_s)

    @routes.post(
        "", summary="Make a video", responses=ORDERING, openapi_extra=body_schema(AskedVideo, form=True)
    )
    async def create(request: Request, response: Response, idempotency_key: IdempotencyKey = None) -> Video:
        asked = await read(request, AskedVideo)

        def submit() -> Video:
            return shown(service.submit(video_order(service, asked, idempotency_key)), response)

        return await run_in_threadpool(submit)

    @routes.get("", summary="List videos, the newest first", responses=MISSING)
    def page(
        after: Annotated[
            str | None, Query(description="The id of the last video of the page before.")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Annotated[Literal["asc", "desc"], Query(description="By age.")] = "desc",
    ) -> VideoList:
        found = service.jobs.list(after, limit, order)
        data = [shown(job) for job in found.jobs]
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return VideoList(data=data, first_id=ends[0], last_id=ends[1], has_more=found.more)

    @routes.get("/{video_id}", summary="Get a video's state", response_model=Video, responses=MISSING)
    async def retrieve(video_id: str) -> Response:
        state = await states.get(video_id)
        headers = {"openai-poll-after-ms": str(states.poll_after_ms(state.job))}
        return Response(state.body, headers=headers, media_type="application/json")

    @routes.post("/{video_id}/cancel", summary="Cancel a video", responses=MISSING | SENT)
    def cancel(video_id: str, response: Response) -> Video:
        """One that waits is cancelled at once, one that is being made in a moment; others stay."""
        return shown(service.scheduler.cancel(video_id), response)

    @routes.delete("/{video_id}", summary="Delete a video", responses=MISSING | SENT)
    async def delete(video_id: str) -> VideoDeleted:
        """One that is being made is cancelled first."""
        job = await run_in_threadpool(service.scheduler.cancel, video_id)
        if not job.over:
            await _stopped(service, video_id)
        await run_in_threadpool(service.jobs.delete, video_id)
        return VideoDeleted(id=video_id)

    return routes


async def _stopped(service: Service, video_id: str) -> None:
    """Wait until a job that was cancelled has stopped."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_STOPS_S), aclosing(service.follow(video_id)) as events:
            async for _ in events:
                pass
