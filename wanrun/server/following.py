"""Lets the event loop listen to a job, so that thousands of listeners need no thread each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from wanrun.errors import JobNotFound
from wanrun.server.events import Event
from wanrun.server.scheduler import Scheduler

#: Another process may be at the job, whose events do not come here: then it is looked at this often.
_LOOK_S = 1.0


async def follow(scheduler: Scheduler, job_id: str) -> AsyncGenerator[Event]:
    """The job as it is, then what becomes of it, until its end or the server's. Raises JobNotFound.

    Close it (``contextlib.aclosing``) when you leave before the end.
    """
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(woken.set)

    with scheduler.events.subscribe(job_id, wake) as events:
        # after subscribing, so that its end is not missed in between
        scheduler.events.tell(events, await asyncio.to_thread(scheduler.jobs.get, job_id))
        while True:
            woken.clear()
            while (event := events.next(0)) is not None:
                yield event
                if event.job.over:
                    return
            if events.over:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await woken.wait()
                continue
            try:
                yield Event(await asyncio.to_thread(scheduler.jobs.get, job_id))
            except JobNotFound:  # deleted meanwhile
                return
