"""Half-finished downloads on disk: the bytes so far, the journal of which they are, and who may go on.

``.pull-<key>`` in the blob folder holds the bytes at their final offsets, ``.pull-<key>.json`` says which of
them count. Whoever holds the lock on the first is downloading; the system drops it when the process dies. The
journal is written after the bytes that it counts are synced, so it never claims what a crash has lost.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wanrun.store.durable import make_folder, write_file

if TYPE_CHECKING:
    from wanrun.sources.remote import Remote  # with all of HTTP, which sweeping does not need

_PREFIX = ".pull-"
_JOURNAL = ".json"
_MAX_PIECES = 1 << 16
_MAX_JOURNAL = 1 << 23
_POLL_S = 0.1
#: Half-finished downloads that nobody went on with for this long are let go.
ABANDONED_S = 14 * 86_400.0


@dataclass(slots=True)
class Piece:
    """Bytes ``start`` up to ``stop`` (None while unknown) of a file; those before ``position`` are there."""

    start: int
    position: int
    stop: int | None

    @property
    def finished(self) -> bool:
        return self.position == self.stop


@dataclass(slots=True)
class Layout:
    """How a download is cut up, in order and without gaps; ``size`` is None until the server has said it."""

    size: int | None = None
    validator: str = ""
    pieces: list[Piece] = field(default_factory=list)

    @property
    def done(self) -> int:
        return sum(piece.position - piece.start for piece in self.pieces)

    @property
    def frontier(self) -> int:
        """Up to where every byte is there."""
        reached = 0
        for piece in list(self.pieces):
            reached = piece.position
            if not piece.finished:
                break
        return reached


def partial_path(blobs: Path, remote: Remote) -> Path:
    """Where the bytes so far lie: by digest, so that any url may bring the rest, else by url."""
    if remote.digest is not None:
        return blobs / f"{_PREFIX}{remote.digest.hex}"
    return blobs / f"{_PREFIX}url-{hashlib.sha256(remote.url.encode()).hexdigest()}"


@contextmanager
def claim(path: Path, waiting: Callable[[int, int], None]) -> Iterator[tuple[int, bool]]:
    """The partial file, locked, once nobody else has it; till then ``waiting`` is told (bytes, length).

    Yields the descriptor and whether it is ours to fill; when it is not, then whoever had it has finished it
    and given it its name. Raises OSError.
    """
    descriptor = -1
    try:
        while True:
            descriptor = _open(path)
            _wait(descriptor, waiting)
            status = os.fstat(descriptor)
            ours = _inode(path) == status.st_ino
            if ours or status.st_nlink:
                break
            os.close(descriptor)  # its holder has thrown it away
            descriptor = -1
        yield descriptor, ours
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def load(path: Path, descriptor: int) -> Layout:
    """What the journal counts of the partial file; an empty layout when it is missing or does not fit."""
    try:
        with _journal(path).open("rb") as file:
            found = json.loads(file.read(_MAX_JOURNAL))
        status = os.fstat(descriptor)
        layout = Layout(found["size"], found["validator"], [Piece(*piece) for piece in found["pieces"]])
        fits = found["inode"] == status.st_ino and _sound(layout, status.st_size)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return Layout()
    return layout if fits else Layout()


def save(path: Path, descriptor: int, layout: Layout) -> None:
    """Makes what is there now count: syncs the bytes, then writes the journal. Raises OSError."""
    pieces = [[piece.start, piece.position, piece.stop] for piece in list(layout.pieces)]
    os.fsync(descriptor)
    status = os.fstat(descriptor)
    journal = {"inode": status.st_ino, "size": layout.size, "validator": layout.validator, "pieces": pieces}
    write_file(_journal(path), json.dumps(journal).encode())


def forget(path: Path) -> None:
    """Removes the journal, so that the bytes count for nothing."""
    _journal(path).unlink(missing_ok=True)


def tidy(path: Path) -> None:
    """Removes the partial file, which the caller has claimed, unless some of it counts."""
    if not _journal(path).exists():
        path.unlink(missing_ok=True)


def discard(path: Path) -> None:
    """Removes the partial file, which the caller has claimed, and its journal."""
    forget(path)
    path.unlink(missing_ok=True)


def sweep(blobs: Path, older_than_s: float = ABANDONED_S) -> int:
    """Removes half-finished downloads that nobody is at and that are older; returns how many files went."""
    gone = 0
    for path in sorted(blobs.glob(f"{_PREFIX}*")):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime < older_than_s:
                continue
            if path.name.endswith(_JOURNAL):
                if not path.with_suffix("").exists():
                    path.unlink()
                    gone += 1
            else:
                gone += _discard_free(path)
    return gone


def _journal(path: Path) -> Path:
    return path.with_name(path.name + _JOURNAL)


def _open(path: Path) -> int:
    make_folder(path.parent)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except PermissionError:
        path.chmod(0o600)  # finished by a process that died before it gave the file its name
        return os.open(path, flags, 0o600)


def _wait(descriptor: int, waiting: Callable[[int, int], None]) -> None:
    while not _lock(descriptor):
        status = os.fstat(descriptor)
        waiting(min(status.st_blocks * 512, status.st_size), status.st_size)
        time.sleep(_POLL_S)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _discard_free(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not _lock(descriptor):
            return 0
        files = 1 + _journal(path).exists()
        discard(path)
        return files
    finally:
        os.close(descriptor)


def _inode(path: Path) -> int | None:
    try:
        return path.stat(follow_symlinks=False).st_ino
    except FileNotFoundError:
        return None


def _sound(layout: Layout, length: int) -> bool:
    """Whether the pieces cover the file in order and count no byte that cannot be there."""
    size, reached = layout.size, 0
    if type(size) is not int or not isinstance(layout.validator, str) or len(layout.pieces) > _MAX_PIECES:
        return False
    for piece in layout.pieces:
        numbers = (piece.start, piece.position, piece.stop)
        if not all(type(number) is int for number in numbers) or piece.start != reached:
            return False
        reached = piece.stop or 0
        if not piece.start <= piece.position <= reached or (piece.start < piece.position > length):
            return False
    return reached == size
