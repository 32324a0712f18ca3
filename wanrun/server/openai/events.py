"""``/v1/videos/{id}/events``: a video's progress as server-sent events, until it is over."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from wanrun.server.openai.answers import Progress
from wanrun.server.openai.broadcasts import Broadcasts
from wanrun.server.openai.failing import MISSING
from wanrun.server.openai.states import States
from wanrun.server.service import Service

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


def router(service: Service, states: States) -> APIRouter:
    """The route of events."""
    routes, broadcasts = APIRouter(), Broadcasts(service)

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
        await states.get(video_id)
        return StreamingResponse(broadcasts.follow(video_id), 200, _HEADERS, "text/event-stream")

    return routes
