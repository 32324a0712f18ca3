"""Counts requests by whom they come from: a bucket of tokens for each address."""

from __future__ import annotations

import time
from collections import OrderedDict

#: Addresses that are remembered; the one that asked longest ago is forgotten first.
_MOST = 4096


class Rates:
    """Lets each address make ``per_second`` requests a second for long, and ten times as many at once."""

    def __init__(self, per_second: int) -> None:
        self._per_second, self._room = per_second, 10.0 * per_second
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, address: str, now: float | None = None) -> bool:
        """Count a request of ``address``; whether it may be answered. ``now`` is the monotonic time in s."""
        now = time.monotonic() if now is None else now
        left, since = self._left.pop(address, (self._room, now))
        left = min(self._room, left + (now - since) * self._per_second)
        allowed = left >= 1
        self._left[address] = (left - allowed, now)
        if len(self._left) > _MOST:
            self._left.popitem(last=False)
        return allowed
