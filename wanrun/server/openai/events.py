"""``/v1/videos/{id}/events``: a video's progress as server-sent events, until it is over."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from wanrun.errors import JobNotFound
from wanrun.server.events import Event
from wanrun.server.job import Job
from wanrun.server.openai.answers import Progress
from wanrun.server.openai.failing import MISSING
from wanrun.server.openai.present import progress, status, video
from wanrun.server.service import Service

#: Proxies and browsers give a connection up on which nothing is said for a minute or less.
_HEARTBEAT_S = 15.0
#: Nobody reads faster, and small models make more steps than that.
_PAUSE_S = 0.25
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["progress", "done"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {
                "anyOf": [Progress.model_json_schema(), {"$ref": "#/components/schemas/Video"}]
            },
        },
    },
}
_STREAM = {"text/event-stream": {"schema": _EVENT}}


def router(service: Service) -> APIRouter:
    """The route of events."""
    routes = APIRouter()

    @routes.get(
        "/videos/{video_id}/events",
        summary="Follow a video",
        response_class=StreamingResponse,
        responses=MISSING | {200: {"content": _STREAM, "description": "Server-sent events."}},
    )
    async def events(video_id: str) -> StreamingResponse:
        """``progress`` events, the first at once; then one ``done`` with the video object, after which the
        stream ends. Comments come where nothing happens for long.
        """
        await run_in_threadpool(service.jobs.get, video_id)
        return StreamingResponse(_stream(service, video_id), 200, _HEADERS, "text/event-stream")

    return routes


async def _stream(service: Service, video_id: str) -> AsyncIterator[str]:
    told: Job | None = None
    said = time.monotonic()
    try:
        async with aclosing(service.follow(video_id, _PAUSE_S)) as events:
            async for event in events:
                if event.job.over:
                    yield await run_in_threadpool(_done, service, event.job)
                elif event.preview is not None or _news(told, event.job):
                    told = event.job
                    yield _event("progress", _progress(event))
                elif time.monotonic() - said < _HEARTBEAT_S:
                    continue
                else:
                    yield ": nothing new\n\n"
                said = time.monotonic()
    except JobNotFound:
        return  # deleted in between


def _news(told: Job | None, job: Job) -> bool:
    """Whether ``job`` is further than what was told; what is read from disk may lie some steps behind."""
    if told is None or (told.status, told.phase) != (job.status, job.phase):
        return True
    return job.step > told.step


def _progress(event: Event) -> Progress:
    job, picture = event.job, event.preview
    return Progress(
        status=status(job),
        progress=progress(job),
        phase=job.phase,
        step=job.step,
        steps=job.total,
        rate=job.rate,
        seconds_left=job.left_s,
        preview=None if picture is None else f"data:image/png;base64,{base64.b64encode(picture).decode()}",
    )


def _done(service: Service, job: Job) -> str:
    return _event("done", video(job, service.jobs, service.scheduler.options.expire_s))


def _event(name: str, data: BaseModel) -> str:
    exclude = {"preview"} if isinstance(data, Progress) and data.preview is None else None
    return f"event: {name}\ndata: {data.model_dump_json(exclude=exclude)}\n\n"
