"""Answers errors: Ollama's form below ``/api``, OpenAI's below ``/v1``; never a path or a traceback."""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wanrun.errors import (
    DownloadError,
    FormatError,
    InvalidParameter,
    InvalidRequest,
    JobNotFound,
    KeyReused,
    ModelNotFound,
    OutOfMemoryBudget,
    QueueFull,
    WanrunError,
)
from wanrun.runtime.process import without_paths

_log = getLogger(__name__)
#: The first that an error is an instance of counts. What asking again cannot mend is below 500, because
#: clients try again on 409, 429 and from 500 on.
STATUSES: tuple[tuple[type[WanrunError], int], ...] = (
    (KeyReused, 422),
    (InvalidRequest, 400),
    (FormatError, 400),
    (OutOfMemoryBudget, 400),
    (ModelNotFound, 404),
    (JobNotFound, 404),
    (QueueFull, 503),
    (DownloadError, 502),
)
_TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}
_BUSY = "server busy, please try again.  maximum pending requests exceeded"


def status_of(error: WanrunError) -> int:
    """The HTTP status that ``error`` is answered with."""
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)


def text_of(error: Exception) -> str:
    """What is told of ``error``; of one that is not the user's to read, only that there was one."""
    return without_paths(str(error)) if isinstance(error, WanrunError) else "internal server error"


def failure(
    path: str, status: int, message: str, headers: Mapping[str, str] | None = None, param: str | None = None
) -> JSONResponse:
    """The answer to a request for ``path`` that went wrong, in the form of the API that the path is in.

    ``param`` names what is wrong in the request, where the form has a place for that.
    """
    if path.startswith("/v1"):
        kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
        body: dict[str, Any] = {"error": {"message": message, "type": kind, "param": param, "code": None}}
    else:
        body = {"error": message}
    return JSONResponse(body, status, dict(headers or {}))


def failed(path: str, error: WanrunError) -> JSONResponse:
    """The answer to a request for ``path`` that raised ``error``."""
    if isinstance(error, QueueFull):
        return failure(path, 503, _BUSY, {"Retry-After": str(error.retry_after_s)})
    param = error.param if isinstance(error, InvalidParameter) else None
    return failure(path, status_of(error), text_of(error), param=param)


def install(app: FastAPI) -> None:
    """Have every error of the app's routes answered."""

    @app.exception_handler(WanrunError)
    async def of_ours(request: Request, error: WanrunError) -> JSONResponse:
        if status_of(error) == 500:
            _log.error("%s: %s", type(error).__name__, text_of(error))
        return failed(request.url.path, error)

    @app.exception_handler(RequestValidationError)
    async def of_shape(request: Request, error: RequestValidationError) -> JSONResponse:
        return failure(request.url.path, 400, described(error))

    @app.exception_handler(HTTPException)
    async def of_routing(request: Request, error: HTTPException) -> JSONResponse:
        return failure(request.url.path, error.status_code, str(error.detail).lower(), error.headers)

    app.add_middleware(LastResort)


def described(error: RequestValidationError) -> str:
    """Every field that is not as it must be, and why; nothing of what was sent."""
    found = []
    for each in error.errors():
        place = ".".join(str(part) for part in each["loc"][1:])
        found.append(f"{place}: {each['msg']}" if place else str(each["msg"]))
    return "; ".join(found)[:2000]


class LastResort:
    """Answers 500 for what nobody foresaw, and logs what it was without where."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watch(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:  # an edge: the server goes on
            if scope["type"] != "http":
                raise
            _log.error("nobody foresaw %s: %s", type(error).__name__, without_paths(str(error))[:300])
            if not begun:
                await failure(scope["path"], 500, "internal server error")(scope, receive, send)
