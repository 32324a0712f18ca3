"""The store's lock between processes: many may add and read, one alone may delete blobs.

Whoever adds blobs or needs them to stay holds the lock shared; the sweep takes it alone, and only if nobody
holds it, so no operation ever waits for a long one. The system drops the lock of a process that dies.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wanrun.store.durable import make_folder, store_errors


@contextmanager
def shared(home: Path) -> Iterator[None]:
    """While this is held, no blob is deleted. Waits while a sweep is running, which is short."""
    descriptor = _open(home)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def alone(home: Path) -> Iterator[bool]:
    """Yields whether the store is ours alone for now; False at once when somebody holds it."""
    descriptor = _open(home)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        free = True
    except BlockingIOError:
        free = False
    try:
        yield free
    finally:
        os.close(descriptor)


def _open(home: Path) -> int:
    with store_errors(f"cannot lock the store at {home}"):
        make_folder(home)
        return os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
