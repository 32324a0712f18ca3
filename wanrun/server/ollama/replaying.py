"""``/api/replay``: makes a video again from its provenance, and says whether it is the same, bit by bit."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field

from wanrun.errors import InvalidRequest
from wanrun.modelfile.parameters import PARAMETERS
from wanrun.pipeline import ingredients
from wanrun.request import resolve
from wanrun.runtime.runs import parse_request
from wanrun.server.job import Job, Order
from wanrun.server.ollama.asked import in_our_words
from wanrun.server.ollama.generate import Generated, made
from wanrun.server.ollama.shapes import Asked, found_or_shipped
from wanrun.server.ollama.streams import NDJSON, Lines, answer
from wanrun.server.service import Service
from wanrun.types import Bundle, GenerationRequest
from wanrun.video.stills import same_frames


class AskedReplay(Asked):
    """Which video to make again: one of this server, or whatever the provenance describes."""

    id: str | None = Field(None, max_length=64, description="A finished video of this server.")
    provenance: dict[str, Any] | None = Field(None, description="What a video's file carries.")
    stream: bool | None = None
    job: bool | None = Field(None, description="True: the video is made even if the client hangs up.")


def router(service: Service) -> APIRouter:
    """``/replay``."""
    routes = APIRouter()

    @routes.post(
        "/replay",
        summary="Make a video again",
        response_model=Generated,
        response_model_exclude_none=True,
        responses={200: {"content": NDJSON}},
    )
    async def replay(asked: AskedReplay, request: Request) -> Response:
        """Answers as /api/generate; of a video of this server, ``bit_exact`` says whether it is the same."""
        original, order = await asyncio.to_thread(_order, service, asked)
        lines = made(service, order.model, order, str(request.base_url), stays=bool(asked.job))
        return await answer(_compared(service, original, lines), asked.stream, request)

    return routes


async def _compared(service: Service, original: Job | None, lines: Lines) -> Lines:
    try:
        async for line in lines:
            if line["done"] and original is not None:
                line["bit_exact"] = await asyncio.to_thread(_same, service, original, line["video"]["id"])
            yield line
    finally:
        await lines.aclose()


def _order(service: Service, asked: AskedReplay) -> tuple[Job | None, Order]:
    if (asked.id is None) == (asked.provenance is None):
        raise InvalidRequest("say which video to make again: its id, or its provenance")
    if asked.id is not None:
        original = service.jobs.get(asked.id)
        service.jobs.video(original)  # raises when there is none to compare with
        return original, Order(original.model, original.request, format=original.format)
    described = asked.provenance or {}
    name = described.get("model")
    if not isinstance(name, str):
        raise InvalidRequest("the provenance names no model")
    bundle = found_or_shipped(service, name)
    _check_files(bundle, described)
    request = _request(bundle, described)
    service.check_size(request)
    return None, Order(bundle.name, request)


def _request(bundle: Bundle, described: dict[str, Any]) -> GenerationRequest:
    """The request that the provenance describes, checked like one that a client makes."""
    values = described.get("request")
    try:
        wanted = parse_request(values, "the provenance")
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"the provenance's request is not one: {error}") from error
    if not isinstance(wanted.prompt, str):
        raise InvalidRequest("the provenance's prompt must be text")
    given = {
        name: value for name, value in asdict(wanted).items() if name in (*PARAMETERS, "width", "height")
    }
    asked = in_our_words(given | {"negative": wanted.negative}, bundle) | {"lora": wanted.lora}
    # the template is in the prompt already
    resolved = resolve(replace(bundle, template="{{ prompt }}"), wanted.prompt, asked)
    if replace(resolved, notes=()) != replace(wanted, notes=()):
        raise InvalidRequest(f"{bundle.name} does not make what the provenance describes any more")
    return wanted


def _check_files(bundle: Bundle, described: dict[str, Any]) -> None:
    """Another model's bytes would make another video."""
    for part, own in ingredients(bundle).items():
        if own != described.get(part):
            raise InvalidRequest(
                f"{bundle.name} is not made of the same {part} as the video was: pull it again"
            )


def _same(service: Service, original: Job, again: str) -> bool:
    one, other = service.jobs.video(original), service.jobs.video(service.jobs.get(again))
    return same_frames(one, other)
