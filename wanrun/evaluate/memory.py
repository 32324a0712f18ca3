"""Watches how much memory this process takes, so that models can be compared."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

import torch

_EVERY_S = 0.02


class Peak:
    """Inside it, ``nbytes`` grows to the most memory that was taken: the process's own, and a GPU's.

    Mapped files do not count, as the system can drop them. 0 where the system does not say.
    """

    def __init__(self, device: str) -> None:
        self.nbytes = 0
        self._cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
        self._over = Event()
        self._watcher = Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_S):
            self.nbytes = max(self.nbytes, anonymous_bytes())

    def __enter__(self) -> Self:
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        self.nbytes = anonymous_bytes()
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._watcher.join()
        self.nbytes = max(self.nbytes, anonymous_bytes())
        if self._cuda:
            self.nbytes += torch.cuda.max_memory_allocated()


def anonymous_bytes() -> int:
    """Memory of this process that is in no file, 0 where the system does not say."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0
