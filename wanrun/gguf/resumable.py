"""Writes a large model file so that an interruption loses little: what is finished waits for the next try.

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from wanrun.errors import FormatError, InvalidRequest, StoreError
from wanrun.gguf.writer import sync_folder

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from wanrun.gguf.writer import Data

    #: The data of the tensors from the given one on, in order, in pieces that each belong to one tensor.
    Pieces: TypeAlias = "Callable[[int], Iterable[Data]]"

_MARK = struct.Struct("<4s4xQ")


@dataclass(frozen=True, slots=True)
class Layout:
    """A file as it will be: all before the data, and each tensor's name, bytes, and end after filling."""

    head: bytes
    tensors: Sequence[tuple[str, int, int]]


def write_resumable(
    path: Path, job: bytes, layout: Layout, pieces: Pieces, progress: Callable[[int, int], None]
) -> None:
    """Write a file of tensors; a reader sees the old ``path`` or the whole new one, never a part.

    ``job`` is whatever else decides the data: the part of an interrupted call with the same ``job`` and
    head is gone on with. ``progress`` gets the bytes that are written and how many there will be. Raises
    InvalidRequest when the pieces do not fit the layout, or another process writes the same file;
    StoreError when the disk is too small, before anything is written, or full.
    """
    if not path.parent.is_dir():
        raise InvalidRequest(f"there is no folder {path.parent} to write {path.name} to")
    part = path.with_name(f".{path.name}.{hashlib.sha256(layout.head + job).hexdigest()[:16]}.part")
    _remove_others(path, part)
    ends = [len(layout.head), *(end for _, _, end in layout.tensors)]
    _check_space(path, ends[-1] - (part.stat().st_size if part.exists() else 0))
    with _opened(part) as descriptor:
        try:
            _Part(descriptor, layout, ends).write(pieces, progress)
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

    def __init__(self, descriptor: int, layout: Layout, ends: Sequence[int]) -> None:
        self.descriptor, self.layout, self.ends = descriptor, layout, ends
        self.done = _finished(descriptor, ends)
        self._noted: Future[None] | None = None

    def write(self, pieces: Pieces, progress: Callable[[int, int], None]) -> None:
        os.ftruncate(self.descriptor, self.ends[self.done])
        self._put(self.layout.head[_MARK.size :], _MARK.size)
        with ThreadPoolExecutor(1) as notes:
            try:
                self._write_all(pieces, progress, notes)
            finally:
                notes.submit(self._note, self.done).result()
        os.pwrite(self.descriptor, self.layout.head[: _MARK.size], 0)
        os.fsync(self.descriptor)

    def _write_all(
        self, pieces: Pieces, progress: Callable[[int, int], None], notes: ThreadPoolExecutor
    ) -> None:
        data = iter(pieces(self.done))
        for name, left, end in self.layout.tensors[self.done :]:
            position = self.ends[self.done]
            while left:
                piece = next(data, None)
                if piece is None or _nbytes(piece) > left:
                    raise InvalidRequest(
                        f"tensor {name!r}: its data are not as long as its type and shape say"
                    )
                position, left = self._put(piece, position), left - _nbytes(piece)
                progress(position, self.ends[-1])
            self._put(bytes(end - position), position)
            progress(end, self.ends[-1])
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
