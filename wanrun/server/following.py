"""Lets the event loop listen to a job, so that thousands of listeners need no thread each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from wanrun.errors import JobNotFound, WanrunError
from wanrun.server.events import Event, Subscription
from wanrun.server.scheduler import Scheduler

#: Another process may be at the job, whose events do not come here: then it is looked at this often.
_LOOK_S = 1.0


class NotMade(WanrunError):
    """A video that somebody waited for and that will not be made now."""


async def follow(scheduler: Scheduler, job_id: str, pause_s: float = 0.0) -> AsyncGenerator[Event]:
    """The job as it is, then what becomes of it, until its end or the server's. Raises JobNotFound.

    With a pause, what happens within ``pause_s`` is one event: the last of it, with the last picture. Close
    it (``contextlib.aclosing``) when you leave before the end.
    """
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        # what came before a waking that is not over yet will be seen by it
        if not woken.is_set():
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(woken.set)

    with scheduler.events.subscribe(job_id, wake) as events:
        # after subscribing, so that its end is not missed in between
        scheduler.events.tell(events, await asyncio.to_thread(scheduler.jobs.get, job_id))
        while True:
            woken.clear()
            while (event := _merged(events) if pause_s else events.next(0)) is not None:
                yield event
                if event.job.over:
                    return
                await asyncio.sleep(pause_s)
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


def _merged(events: Subscription) -> Event | None:
    """All that waits, as one event; None for nothing."""
    last, preview = None, None
    while (event := events.next(0)) is not None:
        last, preview = event, event.preview or preview
    return None if last is None else Event(last.job, preview)
