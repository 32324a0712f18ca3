"""Frames the messages between the caller and the encoder's process: kind, length, payload."""

from __future__ import annotations

import struct
from typing import IO

#: Caller to worker: token ids, int32 in native byte order.
IDS = b"I"
#: Worker to caller, once, when the model is loaded: its width as uint32.
READY = b"R"
#: Worker to caller: the rows, float32 in native byte order.
ROWS = b"V"
#: Caller to a language model's worker, and its answer: JSON in UTF-8.
ASK, SAID = b"Q", b"S"
#: Worker to caller: why it could not, UTF-8.
ERROR = b"E"

#: Far above 512 rows of the widest encoder, and small enough to allocate if the stream is garbage.
MAX_PAYLOAD = 1 << 28
_HEADER = struct.Struct("=cI")


def write_frame(stream: IO[bytes], kind: bytes, payload: bytes) -> None:
    """Send one message. Raises OSError when the other side is gone."""
    stream.write(_HEADER.pack(kind, len(payload)) + payload)
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[bytes, bytes] | None:
    """The next (kind, payload); None when the other side is gone or sends what is not a frame."""
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    kind, length = _HEADER.unpack(header)
    if length > MAX_PAYLOAD:
        return None
    payload = stream.read(length)
    return (kind, payload) if len(payload) == length else None
