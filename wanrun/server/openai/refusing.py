"""What OpenAI's clients may ask that no model here can do: refused, with what to ask instead."""

from __future__ import annotations

from fastapi import APIRouter

from wanrun.errors import InvalidRequest
from wanrun.server.openai.states import States
from wanrun.server.service import Service

_INSTEAD = {
    "edits": "videos are not edited here: POST the prompt of a new one to /v1/videos",
    "extensions": "videos are not extended here: POST a longer one to /v1/videos, with seconds or num_frames",
    "characters": "there are no characters here: say in the prompt of POST /v1/videos who is seen",
}
_REMIX = "videos are not remixed here: POST the new prompt to /v1/videos with the seed of this one, {seed}"


def router(service: Service, states: States) -> APIRouter:
    """Routes that are not in the document, since there is nothing to be had from them."""
    routes = APIRouter(prefix="/videos", include_in_schema=False)

    def refuse(what: str) -> None:
        @routes.post(f"/{what}", name=what)
        def refused() -> None:
            raise InvalidRequest(_INSTEAD[what])

    for what in _INSTEAD:
        refuse(what)

    @routes.get("/characters/{character_id}")
    def character(character_id: str) -> None:
        raise InvalidRequest(_INSTEAD["characters"])

    @routes.post("/{video_id}/remix")
    async def remix(video_id: str) -> None:
        state = await states.get(video_id)
        raise InvalidRequest(_REMIX.format(seed=state.job.request.seed))

    return routes
