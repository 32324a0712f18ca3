"""Stops what the main thread computes from another thread, between any two operations.

A signal needs nothing of what it stops: it takes effect after the matrix product that is being computed, in
every backend, encoder and decoder, where a flag would have to be looked at in each of them.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Cancelled(BaseException):
    """The task is to stop. Like KeyboardInterrupt, it is nobody's to handle on the way."""


class Interrupt:
    """Raises Cancelled in the main thread, where it must be made, once it is asked to."""

    def __init__(self) -> None:
        self._asked = self._armed = False
        signal.signal(signal.SIGUSR1, self._handle)

    def reset(self) -> None:
        """Forget that it was asked; for a new task."""
        self._asked = False

    def ask(self) -> None:
        """Stop the main thread now if it is within ``armed``, else when it gets there."""
        self._asked = True
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGUSR1)

    def check(self) -> None:
        """Raises Cancelled if it was asked; a destructor may have swallowed the first one."""
        if self._asked:
            raise Cancelled

    @contextmanager
    def armed(self) -> Iterator[None]:
        """What happens within can be stopped anywhere."""
        self._armed = True
        try:
            self.check()
            yield
        finally:
            self._armed = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """What happens within is done to its end, and then stopped."""
        armed, self._armed = self._armed, False
        try:
            yield
        finally:
            self._armed = armed
        if armed:
            self.check()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._armed:
            self.check()
