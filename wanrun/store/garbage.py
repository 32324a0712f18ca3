"""Deletes blobs that no bundle needs any more: mark from the manifests and leases, sweep the rest."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from wanrun.errors import ModelNotFound, StoreError
from wanrun.store import leases, lock, manifests
from wanrun.store.digest import Digest
from wanrun.store.durable import is_temporary


def sweep(home: Path) -> int | None:
    """Collects what it may, silently; returns how many bytes that freed.

    None, with nothing deleted, when another process holds the store (its own sweep comes later), or when a
    damaged manifest hides what it needs.
    """
    try:
        return collect(home)
    except StoreError:
        return None


def collect(home: Path, everything: bool = False) -> int:
    """Deletes unreferenced blobs and what interrupted writes left; returns how many bytes that freed.

    What an unfinished pull has brought is spared for a week, unless ``everything`` is to go. Files that are
    not ours stay. Raises StoreError, with nothing deleted, when another process is at work in the store, or
    when a damaged manifest hides what it needs.
    """
    with lock.alone(home) as free:
        if not free:
            raise StoreError("another wanrun is at work in the store: try again when it is done")
        needed = _needed(home / "manifests")
        age_s = 0.0 if everything else leases.ABANDONED_S
        leases.expire(home, age_s)
        freed = _remove(_unneeded(home / "blobs", needed | leases.kept(home)))
        freed += _remove(path for path in _below(home / "manifests") if is_temporary(path.name))
        freed += _remove_downloads(home / "blobs", age_s)
        for folder in sorted([*_folders(home / "manifests"), *_folders(home / "leases")], reverse=True):
            with suppress(OSError):  # not empty
                folder.rmdir()
        return freed


def _needed(folder: Path) -> set[Digest]:
    needed: set[Digest] = set()
    for name in manifests.names(folder):
        with suppress(ModelNotFound):  # removed since it was listed
            needed |= manifests.read(folder, name).blobs.keys()
    return needed


def _unneeded(folder: Path, needed: set[Digest]) -> Iterator[Path]:
    if folder.is_dir():
        for path in folder.iterdir():
            digest = Digest.of_file_name(path.name)
            if is_temporary(path.name) or (digest is not None and digest not in needed):
                yield path


def _remove_downloads(blobs: Path, older_than_s: float) -> int:
    """Deletes half-finished downloads that nobody went on with for so long."""
    before = {path: _size(path) for path in blobs.glob(".pull-*")}
    if before:
        from wanrun.sources import parts  # with all of HTTP, which is not needed to list or remove

        parts.sweep(blobs, older_than_s)
    return sum(size for path, size in before.items() if not path.exists())


def _below(folder: Path) -> list[Path]:
    return [Path(base, file) for base, _, files in os.walk(folder) for file in files]


def _folders(folder: Path) -> list[Path]:
    return [Path(base, child) for base, children, _ in os.walk(folder) for child in children]


def _remove(paths: Iterable[Path]) -> int:
    freed = 0
    for path in list(paths):
        with suppress(OSError):  # a folder of that name, or a store that is read-only, must not stop the rest
            size = _size(path)
            path.unlink()
            freed += size
    return freed


def _size(path: Path) -> int:
    """Bytes on the disk: a half-finished download has holes."""
    try:
        status = path.lstat()
    except OSError:
        return 0
    return min(status.st_size, status.st_blocks * 512)
