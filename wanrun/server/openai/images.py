"""``/v1/images/generations``: an image is the only frame of a video."""

from __future__ import annotations

import base64
import time

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from wanrun.server.job import Job
from wanrun.server.openai.answers import Image, ImageList
from wanrun.server.openai.asked import AskedImage
from wanrun.server.openai.body import body_schema, read
from wanrun.server.openai.failing import WAITING
from wanrun.server.openai.orders import image_orders
from wanrun.server.openai.videos import IdempotencyKey
from wanrun.server.openai.waiting import completed, submit_all
from wanrun.server.service import Service
from wanrun.video.stills import first_frame


def router(service: Service) -> APIRouter:
    """The route of images."""
    routes = APIRouter()

    @routes.post(
        "/images/generations",
        summary="Make images and wait for them",
        response_model_exclude_none=True,
        responses=WAITING,
        openapi_extra=body_schema(AskedImage, form=False),
    )
    async def generate(request: Request, idempotency_key: IdempotencyKey = None) -> ImageList:
        """A client that hangs up cancels what is not made yet."""
        asked = await read(request, AskedImage)

        def submit() -> list[Job]:
            return submit_all(service, image_orders(service, asked, idempotency_key))

        jobs = await completed(service, request, await run_in_threadpool(submit))
        base = str(request.base_url)

        def shown(job: Job) -> Image:
            if asked.response_format == "url":
                return Image(url=f"{base}v1/videos/{job.id}/content?variant=thumbnail")
            data = first_frame(service.jobs.video(job), asked.output_format or "png")
            return Image(b64_json=base64.b64encode(data).decode())

        return ImageList(
            created=int(time.time()),
            output_format=asked.output_format or "png",
            size=f"{jobs[0].request.width}x{jobs[0].request.height}",
            data=[await run_in_threadpool(shown, job) for job in jobs],
        )

    return routes
