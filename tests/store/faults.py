"""Fails the n-th system call that changes a file, as SQLite's crash tests do (sqlite.org/testing.html)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CALLS = ("open", "write", "fsync", "replace", "unlink", "mkdir", "rmdir", "fchmod")


class Killed(BaseException):
    """The process has died: nothing after it, not even cleaning up, reaches the disk."""


class Faults:
    """Counts calls; the ``fail_at``-th fails with a full disk, from the ``die_at``-th on all of them die."""

    def __init__(self, fail_at: int = 0, die_at: int = 0) -> None:
        self.count, self.fail_at, self.die_at = 0, fail_at, die_at

    def wrap(self, name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            if name == "open" and not args[1] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
                return real(*args, **options)
            self.count += 1
            if self.die_at and self.count >= self.die_at:
                if name == "write" and self.count == self.die_at:
                    real(args[0], args[1][: len(args[1]) // 2])  # died half-way
                raise Killed
            if self.count == self.fail_at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **options)

        return call

    @contextmanager
    def active(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, self.wrap(name))
            yield


class Witness:
    """Notes what was written, synced and renamed, to see that nothing is named before it is synced."""

    def __init__(self) -> None:
        self.unsynced: set[str] = set()
        self.folders: set[str] = set()
        self.renamed = 0
        self.problems: list[str] = []

    @contextmanager
    def active(self) -> Iterator[None]:
        write, fsync, replace = os.write, os.fsync, os.replace

        def note_write(descriptor: int, data: Any) -> int:
            self.unsynced.add(path_of(descriptor))
            return write(descriptor, data)

        def note_fsync(descriptor: int) -> None:
            fsync(descriptor)
            self.unsynced.discard(path_of(descriptor))
            self.folders.discard(path_of(descriptor))

        def note_replace(source: Any, target: Any, **options: Any) -> None:
            if str(source) in self.unsynced:
                self.problems.append(f"{target} named before it was synced")
            if "manifests" in Path(target).parts and self.folders:
                self.problems.append(f"{target} written while {self.folders} could still be lost")
            replace(source, target, **options)
            self.renamed += 1
            self.folders.add(str(Path(target).parent))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "write", note_write)
            patch.setattr(os, "fsync", note_fsync)
            patch.setattr(os, "replace", note_replace)
            yield


def path_of(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())
