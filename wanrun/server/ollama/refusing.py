"""What Ollama's clients may ask of language models, and no video model can do: refused in Ollama's words."""

from __future__ import annotations

from fastapi import APIRouter

from wanrun.errors import InvalidRequest
from wanrun.server.ollama.shapes import Failure, Named, found
from wanrun.server.service import Service

_TASKS = {"/chat": "chat", "/embed": "embeddings", "/embeddings": "embeddings"}


def router(service: Service) -> APIRouter:
    """``/chat``, ``/embed`` and ``/embeddings``."""
    routes = APIRouter()

    def refuse(task: str) -> None:
        @routes.post(task, summary="Refused: models here make videos", status_code=400, name=task[1:])
        def refused(asked: Named) -> Failure:
            found(service.store, asked.wanted)
            raise InvalidRequest(f'"{asked.wanted}" does not support {_TASKS[task]}')

    for task in _TASKS:
        refuse(task)
    return routes
