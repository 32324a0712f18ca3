"""Reads safetensors headers, trusting nothing in them.

The format is that of the ``safetensors`` README: eight bytes of length, a JSON object, the data. The JSON is
walked entry by entry over the mapped file instead of being parsed whole, so a hostile header costs no more
memory than its own bytes. Stricter than the library, always where a file would mean two things or cost too
much: the first byte must be ``{``, names and fields may not repeat, an entry has exactly its three fields,
and the limits below hold.
"""

from __future__ import annotations

import json
import math
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wanrun.errors import FormatError
from wanrun.gguf.layout import Header, TensorInfo, Value
from wanrun.gguf.mapping import map_file
from wanrun.gguf.types import SAFETENSORS_TYPES

MAX_HEADER_BYTES = 100_000_000
MAX_TENSORS = 32_768
MAX_NAME_BYTES = 1024
MAX_METADATA_BYTES = 8 << 20
MAX_DIMENSIONS = 8
MAX_DIMENSION = 1 << 40

_SPACE = re.compile(rb"[ \t\n\r]*+")
_STRING = re.compile(
    rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"',
)
_ENTRY = re.compile(rb"\{[^{}]{0,512}+\}")
_FIELDS = {"dtype", "shape", "data_offsets"}


@dataclass(slots=True)
class _Cursor:
    """A place in the JSON text, which ends at ``end``."""

    data: mmap.mmap
    path: Path
    position: int
    end: int


def read_safetensors(path: Path) -> Header:
    """The header of the safetensors file at ``path``, tensors in the order of their data.

    FormatError says what is wrong with a bad one.
    """
    with map_file(path) as data:
        size = int.from_bytes(data[:8], "little")
        if len(data) < 8 or size > min(MAX_HEADER_BYTES, len(data) - 8):
            problem = f"{path}: its header would take {size} bytes of a file of {len(data)}"
            raise FormatError(f"{problem}; it is cut short or no safetensors file")
        cursor = _Cursor(data, path, 8, 8 + size)
        metadata, infos = _walk(cursor)
        return Header(path, "safetensors", metadata, _placed(cursor, infos))


def _bad(cursor: _Cursor, problem: str) -> FormatError:
    return FormatError(f"{cursor.path}: {problem}")


def _walk(cursor: _Cursor) -> tuple[dict[str, Value], dict[str, TensorInfo]]:
    metadata: dict[str, Value] | None = None
    tensors: dict[str, TensorInfo] = {}
    if cursor.data[8:9] != b"{":
        raise _bad(cursor, f"its header begins with {cursor.data[8:9]!r} instead of a brace")
    for name in _keys(cursor):
        if name == "__metadata__" and metadata is None:
            metadata = _metadata(cursor)
        elif name in tensors or name == "__metadata__":
            raise _bad(cursor, f"its header has two entries {name!r}")
        elif len(tensors) == MAX_TENSORS:
            raise _bad(cursor, f"it has more than {MAX_TENSORS} tensors")
        else:
            tensors[name] = _tensor(cursor, name)
    _spaces(cursor)
    if cursor.position != cursor.end:
        raise _bad(cursor, f"its header goes on after its closing brace, at byte {cursor.position}")
    return metadata or {}, tensors


def _keys(cursor: _Cursor) -> Iterator[str]:
    """The keys of the object that begins here; whoever asks for the next has read the value before."""
    _expect(cursor, b"{")
    if _peek(cursor) == b"}":
        cursor.position += 1
        return
    while True:
        key = _string(cursor, MAX_NAME_BYTES)
        _expect(cursor, b":")
        yield key
        if _peek(cursor) == b"}":
            cursor.position += 1
            return
        _expect(cursor, b",")


def _spaces(cursor: _Cursor) -> None:
    match = _SPACE.match(cursor.data, cursor.position, cursor.end)
    cursor.position = match.end() if match else cursor.position


def _peek(cursor: _Cursor) -> bytes:
    _spaces(cursor)
    return cursor.data[cursor.position : min(cursor.position + 1, cursor.end)]


def _expect(cursor: _Cursor, mark: bytes) -> None:
    found = _peek(cursor)
    if found != mark:
        raise _bad(cursor, f"its header has {found!r} at byte {cursor.position} where {mark!r} belongs")
    cursor.position += 1


def _string(cursor: _Cursor, most: int) -> str:
    _spaces(cursor)
    match = _STRING.match(cursor.data, cursor.position, cursor.end)
    if match is None:
        raise _bad(cursor, f"its header has no string at byte {cursor.position} where one belongs")
    if match.end() - match.start() > most + 2:
        raise _bad(cursor, f"the string at byte {cursor.position} is longer than {most} bytes")
    try:
        text: str = json.loads(match.group().decode())
        text.encode()  # half of a surrogate pair is no character
    except UnicodeError:
        raise _bad(cursor, f"the string at byte {cursor.position} is not UTF-8") from None
    cursor.position = match.end()
    return text


def _metadata(cursor: _Cursor) -> dict[str, Value]:
    """Strings by key; null counts as none, as in the library."""
    _spaces(cursor)
    if cursor.data[cursor.position : min(cursor.position + 4, cursor.end)] == b"null":
        cursor.position += 4
        return {}
    metadata: dict[str, Value] = {}
    start = cursor.position
    for key in _keys(cursor):
        left = MAX_METADATA_BYTES - (cursor.position - start)
        if key in metadata:
            raise _bad(cursor, f"its metadata has two entries {key!r}")
        metadata[key] = _string(cursor, max(left, 0))
    return metadata


def _tensor(cursor: _Cursor, name: str) -> TensorInfo:
    """One entry; its offset still counts from the start of the data."""
    _spaces(cursor)
    match = _ENTRY.match(cursor.data, cursor.position, cursor.end)
    if match is None:
        raise _bad(cursor, f"the entry of tensor {name!r} is not an object of dtype, shape and data_offsets")
    try:
        entry = json.loads(
            match.group().decode(), object_pairs_hook=_unique, parse_int=_natural, parse_constant=_natural
        )
    except (ValueError, RecursionError) as error:
        raise _bad(cursor, f"the entry of tensor {name!r} is wrong: {error}") from None
    cursor.position = match.end()
    return _checked(cursor, name, entry)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) != len(_FIELDS) or {key for key, _ in pairs} != _FIELDS:
        raise ValueError(f"its fields are {[key for key, _ in pairs]}")
    return dict(pairs)


def _natural(digits: str) -> int:
    if not digits.isdecimal():
        raise ValueError(f"{digits} is no size")
    return int(digits)


def _checked(cursor: _Cursor, name: str, entry: dict[str, Any]) -> TensorInfo:
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SAFETENSORS_TYPES:
        raise _bad(cursor, f"tensor {name!r} has the unknown type {dtype!r}")
    if not _sizes(shape) or len(shape) > MAX_DIMENSIONS or max(shape, default=0) > MAX_DIMENSION:
        raise _bad(cursor, f"tensor {name!r} has the impossible shape {shape!r}")
    if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _bad(cursor, f"tensor {name!r} has the impossible data_offsets {offsets!r}")
    kind, elements = SAFETENSORS_TYPES[dtype], math.prod(shape)
    nbytes = offsets[1] - offsets[0]
    if elements % kind.block or kind.nbytes(elements) != nbytes:
        raise _bad(
            cursor, f"tensor {name!r} of type {dtype} and shape {tuple(shape)} does not take {nbytes} bytes"
        )
    return TensorInfo(name, dtype, tuple(shape), offsets[0], nbytes)


def _sizes(numbers: object) -> bool:
    return isinstance(numbers, list) and all(type(number) is int for number in numbers)


def _placed(cursor: _Cursor, infos: dict[str, TensorInfo]) -> dict[str, TensorInfo]:
    """The tensors with absolute offsets, once they are known to fill the rest of the file exactly."""
    position = cursor.end
    placed = {}
    for info in sorted(infos.values(), key=lambda info: (info.offset, info.nbytes)):
        offset = cursor.end + info.offset
        if offset != position:
            raise _bad(cursor, f"tensor {info.name!r} begins at byte {offset}; byte {position} belongs to it")
        position = offset + info.nbytes
        placed[info.name] = TensorInfo(info.name, info.type, info.shape, offset, info.nbytes)
    if position != len(cursor.data):
        raise _bad(cursor, f"its tensors end at byte {position} of a file of {len(cursor.data)}")
    return placed
