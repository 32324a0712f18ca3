"""A file that is asked for early is in the page cache when it is mapped."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from pathlib import Path

import numpy as np

from wanrun.gguf.mapping import map_file, prefetch


def evict(path: Path) -> None:
    """Drop ``path`` from the page cache, where its file system has one beside its storage."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached(path: Path) -> int:
    """Pages of ``path`` in the page cache."""
    mapping = map_file(path)
    pages = -(-len(mapping) // mmap.PAGESIZE)
    found = (ctypes.c_ubyte * pages)()
    address = np.frombuffer(mapping, np.uint8).ctypes.data
    mincore = ctypes.CDLL(None, use_errno=True).mincore
    mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    assert mincore(address, len(mapping), found) == 0, os.strerror(ctypes.get_errno())
    return sum(page & 1 for page in found)


def wait_until_cached(path: Path) -> bool:
    """Whether a page comes within 30 seconds."""
    end = time.monotonic() + 30
    while not cached(path) and time.monotonic() < end:
        time.sleep(0.01)
    return cached(path) > 0


def test_pages_come_before_they_are_touched(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 20))
    evict(path)
    prefetch(path)
    assert wait_until_cached(path)


def test_what_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    prefetch(tmp_path / "none")
    prefetch(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    prefetch(tmp_path / "pipe")  # and does not wait for a writer
