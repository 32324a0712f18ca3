"""Tells any number of listeners what becomes of jobs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from wanrun.server.job import Job

#: Events that wait for a listener who is slow, before those in the middle are left out.
_WAITING = 32


@dataclass(frozen=True, slots=True)
class Event:
    """A job at some moment, and maybe a PNG of what its video looks like so far."""

    job: Job
    preview: bytes | None = None


class Subscription:
    """Iterates over events as they come, and ends after the end of its job or on ``close``.

    Whoever is slow loses progress, the oldest first, and never the end of a job. ``wake`` is called whenever
    there is something new, by the thread that brings it.
    """

    def __init__(self, events: Events, job_id: str | None, wake: Callable[[], object] = bool) -> None:
        self._events, self.job_id, self._wake = events, job_id, wake
        self._changed = threading.Condition()
        self._waiting: deque[Event] = deque()
        self._closed = False

    def __iter__(self) -> Iterator[Event]:
        while (event := self.next()) is not None:
            yield event

    def next(self, timeout_s: float | None = None) -> Event | None:
        """The next event; None at the end, or when there was none for ``timeout_s``: see ``over``."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, timeout_s)
            return self._waiting.popleft() if self._waiting else None

    @property
    def over(self) -> bool:
        """Whether there will be no more events."""
        with self._changed:
            return self._closed and not self._waiting

    def put(self, event: Event) -> None:
        """Have the listener told."""
        with self._changed:
            if self._closed:
                return
            if len(self._waiting) >= _WAITING:
                self._make_room()
            self._waiting.append(event)
            # one job's listener is done with its end; who has fallen behind by that many ends has gone
            self._closed = len(self._waiting) > _WAITING or (self.job_id is not None and event.job.over)
            self._changed.notify_all()
            closed = self._closed
        if closed:
            self._events.leave(self)
        self._wake()

    def close(self) -> None:
        """No more events; what iterates over them stops."""
        self._events.leave(self)
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        self._wake()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make_room(self) -> None:
        """Leave out the oldest event that is not the end of a job."""
        for index, event in enumerate(self._waiting):
            if not event.job.over:
                del self._waiting[index]
                return


class Events:
    """Where events are published; it keeps the last picture of each job that is not over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: set[Subscription] = set()
        self._previews: dict[str, bytes] = {}

    @property
    def listeners(self) -> int:
        """How many subscriptions there are."""
        with self._lock:
            return len(self._subscriptions)

    def subscribe(self, job_id: str | None = None, wake: Callable[[], object] = bool) -> Subscription:
        """What happens from now on to one job, or to all; ``wake`` is called when something did."""
        subscription = Subscription(self, job_id, wake)
        with self._lock:
            self._subscriptions.add(subscription)
        return subscription

    def publish(self, job: Job, preview: bytes | None = None) -> None:
        """Tell those who want to know; never waits for them."""
        with self._lock:
            if job.over:
                self._previews.pop(job.id, None)
            elif preview is not None:
                self._previews[job.id] = preview
            interested = [each for each in self._subscriptions if each.job_id in (None, job.id)]
        for subscription in interested:
            subscription.put(Event(job, preview))

    def tell(self, subscription: Subscription, job: Job) -> None:
        """Tell one listener what is the case, with the last picture if there is one."""
        with self._lock:
            preview = self._previews.get(job.id)
        subscription.put(Event(job, preview))

    def leave(self, subscription: Subscription) -> None:
        """The subscription wants no more."""
        with self._lock:
            self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End every subscription."""
        with self._lock:
            subscriptions = list(self._subscriptions)
        for subscription in subscriptions:
            subscription.close()
