"""Keeps encoded prompts on disk, so that a known prompt needs no encoder at all."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wanrun.text.keys import context_path
from wanrun.types import Resource, TextEncoder

_SHAPE = struct.Struct("<II")
_HASH_BYTES = 32


class CachedEncoder(Resource):
    """A TextEncoder that opens the real one at the first prompt that ``folder`` does not have.

    A context is found by the encoder's ``digest`` and the prompt. Above ``limit`` bytes the least recently
    used are deleted; a damaged file is as good as none. Any number of processes may share the folder.
    """

    def __init__(self, opener: Callable[[], TextEncoder], digest: str, folder: Path, limit: int) -> None:
        self._opener, self._digest, self._folder, self._limit = opener, digest, folder, limit
        self._opened: TextEncoder | None = None

    def tokenize(self, text: str) -> list[int]:
        """As the real encoder, which this opens."""
        return self._encoder().tokenize(text)

    def encode(self, text: str) -> Tensor:
        """(tokens ≤ 512, width) float32 on the CPU, the same bits as when it was first encoded."""
        path = context_path(self._folder, self._digest, text)
        known = _read(path)
        if known is not None:
            return known
        rows = self._encoder().encode(text)
        with suppress(OSError):  # a full disk or a home that cannot be written costs only the cache
            _write(path, rows)
            _evict(self._folder, self._limit)
        return rows

    def close(self) -> None:
        """Close the real encoder if it was opened."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _encoder(self) -> TextEncoder:
        if self._opened is None:
            self._opened = self._opener()
        return self._opened


def _read(path: Path) -> Tensor | None:
    try:
        data = path.read_bytes()
        os.utime(path)  # it was used
    except OSError:
        return None
    body = data[_HASH_BYTES:]
    if len(body) < _SHAPE.size or hashlib.sha256(body).digest() != data[:_HASH_BYTES]:
        return None
    rows, width = _SHAPE.unpack_from(body)
    values = np.frombuffer(body, "<f4", offset=_SHAPE.size).astype(np.float32)
    return torch.from_numpy(values.reshape(rows, width))


def _write(path: Path, rows: Tensor) -> None:
    body = _SHAPE.pack(*rows.shape) + rows.numpy().astype("<f4").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, fresh = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(body).digest() + body)
        Path(fresh).replace(path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise


def _evict(folder: Path, limit: int) -> None:
    entries = []
    for path in folder.iterdir():
        with suppress(OSError):  # another process was faster
            status = path.stat()
            entries.append((status.st_mtime, status.st_size, path))
    excess = sum(size for _, size, _ in entries) - limit
    for _, size, path in sorted(entries):
        if excess <= 0:
            return
        path.unlink(missing_ok=True)
        excess -= size
