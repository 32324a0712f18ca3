"""Who may ask: pure ASGI middleware that refuses what comes from elsewhere, or is too much."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class Policy:
    """What the guard lets through."""

    #: The key that every request but those for the page must bring; "" for none.
    key: str = ""


class Guard:
    """Lets through what ``policy`` allows."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app, self._policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
