"""Writing so that a crash at any point leaves the old file or the whole new one.

A file is written under a temporary name in its final folder, synced, renamed, and then the folder is synced.
Temporary names start with a dot, which no blob and no part of a bundle's name does.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wanrun.errors import StoreError

_TEMPORARY = ".part-"


@contextmanager
def store_errors(doing: str) -> Iterator[None]:
    """Turns an OSError within into a StoreError that says what was being done and what may help."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "; free some space or set WANRUN_HOME to another disk" if full else ""
        raise StoreError(f"{doing}: {error.strerror or error}{hint}") from error


def is_temporary(name: str) -> bool:
    """Whether a file of this name is what an interrupted write left."""
    # a writer of files puts another point before the name of what it has not finished
    return name.startswith((_TEMPORARY, f".{_TEMPORARY}"))


@contextmanager
def temporary(folder: Path) -> Iterator[tuple[int, Path]]:
    """A new file in ``folder``, open for writing, that is removed unless it was renamed."""
    path = scratch(folder)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        yield descriptor, path
    finally:
        os.close(descriptor)
        with suppress(FileNotFoundError):
            path.unlink()


def scratch(folder: Path) -> Path:
    """A name in ``folder`` for a temporary file that the collection of garbage removes."""
    make_folder(folder)
    return folder / f"{_TEMPORARY}{secrets.token_hex(8)}"


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Writes every byte, however few the system takes at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def publish(descriptor: int, path: Path, final: Path) -> None:
    """Gives the finished temporary file ``path`` its final name, for good."""
    os.fsync(descriptor)
    path.replace(final)
    sync_folder(final.parent)


def write_file(final: Path, data: bytes) -> None:
    """Replaces ``final`` by a file of ``data``."""
    with temporary(final.parent) as (descriptor, path):
        write_all(descriptor, data)
        publish(descriptor, path, final)


def make_folder(folder: Path) -> None:
    """Makes ``folder`` and its parents where they are missing, for good."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames and removals in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
