"""Writes GGUF files, version 3, little-endian."""

from __future__ import annotations

import os
import secrets
import struct
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast

from wanrun.errors import InvalidRequest
from wanrun.gguf.layout import ARRAY, FORMATS, KINDS, STRING, NumberArray, StringArray
from wanrun.gguf.types import tensor_type

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Buffer

    Data: TypeAlias = Buffer | NDArray[Any]

#: Name, type, shape in torch's order, and the bytes or a function that makes them when their turn comes.
TensorSource: TypeAlias = "tuple[str, str, Sequence[int], Data | Callable[[], Data]]"

DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 6
_NUMBERS = {name: number for number, (name, _) in KINDS.items()}
_ARRAY_KINDS = {form[1]: name for name, form in FORMATS.items() if name != "BOOL"}


@dataclass(frozen=True, slots=True)
class Typed:
    """A single number written as ``kind`` (a name such as ``"UINT64"``) instead of the usual one."""

    kind: str
    value: int | float | bool


def write_gguf(path: Path, metadata: Mapping[str, object], tensors: Iterable[TensorSource]) -> None:
    """Write a GGUF file; a reader sees the old ``path`` or the whole new one, never a part.

    A single int becomes UINT32 (or INT32, UINT64, INT64, the first that holds it), a float FLOAT32, a str
    STRING. A list of ints becomes an INT32 array (or INT64), of floats FLOAT32, of bools BOOL; an
    ``array.array`` keeps its own type, and so do arrays that a reader returned. ``Typed`` picks the kind of a
    single number. Tensor data are held one at a time. Raises InvalidRequest for what the format cannot hold.
    """
    listed = list(tensors)
    head, alignment = gguf_head(metadata, listed)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(
            os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666), "wb"
        ) as file:
            file.write(head)
            for tensor in listed:
                _write_tensor(file, tensor, alignment)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the new name outlast a power cut, where folders can be opened at all."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def gguf_head(metadata: Mapping[str, object], tensors: Sequence[TensorSource]) -> tuple[bytes, int]:
    """All that comes before the data, and the alignment: at its multiples each tensor begins."""
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise InvalidRequest(f"'general.alignment' is {alignment!r}; it must be a power of two")
    names = [name for name, _, _, _ in tensors]
    if len(set(names)) != len(names):
        raise InvalidRequest(f"two tensors have one name: {sorted({n for n in names if names.count(n) > 1})}")
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    parts += [_text(key) + _value(key, value) for key, value in metadata.items()]
    offset = 0
    for name, kind, shape, _ in tensors:
        ggml, size = tensor_type(kind).number, tensor_bytes(name, kind, shape)
        if ggml is None:
            raise InvalidRequest(f"tensor {name!r}: GGUF has no type {kind}")
        rank = len(shape)
        parts.append(_text(name) + struct.pack(f"<I{rank}QIQ", rank, *reversed(shape), ggml, offset))
        offset += -(-size // alignment) * alignment
    head = b"".join(parts)
    return head + bytes(-len(head) % alignment), alignment


def tensor_bytes(name: str, kind: str, shape: Sequence[int]) -> int:
    """Bytes that the tensor takes; InvalidRequest when the type cannot hold the shape."""
    block = tensor_type(kind).block
    if len(shape) > MAX_DIMENSIONS or any(size < 0 for size in shape) or (shape[-1] if shape else 1) % block:
        raise InvalidRequest(
            f"tensor {name!r}: {kind} cannot hold shape {tuple(shape)}; rows are blocks of {block}"
        )
    return tensor_type(kind).nbytes(prod(shape))


def _write_tensor(file: IO[bytes], tensor: TensorSource, alignment: int) -> None:
    name, kind, shape, data = tensor
    view = memoryview(cast("Buffer", data() if callable(data) else data))
    expected = tensor_bytes(name, kind, shape)
    if not view.c_contiguous:
        raise InvalidRequest(f"tensor {name!r}: its data must lie in one piece, in order")
    if view.nbytes != expected:
        raise InvalidRequest(
            f"tensor {name!r}: {kind} of shape {tuple(shape)} takes {expected} bytes, not {view.nbytes}"
        )
    file.write(view)
    file.write(bytes(-expected % alignment))


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _value(key: str, value: object) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _text(value)
    if isinstance(value, (bool, int, float, Typed)):
        number = value if isinstance(value, Typed) else Typed(_kind(value), value)
        return struct.pack("<I", _NUMBERS[number.kind]) + _numbers(key, number.kind, [number.value])
    return struct.pack("<I", ARRAY) + _array(key, value)


def _kind(value: bool | int | float) -> str:
    if isinstance(value, bool):
        return "BOOL"
    if isinstance(value, float):
        return "FLOAT32"
    if value >= 0:
        return "UINT32" if value < 1 << 32 else "UINT64"
    return "INT32" if value >= -1 << 31 else "INT64"


def _numbers(key: str, kind: str, values: Sequence[bool | int | float]) -> bytes:
    try:
        return struct.pack(f"<{len(values)}{FORMATS[kind][1]}", *values)
    except (struct.error, OverflowError) as error:
        raise InvalidRequest(f"{key!r} cannot be written as {kind}: {error}") from error


def _array(key: str, value: object) -> bytes:
    """Kind, length and items of an array; of arrays of arrays too."""
    if isinstance(value, NumberArray):
        return _array_head(_NUMBERS[value.kind], len(value)) + value.data
    if isinstance(value, StringArray):
        return _array_head(STRING, len(value)) + value.data
    if isinstance(value, array):
        if value.typecode not in _ARRAY_KINDS:
            raise InvalidRequest(f"{key!r}: GGUF has no array of type code {value.typecode!r}")
        kind = _ARRAY_KINDS[value.typecode]
        return _array_head(_NUMBERS[kind], len(value)) + _numbers(key, kind, value)
    if not isinstance(value, (list, tuple)):
        raise InvalidRequest(f"{key!r} is a {type(value).__name__}, which GGUF metadata cannot hold")
    if all(isinstance(item, str) for item in value):
        return _array_head(STRING, len(value)) + b"".join(map(_text, value))
    if all(isinstance(item, (bool, int, float)) for item in value):
        kind = _common_kind(value)
        return _array_head(_NUMBERS[kind], len(value)) + _numbers(key, kind, value)
    return _array_head(ARRAY, len(value)) + b"".join(_array(key, item) for item in value)


def _array_head(kind: int, count: int) -> bytes:
    return struct.pack("<IQ", kind, count)


def _common_kind(values: Sequence[bool | int | float]) -> str:
    if all(isinstance(value, bool) for value in values):
        return "BOOL"
    if any(isinstance(value, float) for value in values):
        return "FLOAT32"
    return "INT32" if all(-1 << 31 <= value < 1 << 31 for value in values) else "INT64"
