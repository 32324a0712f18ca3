"""Keeps worker processes by model, and ends those that are not needed any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from wanrun.runtime.process import Process


@dataclass(frozen=True, slots=True)
class Loaded:
    """A worker as it is now; ``expires`` is in seconds since 1970, None while it is busy or for never."""

    model: str
    pid: int
    busy: bool
    expires: float | None


@dataclass(slots=True)
class _Kept:
    process: Process
    busy: bool = True
    used: float = 0.0
    keep_s: float = 0.0

    @property
    def over(self) -> bool:
        return not self.busy and 0 <= self.keep_s <= time.time() - self.used


class Workers:
    """At most ``most`` workers, busy ones apart: the one that was not used for longest makes room."""

    def __init__(self, most: int, start: Callable[[], Process] = Process) -> None:
        self._most, self._start = most, start
        self._lock = threading.RLock()
        self._kept: dict[str, _Kept] = {}

    def take(self, model: str) -> Process:
        """The model's worker, for the caller alone until ``give``; a new one if there is none or it died."""
        with self._lock:
            kept = self._kept.get(model)
            if kept is not None and not kept.busy and kept.process.alive:
                kept.busy = True
                return kept.process
            self._end(model)
            while len(self._kept) >= self._most and (idle := self._idle()):
                self._end(idle[0])
            process = self._start()
            self._kept[model] = _Kept(process)
            return process

    def give(self, model: str, keep_s: float) -> None:
        """The caller is done with it: it ends in ``keep_s`` seconds, or never if that is negative."""
        with self._lock:
            kept = self._kept[model]
            kept.busy, kept.used = False, time.time()
            # it may have been told to stop while it was busy
            kept.keep_s = 0.0 if kept.keep_s == _STOP else keep_s
        self.expire()

    def load(self, model: str, keep_s: float) -> None:
        """See to it that the model has a worker, as if it had just been used; a busy one has other plans."""
        with self._lock:
            kept = self._kept.get(model)
            if kept is None or not kept.busy:
                self.take(model)
                self.give(model, keep_s)

    def stop(self, model: str) -> bool:
        """End the model's worker now, or once it is done; whether there is one."""
        with self._lock:
            kept = self._kept.get(model)
            if kept is None:
                return False
            if kept.busy:
                kept.keep_s = _STOP
            else:
                self._end(model)
            return True

    def expire(self) -> None:
        """End those whose time is over, and forget those that died."""
        with self._lock:
            for model, kept in list(self._kept.items()):
                if kept.over or not (kept.busy or kept.process.alive):
                    self._end(model)

    def loaded(self) -> tuple[Loaded, ...]:
        """Those that there are, the one that was used last first."""
        with self._lock:
            kept = sorted(self._kept.items(), key=lambda each: (each[1].busy, each[1].used), reverse=True)
            return tuple(
                Loaded(
                    model,
                    each.process.pid,
                    each.busy,
                    None if each.busy or each.keep_s < 0 else each.used + each.keep_s,
                )
                for model, each in kept
            )

    def close(self) -> None:
        """End all of them, also those that are busy."""
        with self._lock:
            for model in list(self._kept):
                self._end(model)

    def _idle(self) -> list[str]:
        """Models whose worker has nothing to do, the one that was used first first."""
        idle = [model for model, kept in self._kept.items() if not kept.busy]
        return sorted(idle, key=lambda model: self._kept[model].used)

    def _end(self, model: str) -> None:
        kept = self._kept.pop(model, None)
        if kept is not None:
            kept.process.close()


#: Instead of seconds to keep a worker that is busy: end it once it is done.
_STOP = float("-inf")
