"""Deletes blobs that no bundle needs any more: mark from the manifests, sweep the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from wanrun.errors import ModelNotFound, StoreError
from wanrun.store import lock, manifests
from wanrun.store.digest import Digest
from wanrun.store.durable import is_temporary


def sweep(home: Path) -> int | None:
    """Deletes unreferenced blobs and what interrupted writes left; returns how many files went.

    None, with nothing deleted, when another process holds the store (its own sweep comes later), or when a
    damaged manifest hides what it needs. Files that are not ours stay.
    """
    with lock.alone(home) as free:
        if not free:
            return None
        try:
            needed = _needed(home / "manifests")
        except StoreError:
            return None
        removed = _remove(_unneeded(home / "blobs", needed))
        removed += _remove(path for path in _below(home / "manifests") if is_temporary(path.name))
        for folder in sorted(_folders(home / "manifests"), reverse=True):
            with suppress(OSError):  # not empty
                folder.rmdir()
        return removed


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


def _below(folder: Path) -> list[Path]:
    return [Path(base, file) for base, _, files in os.walk(folder) for file in files]


def _folders(folder: Path) -> list[Path]:
    return [Path(base, child) for base, children, _ in os.walk(folder) for child in children]


def _remove(paths: Iterator[Path]) -> int:
    gone = 0
    for path in list(paths):
        with suppress(OSError):  # a folder of that name, or a store that is read-only, must not stop the rest
            path.unlink()
            gone += 1
    return gone
