"""Answers with lines of JSON as they come, or with the last one alone.

An error before the first line has its status; after it, it is the last line. Work that blocks runs in a
thread of its own, which ends at its next report once nobody listens any more.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from wanrun.errors import WanrunError
from wanrun.server.failures import text_of

Line = dict[str, Any]
Lines = AsyncGenerator[Line]
Tell = Callable[[Line], None]

#: Progress of one thing is told this often at most.
_PAUSE_S = 0.06
#: How often it is looked whether a client that waits for the last line is still there.
_LOOK_S = 0.5

#: For the OpenAPI document.
NDJSON: dict[str, Any] = {"application/x-ndjson": {"schema": {"type": "string"}}}


class Gone(BaseException):
    """Nobody listens any more. Like KeyboardInterrupt, it is nobody's to handle on the way."""


async def answer(lines: Lines, stream: bool | None, request: Request) -> Response:
    """All of ``lines`` as they come, unless ``stream`` is False: then the last one."""
    first = await anext(lines)
    if stream is not False:
        return StreamingResponse(_encoded(first, lines), media_type="application/x-ndjson")
    return JSONResponse(await _last(first, lines, request))


async def worked(work: Callable[[Tell], None]) -> Lines:
    """What ``work`` tells while it runs in a thread; raises what it raises."""
    loop, gone = asyncio.get_running_loop(), threading.Event()
    told: asyncio.Queue[Line | BaseException | None] = asyncio.Queue()

    def hand_over(item: Line | BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(told.put_nowait, item)

    def tell(line: Line) -> None:
        if gone.is_set():
            raise Gone
        hand_over(line)

    def run() -> None:
        try:
            work(tell)
        except Gone:
            return
        except Exception as error:  # an edge of the thread: raised again in the loop
            hand_over(error)
        else:
            hand_over(None)

    threading.Thread(target=run, daemon=True).start()
    try:
        while (item := await told.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        gone.set()


def paced(tell: Callable[[str, int, int], None]) -> Callable[[str, int, int], None]:
    """``tell`` for progress that is reported more often than anybody wants to read it."""
    last, phase_before = 0.0, ""

    def progress(phase: str, done: int, total: int) -> None:
        nonlocal last, phase_before
        now = time.monotonic()
        if phase != phase_before or now - last >= _PAUSE_S or (total and done >= total):
            last, phase_before = now, phase
            tell(phase, done, total)

    return progress


async def _encoded(first: Line, lines: Lines) -> AsyncGenerator[bytes]:
    try:
        yield _line(first)
        async for line in lines:
            yield _line(line)
    except WanrunError as error:
        yield _line({"error": text_of(error)})
    finally:
        await lines.aclose()


async def _last(first: Line, lines: Lines, request: Request) -> Line:
    last, waiting = first, asyncio.ensure_future(anext(lines, None))
    try:
        while True:
            done, _ = await asyncio.wait([waiting], timeout=_LOOK_S)
            if done:
                line = waiting.result()
                if line is None:
                    return last
                last, waiting = line, asyncio.ensure_future(anext(lines, None))
            elif await request.is_disconnected():
                return last
    finally:
        waiting.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await waiting
        await lines.aclose()


def _line(line: Line) -> bytes:
    return json.dumps(line).encode() + b"\n"
