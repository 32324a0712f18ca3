"""Tells clients when to ask again, so that however many there are, asking takes little of the machine."""

from __future__ import annotations

import os
import threading
import time

#: Calls a second for each processor that all clients together should make, and for how long they are counted.
_CALLS = 12.0
_WINDOW_S = 1.0
_MOST = 60.0
_LATEST_MS = 30_000


class Polling:
    """Counts status calls, and stretches the time between them when there are too many."""

    def __init__(self, calls_a_second: float | None = None) -> None:
        self._enough = calls_a_second or _CALLS * (os.cpu_count() or 1)
        self._lock = threading.Lock()
        self._since, self._calls, self._stretch = time.monotonic(), 0, 1.0

    def after_ms(self, usual_ms: int, now: float | None = None) -> int:
        """Count a call, whose client would ask again in ``usual_ms``; when it should. ``now`` is in s."""
        now = time.monotonic() if now is None else now
        with self._lock:
            self._calls += 1
            elapsed = now - self._since
            if elapsed >= _WINDOW_S:
                # they came as often as they were told to: so many times longer, and they are not too many
                wanted = self._stretch * self._calls / elapsed / self._enough
                self._since, self._calls, self._stretch = now, 0, min(_MOST, max(1.0, wanted))
            return min(_LATEST_MS, round(usual_ms * self._stretch))
