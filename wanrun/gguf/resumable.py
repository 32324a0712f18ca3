"""Writes a large GGUF file so that an interruption loses little: what is finished waits for the next try.

The unfinished file lies beside its place under a name made of what it will be, so that another job never
goes on with it. It begins with ``PART`` and the number of bytes that have reached the disk instead of
GGUF's first sixteen, which come last: no reader takes it for a model, wherever it ends up.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from wanrun.errors import FormatError, InvalidRequest, StoreError
from wanrun.gguf.writer import gguf_head, sync_folder, tensor_bytes

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from wanrun.gguf.writer import Data

    #: Name, type, shape in torch's order.
    Entry: TypeAlias = "tuple[str, str, Sequence[int]]"
    #: The data of the entries from the given one on, in order, in pieces that each belong to one entry.
    Pieces: TypeAlias = "Callable[[int], Iterable[Data]]"

_MARK = struct.Struct("<4s4xQ")


def write_resumable(
    path: Path,
    job: bytes,
    metadata: Mapping[str, object],
    entries: Sequence[Entry],
    pieces: Pieces,
    progress: Callable[[int, int], None],
) -> None:
    """Write a GGUF file; a reader sees the old ``path`` or the whole new one, never a part.

    ``job`` is whatever else decides the data: the part of an interrupted call with the same ``job``,
    metadata and entries is gone on with. ``progress`` gets the bytes that are written and how many there
    will be. Raises InvalidRequest for what the format cannot hold, or when another process writes the same
    file; StoreError when the disk is too small, before anything is written, or full.
    """
    head, alignment = gguf_head(metadata, [(*entry, b"") for entry in entries])
    ends = [len(head)]
    for name, kind, shape in entries:
        ends.append(ends[-1] + -(-tensor_bytes(name, kind, shape) // alignment) * alignment)
    if not path.parent.is_dir():
        raise InvalidRequest(f"there is no folder {path.parent} to write {path.name} to")
    part = path.with_name(f".{path.name}.{hashlib.sha256(head + job).hexdigest()[:16]}.part")
    _remove_others(path, part)
    _check_space(path, ends[-1] - (part.stat().st_size if part.exists() else 0))
    with _opened(part) as descriptor:
        try:
            _Part(descriptor, head, ends).write(entries, pieces, progress)
        except (InvalidRequest, FormatError):  # which repeating does not mend
            part.unlink()
            raise
        part.replace(path)
    sync_folder(path.absolute().parent)


@contextmanager
def _opened(part: Path) -> Iterator[int]:
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StoreError(f"{part} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    except BlockingIOError as error:
        raise InvalidRequest(f"another process is writing {part}; wait for it or stop it") from error
    except OSError as error:
        raise StoreError(
            f"{part} cannot be written: {error.strerror}; what is finished is kept, the same command goes on"
        ) from error
    finally:
        os.close(descriptor)


def _remove_others(path: Path, part: Path) -> None:
    """Parts of other jobs for the same place, which nobody will finish."""
    start = f".{path.name}."
    for other in path.absolute().parent.iterdir():
        middle = other.name.removeprefix(start).removesuffix(".part")
        if other.name == f"{start}{middle}.part" and len(middle) == 16 and other.name != part.name:
            with _opened(other):
                other.unlink(missing_ok=True)


def _finished(descriptor: int, ends: Sequence[int]) -> int:
    """How many entries a part holds for sure."""
    start = os.pread(descriptor, _MARK.size, 0)
    if len(start) < _MARK.size:
        return 0
    mark, durable = _MARK.unpack(start)
    known = mark == b"PART" and durable in ends and durable <= os.fstat(descriptor).st_size
    return bisect_right(ends, durable) - 1 if known else 0


def _check_space(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.absolute().parent).free
    if needed > free:
        raise StoreError(f"{path} needs {needed:,} more bytes and {free:,} are free on its disk")


class _Part:
    """The unfinished file. A thread brings finished entries to the disk and then notes them."""

    def __init__(self, descriptor: int, head: bytes, ends: Sequence[int]) -> None:
        self.descriptor, self.head, self.ends = descriptor, head, ends
        self.done = _finished(descriptor, ends)
        self._noted: Future[None] | None = None

    def write(self, entries: Sequence[Entry], pieces: Pieces, progress: Callable[[int, int], None]) -> None:
        os.ftruncate(self.descriptor, self.ends[self.done])
        self._put(self.head[_MARK.size :], _MARK.size)
        with ThreadPoolExecutor(1) as notes:
            try:
                self._write_all(entries, pieces, progress, notes)
            finally:
                notes.submit(self._note, self.done).result()
        os.pwrite(self.descriptor, self.head[: _MARK.size], 0)
        os.fsync(self.descriptor)

    def _write_all(
        self,
        entries: Sequence[Entry],
        pieces: Pieces,
        progress: Callable[[int, int], None],
        notes: ThreadPoolExecutor,
    ) -> None:
        data = iter(pieces(self.done))
        for name, kind, shape in entries[self.done :]:
            position, left = self.ends[self.done], tensor_bytes(name, kind, shape)
            while left:
                piece = next(data, None)
                if piece is None or _nbytes(piece) > left:
                    raise InvalidRequest(
                        f"tensor {name!r}: {kind} of shape {tuple(shape)} has {left} bytes left"
                    )
                position, left = self._put(piece, position), left - _nbytes(piece)
                progress(position, self.ends[-1])
            self._put(bytes(self.ends[self.done + 1] - position), position)
            self.done += 1
            if self._noted is None or self._noted.done():
                self._noted = notes.submit(self._note, self.done)

    def _put(self, piece: Data, position: int) -> int:
        """Write all of ``piece``, however the system cuts it; return where it ends."""
        view = memoryview(cast("Buffer", piece)).cast("B")
        while view:
            written = os.pwrite(self.descriptor, view, position)
            position, view = position + written, view[written:]
        return position

    def _note(self, done: int) -> None:
        getattr(os, "fdatasync", os.fsync)(self.descriptor)
        os.pwrite(self.descriptor, _MARK.pack(b"PART", self.ends[done]), 0)


def _nbytes(piece: Data) -> int:
    return memoryview(cast("Buffer", piece)).nbytes
