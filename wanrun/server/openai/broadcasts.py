"""Tells any number of followers of a video what becomes of it; each event is written once for all of them."""

from __future__ import annotations

import asyncio
import base64
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from logging import getLogger

from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from wanrun.errors import JobNotFound
from wanrun.server.events import Event
from wanrun.server.failures import text_of
from wanrun.server.job import Job
from wanrun.server.openai.answers import Progress
from wanrun.server.openai.present import progress, status, video
from wanrun.server.service import Service

_log = getLogger(__name__)
#: Proxies and browsers give a connection up on which nothing is said for a minute or less.
_HEARTBEAT_S = 15.0
#: Nobody reads faster, and small models make more steps than that; many followers hear of things more seldom.
_PAUSE_S, _PAUSE_EACH_S, _LONGEST_S = 0.25, 0.005, 5.0
#: Events that wait for a follower who is slow, before the oldest are left out.
_WAITING = 8


class Broadcasts:
    """The videos that are followed, for the event loop alone."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._running: dict[str, _Broadcast] = {}

    async def follow(self, video_id: str) -> AsyncGenerator[bytes]:
        """Server-sent events: ``progress`` until "done", which is the last.

        Where the video is deleted meanwhile, or the server ends, they end without it.
        """
        broadcast = self._running.get(video_id)
        if broadcast is None or broadcast.over:
            broadcast = self._running[video_id] = _Broadcast(self._service, video_id)
        follower = broadcast.join()
        try:
            while (text := await follower.next()) is not None:
                yield text
        finally:
            broadcast.leave(follower)
            if broadcast.over and self._running.get(video_id) is broadcast:
                del self._running[video_id]


class _Follower:
    """Gets what is written. Whoever is slow loses the oldest of it, and never the end."""

    def __init__(self) -> None:
        self._waiting: deque[bytes | None] = deque(maxlen=_WAITING)
        self._woken = asyncio.Event()

    def put(self, text: bytes | None) -> None:
        self._waiting.append(text)
        self._woken.set()

    async def next(self) -> bytes | None:
        """What is written next; None at the end."""
        while not self._waiting:
            self._woken.clear()
            await self._woken.wait()
        return self._waiting.popleft()


class _Broadcast:
    """Listens to one video as long as anybody follows it."""

    def __init__(self, service: Service, video_id: str) -> None:
        self._service, self._id = service, video_id
        self._followers: set[_Follower] = set()
        self._told: Job | None = None
        self._picture: bytes | None = None
        self._said = time.monotonic()
        #: Whether nothing more will be told.
        self.over = False
        self._task = asyncio.create_task(self._run())

    def join(self) -> _Follower:
        """One more, who is told at once what the others have been."""
        follower = _Follower()
        if self._told is not None:
            follower.put(_progress(self._told, self._picture))
        self._followers.add(follower)
        return follower

    def leave(self, follower: _Follower) -> None:
        """One less; after the last, nobody listens to the video."""
        self._followers.discard(follower)
        if not self._followers:
            self.over = True
            self._task.cancel()

    async def _run(self) -> None:
        try:
            async with aclosing(self._service.follow(self._id, _PAUSE_S)) as events:
                async for event in events:
                    await self._tell(event)
                    if not event.job.over:
                        await asyncio.sleep(min(_LONGEST_S, _PAUSE_EACH_S * len(self._followers)))
        except JobNotFound:
            pass  # deleted in between
        except Exception as error:  # an edge: nobody awaits this task
            _log.error("%s cannot be followed: %s: %s", self._id, type(error).__name__, text_of(error))
        finally:
            self.over = True
            self._put(None)

    async def _tell(self, event: Event) -> None:
        job, picture = event.job, event.preview
        if job.over:
            expire_s = self._service.scheduler.options.expire_s
            self._put(_event("done", await run_in_threadpool(video, job, self._service.jobs, expire_s)))
        elif picture is not None or _news(self._told, job):
            self._told, self._picture = job, picture or self._picture
            self._put(_progress(job, picture))
        elif time.monotonic() - self._said >= _HEARTBEAT_S:
            self._put(b": nothing new\n\n")

    def _put(self, text: bytes | None) -> None:
        self._said = time.monotonic()
        for follower in self._followers:
            follower.put(text)


def _news(told: Job | None, job: Job) -> bool:
    """Whether ``job`` is further than what was told; what is read from disk may lie some steps behind."""
    if told is None or (told.status, told.phase) != (job.status, job.phase):
        return True
    return job.step > told.step


def _progress(job: Job, picture: bytes | None) -> bytes:
    said = Progress(
        status=status(job),
        progress=progress(job),
        phase=job.phase,
        step=job.step,
        steps=job.total,
        rate=job.rate,
        seconds_left=job.left_s,
        preview=None if picture is None else f"data:image/png;base64,{base64.b64encode(picture).decode()}",
    )
    return _event("progress", said)


def _event(name: str, data: BaseModel) -> bytes:
    exclude = {"preview"} if isinstance(data, Progress) and data.preview is None else None
    return f"event: {name}\ndata: {data.model_dump_json(exclude=exclude)}\n\n".encode()
