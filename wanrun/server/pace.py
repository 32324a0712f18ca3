"""How fast a job goes, from its last steps: the first ones of a resumed run take no time."""

from __future__ import annotations

import time
from collections import deque

from wanrun.server.claims import Advance

#: Steps that count.
_RECENT = 8


class Pace:
    """Turns a job's reports into how far it is, how fast, and how long it will take."""

    def __init__(self) -> None:
        self._phase = ""
        self._seen: deque[tuple[float, int]] = deque(maxlen=_RECENT)

    def advance(self, phase: str, done: int, total: int, now: float | None = None) -> Advance:
        """Where the job is with ``done`` of ``total``, 0 for unknown; ``now`` is the monotonic time in s."""
        now = time.monotonic() if now is None else now
        if phase != self._phase:
            self._phase = phase
            self._seen.clear()
        self._seen.append((now, done))
        since, first = self._seen[0]
        elapsed_s = now - since
        if done <= first or elapsed_s <= 0:
            return Advance(phase, done, total)
        rate = (done - first) / elapsed_s
        return Advance(phase, done, total, rate, max(0, total - done) / rate if total else None)
