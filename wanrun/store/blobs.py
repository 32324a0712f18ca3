"""Blobs: files named by the sha256 of their bytes, written once and never changed.

A user's file is brought in as a clone that shares its disk blocks where the file system can do that (FICLONE:
btrfs, XFS), else as a copy. It is never hard-linked: whoever then edits the file in place would change a blob
under its digest. Blobs are read-only, and a name is given only to bytes that have been hashed and synced.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wanrun.errors import InvalidRequest, ModelNotFound, StoreError
from wanrun.store.digest import Digest
from wanrun.store.durable import publish, store_errors, temporary, write_all, write_file
from wanrun.types import Progress

_CHUNK = 1 << 22
_SOUND = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
_FICLONE = 0x40049409  # linux/fs.h, _IOW(0x94, 9, int)


def blob_path(folder: Path, digest: Digest) -> Path:
    """Where the blob of ``digest`` lies, whether it is there or not."""
    return folder / digest.file_name


def has_blob(folder: Path, digest: Digest, size: int) -> bool:
    """Whether the blob is there, all ``size`` bytes of it, and not condemned."""
    try:
        status = blob_path(folder, digest).stat()
    except OSError:
        return False
    sound = stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IRUSR
    return bool(sound) and status.st_size == size


def condemn(descriptor: int) -> None:
    """Marks the open blob as damaged by taking away the right to read it.

    It then counts as missing: nothing runs with it, and making its bundle again replaces it.
    """
    with suppress(OSError):  # a store that is read-only
        os.fchmod(descriptor, stat.S_IWUSR)


def absolve(descriptor: int) -> None:
    """Takes back :func:`condemn`, for a blob that has the right bytes after all."""
    with suppress(OSError):
        os.fchmod(descriptor, _SOUND)


def add_bytes(folder: Path, data: bytes) -> Digest:
    """Stores ``data`` unless it is there already."""
    digest = Digest.of(data)
    if not has_blob(folder, digest, len(data)):
        with store_errors(f"cannot write to {folder}"):
            write_file(blob_path(folder, digest), data)
    return digest


def add_file(folder: Path, source: Path, progress: Progress) -> tuple[Digest, int]:
    """Stores the bytes of ``source`` unless they are there already; returns their digest and number.

    Raises ModelNotFound or InvalidRequest when the file cannot be read, StoreError when it cannot be stored.
    """
    own = Digest.of_file_name(source.name) if source.parent == folder else None
    with opened(source) as descriptor:
        size = os.fstat(descriptor).st_size
        if own is not None:
            if not has_blob(folder, own, size):
                raise StoreError(f"{source} is damaged: make the model that it is from again")
            return own, size
        with store_errors(f"cannot bring {source} into the store"):
            return _add(folder, descriptor, source.name, progress), size


def read_blob(folder: Path, digest: Digest, size: int) -> bytes | None:
    """A small blob's bytes, or None when it is missing or its bytes have changed."""
    try:
        with blob_path(folder, digest).open("rb") as file:
            data = file.read(size + 1)
    except OSError:
        return None
    return data if Digest.of(data) == digest else None


def _add(folder: Path, source: int, label: str, progress: Progress) -> Digest:
    with temporary(folder) as (target, path):
        if _clone(source, target):
            digest = _hash(target, f"reading {label}", progress)
        else:
            digest = _hash(source, f"reading {label}", progress)
            if has_blob(folder, digest, os.fstat(source).st_size):
                return digest
            digest = _hash(source, f"copying {label}", progress, target)
        if not has_blob(folder, digest, os.fstat(target).st_size):
            os.fchmod(target, _SOUND)
            publish(target, path, blob_path(folder, digest))
        return digest


def _clone(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def _hash(source: int, phase: str, progress: Progress, target: int | None = None) -> Digest:
    """The digest of what is read from ``source``, copied to ``target`` on the way."""
    sha256, done, total = hashlib.sha256(), 0, os.fstat(source).st_size
    os.lseek(source, 0, os.SEEK_SET)
    while chunk := os.read(source, _CHUNK):
        sha256.update(chunk)
        if target is not None:
            write_all(target, chunk)
        done += len(chunk)
        progress(phase, done, total)
    return Digest(sha256.hexdigest())


@contextmanager
def opened(source: Path) -> Iterator[int]:
    """The regular file ``source``, open for reading. Raises ModelNotFound and InvalidRequest."""
    try:
        # Opening a pipe must not wait for a writer.
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ModelNotFound(f"no such file: {source}") from error
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"cannot read {source}: {error}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidRequest(f"{source} is not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)
