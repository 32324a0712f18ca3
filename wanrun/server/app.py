"""The HTTP application: the routes of every API, behind one guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from wanrun import __version__
from wanrun.server import failures, ollama, openai, pages
from wanrun.server.bodies import Bodies
from wanrun.server.document import Documented
from wanrun.server.guard import Guard, Policy
from wanrun.server.openai.shortcut import Shortcut
from wanrun.server.openai.states import States
from wanrun.server.service import Service


def create_app(service: Service, policy: Policy | None = None) -> FastAPI:
    """An application that serves ``service`` and has started it when it takes requests.

    The OpenAPI document is at ``/openapi.json``.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.start)
        try:
            yield
        finally:
            await asyncio.to_thread(service.close)

    app = Documented(
        title="wanrun",
        summary="Local text-to-video: Ollama's API for models, OpenAI's for videos.",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts from other machines
        redoc_url=None,
    )
    states = States(service)
    app.include_router(pages.router())
    app.include_router(ollama.router(service))
    app.include_router(openai.router(service, states))
    app.add_middleware(Shortcut, states=states)
    failures.install(app)
    app.add_middleware(Bodies)
    app.add_middleware(Guard, policy=policy or Policy())
    return app
