"""Answers status calls, which come by the hundred, without the framework: its routing costs the most."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from wanrun.errors import WanrunError
from wanrun.server.openai.states import States

_STATUS = re.compile(r"/v1/videos/(video_[0-9a-f]{24})")
_JSON = (b"content-type", b"application/json")


class Shortcut:
    """Pure ASGI middleware that gives the same answers to ``GET /v1/videos/{id}`` as the route behind it.

    What cannot be answered is left to that route, which says why.
    """

    def __init__(self, app: ASGIApp, states: States) -> None:
        self._app, self._states = app, states

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = _STATUS.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if asked is None or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        try:
            state = await self._states.get(asked[1])
        except WanrunError:
            await self._app(scope, receive, send)
            return
        after_ms = self._states.poll_after_ms(state.job)
        headers = [
            (b"content-length", b"%d" % len(state.body)),
            _JSON,
            (b"openai-poll-after-ms", b"%d" % after_ms),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": state.body})
