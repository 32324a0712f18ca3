"""``/api/generate``: makes a video as Ollama made images, or loads and unloads a model."""

from __future__ import annotations

import asyncio
import hashlib
import time
from base64 import b64encode
from contextlib import aclosing
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from wanrun.server.following import NotMade
from wanrun.server.job import PRIORITIES, Job, Order
from wanrun.server.ollama.asked import AskedVideo, Number, keep_alive_s
from wanrun.server.ollama.shapes import found_or_shipped, nanoseconds, stamp
from wanrun.server.ollama.streams import NDJSON, Line, Lines, answer
from wanrun.server.service import Service
from wanrun.video.stills import first_frame

MIMES = {"mp4": "video/mp4", "webm": "video/webm", "gif": "image/gif"}


class AskedGenerate(AskedVideo):
    """A video to make now. A client that hangs up cancels it, unless it asked for a job."""

    stream: bool | None = Field(None, description="False: answer once, when the video is made.")
    keep_alive: Number | str | None = Field(
        None, description="How long the model stays loaded afterwards: seconds, or a duration such as 10m."
    )
    job: bool | None = Field(None, description="True: the video is made even if the client hangs up.")
    priority: int = Field(0, ge=PRIORITIES[0], le=PRIORITIES[-1], description="Higher is sooner.")


class Made(BaseModel):
    """A finished video: ``sha256`` and ``size`` in bytes are its file's."""

    id: str
    url: str
    mime: str
    size: int
    sha256: str


class Generated(BaseModel):
    """A line: steps that are done of all, and in the last one the video. ``image`` is its poster, a PNG.

    ``phase`` is queued, starting, measuring the machine, text, denoise or decode; durations are in ns.
    """

    model: str
    created_at: str
    response: str = ""
    done: bool
    done_reason: str | None = None
    completed: int | None = None
    total: int | None = None
    phase: str | None = None
    id: str | None = None
    image: str | None = None
    video: Made | None = None
    bit_exact: bool | None = None
    total_duration: int | None = None
    load_duration: int | None = None


def router(service: Service) -> APIRouter:
    """``/generate``."""
    routes = APIRouter()

    @routes.post(
        "/generate",
        summary="Make a video",
        response_model=Generated,
        response_model_exclude_none=True,
        responses={200: {"content": NDJSON}},
    )
    async def generate(asked: AskedGenerate, request: Request) -> Response:
        keep_s = keep_alive_s(asked.keep_alive)
        bundle = await asyncio.to_thread(found_or_shipped, service, asked.wanted)
        if not asked.prompt:
            return await asyncio.to_thread(_load, service, asked.wanted, bundle.name, keep_s)
        wanted = await asyncio.to_thread(service.request, bundle.name, asked.prompt, asked.parameters(bundle))
        order = Order(bundle.name, wanted, asked.priority)
        lines = made(service, asked.wanted, order, str(request.base_url), keep_s, bool(asked.job))
        return await answer(lines, asked.stream, request)

    return routes


async def made(
    service: Service,
    model: str,
    order: Order,
    base_url: str,
    keep_s: float | None = None,
    stays: bool = False,
) -> Lines:
    """What happens to a new job of ``order``, and at last its video; ``model`` is called as its client does.

    Leaving before the end cancels the job unless it ``stays``. Raises QueueFull, and NotMade when it fails.
    """
    begun = time.monotonic()
    job = await asyncio.to_thread(service.submit, order, keep_s)
    over = False
    try:
        async with aclosing(service.follow(job.id)) as events:
            before: Line = {}
            async for event in events:
                job = event.job
                line = {"id": job.id} | _progress(job)
                if not job.over and line != before:
                    yield _line(model, False) | line
                    before = line
        over = True
        if not job.over:
            raise NotMade(f"the server ends; {job.id} goes on when it is started again")
        if job.status != "completed":
            raise NotMade(job.error or f"{job.id} was {job.status}")
        yield (
            _line(model, True)
            | await asyncio.to_thread(_video, service, job, base_url)
            | {
                "done_reason": "stop",
                "total_duration": nanoseconds(time.monotonic() - begun),
                "load_duration": nanoseconds((job.started or job.created) - job.created),
            }
        )
    finally:
        if not (over or stays):
            # nothing may be waited for in a task that is being cancelled
            asyncio.get_running_loop().run_in_executor(None, service.scheduler.cancel, job.id)


def _load(service: Service, model: str, name: str, keep_s: float | None) -> JSONResponse:
    if keep_s == 0:
        service.scheduler.workers.stop(name)
    else:
        service.scheduler.load(name, keep_s)
    return JSONResponse(_line(model, True) | {"done_reason": "unload" if keep_s == 0 else "load"})


def _line(model: str, done: bool) -> Line:
    return {"model": model, "created_at": stamp(time.time()), "response": "", "done": done}


def _progress(job: Job) -> Line:
    """Steps are counted while denoising alone; the other phases have names."""
    if job.status == "queued":
        return {"phase": "queued"}
    if job.phase != "denoise" or not job.total:
        return {"phase": job.phase or "starting"}
    return {"phase": job.phase, "total": job.total} | ({"completed": job.step} if job.step else {})


def _video(service: Service, job: Job, base_url: str) -> dict[str, Any]:
    path = service.jobs.video(job)
    video = Made(
        id=job.id,
        url=f"{base_url}v1/videos/{job.id}/content",
        mime=MIMES[job.format],
        size=job.size or 0,
        sha256=_sha256(path),
    )
    poster = b64encode(first_frame(path, "png")).decode()
    return {"id": job.id, "image": poster, "video": video.model_dump()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
