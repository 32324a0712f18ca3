"""Reads GGUF headers, trusting nothing in them.

The format is that of ggml's ``docs/gguf.md``, versions 2 and 3, little-endian. Every count, length and offset
is compared with what is left of the file and with the limits below before anything of that size is made, so
that memory stays under the size of the file plus 64 MiB. Wider than ggml's own reader in that tensors may
have six dimensions (Wan's patch embedding has five) and names are as long as diffusion files make them.
"""

from __future__ import annotations

import math
import mmap
import struct
from array import array
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from wanrun.errors import FormatError
from wanrun.gguf.layout import ARRAY, KINDS, STRING, Header, NumberArray, StringArray, TensorInfo, Value
from wanrun.gguf.mapping import map_file
from wanrun.gguf.types import GGML_TYPES

MAX_KEYS = 65_536
MAX_TENSORS = 32_768
MAX_NAME_BYTES = 1024
#: All keys, names and single strings of a file together; a str may take four times its bytes.
MAX_STRING_BYTES = 16 << 20
#: All arrays of a file together.
MAX_ARRAY_BYTES = 1 << 27
MAX_ARRAY_STRINGS = 1 << 20
MAX_ARRAY_STRING_BYTES = 1 << 20
MAX_NESTED_ARRAYS = 65_536
MAX_NESTING = 4
MAX_DIMENSIONS = 6
MAX_DIMENSION = 1 << 40
MAX_ALIGNMENT = 1 << 20
DEFAULT_ALIGNMENT = 32

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_COUNT = {"keys": MAX_KEYS, "tensors": MAX_TENSORS}


@dataclass(slots=True)
class _Cursor:
    """A place in the file, and what may still be spent from there on."""

    data: mmap.mmap
    path: Path
    position: int = 0
    string_bytes: int = MAX_STRING_BYTES
    array_bytes: int = MAX_ARRAY_BYTES
    array_strings: int = MAX_ARRAY_STRINGS
    nested_arrays: int = MAX_NESTED_ARRAYS


def read_gguf(path: Path) -> Header:
    """The header of the GGUF file at ``path``; FormatError says what is wrong with a bad one."""
    with map_file(path) as data:
        cursor = _Cursor(data, path)
        _check_version(cursor)
        tensors = _count(cursor, "tensors")
        keys = _count(cursor, "keys")
        metadata = _metadata(cursor, keys)
        alignment = _alignment(cursor, metadata)
        infos = [_tensor(cursor, metadata) for _ in range(tensors)]
        return Header(path, "gguf", metadata, _placed(cursor, infos, alignment))


def _bad(cursor: _Cursor, problem: str) -> FormatError:
    return FormatError(f"{cursor.path}: {problem}")


def _skip(cursor: _Cursor, size: int, what: str) -> int:
    """Step over ``size`` bytes and return where they began."""
    start, left = cursor.position, len(cursor.data) - cursor.position
    if size > left:
        problem = (
            f"{what} at byte {start} needs {size} bytes and {left} are left; the file is cut short or damaged"
        )
        raise _bad(cursor, problem)
    cursor.position += size
    return start


def _number(cursor: _Cursor, form: struct.Struct, what: str) -> int:
    number: int = form.unpack_from(cursor.data, _skip(cursor, form.size, what))[0]
    return number


def _count(cursor: _Cursor, what: str) -> int:
    count, most = _number(cursor, _U64, f"the number of {what}"), _COUNT[what]
    if count > most:
        raise _bad(cursor, f"it claims {count} {what}; at most {most} are read")
    return count


def _check_version(cursor: _Cursor) -> None:
    if cursor.data[:4] != b"GGUF":
        raise _bad(cursor, f"not a GGUF file: it begins with {cursor.data[:4]!r}")
    cursor.position = 4
    version = _number(cursor, _U32, "the version")
    if version and version & 0xFFFF == 0:
        raise _bad(cursor, "a big-endian GGUF file; download the little-endian one")
    if version not in (2, 3):
        raise _bad(
            cursor, f"GGUF version {version}; versions 2 and 3 are read, convert it again with llama.cpp"
        )


def _text(cursor: _Cursor, start: int, size: int, what: str) -> str:
    try:
        # A memoryview, so that the bytes are not copied once more before they are decoded.
        return str(memoryview(cursor.data)[start : start + size], "utf-8")
    except UnicodeDecodeError as error:
        raise _bad(cursor, f"{what} at byte {start} is not UTF-8: {error.reason}") from None


def _string(cursor: _Cursor, what: str, most: int) -> str:
    size = _number(cursor, _U64, f"the length of {what}")
    if size > min(most, cursor.string_bytes):
        raise _bad(cursor, f"{what} is {size} bytes long; at most {min(most, cursor.string_bytes)} are read")
    cursor.string_bytes -= size
    return _text(cursor, _skip(cursor, size, what), size, what)


def _metadata(cursor: _Cursor, keys: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for index in range(keys):
        key = _string(cursor, f"key {index}", MAX_NAME_BYTES)
        if not key or key in metadata:
            raise _bad(cursor, f"key {index} is {'empty' if not key else f'a second {key!r}'}")
        metadata[key] = _value(cursor, key)
    return metadata


def _value(cursor: _Cursor, key: str) -> Value:
    kind = _number(cursor, _U32, f"the kind of {key!r}")
    if kind == STRING:
        return _string(cursor, f"{key!r}", MAX_STRING_BYTES)
    if kind == ARRAY:
        return _array(cursor, key, 1)
    if kind not in KINDS:
        raise _bad(cursor, f"{key!r} has unknown kind {kind}")
    name, form = KINDS[kind]
    start = _skip(cursor, struct.calcsize(form), f"{key!r}")
    _check_bools(cursor, name, start, 1, key)
    value: Value = struct.unpack_from(form, cursor.data, start)[0]
    if key == "general.alignment" and name != "UINT32":
        raise _bad(cursor, f"'general.alignment' is {name}; it must be UINT32")
    return value


def _check_bools(cursor: _Cursor, name: str, start: int, size: int, key: str) -> None:
    if name == "BOOL" and cursor.data[start : start + size].translate(None, b"\0\1"):
        raise _bad(cursor, f"{key!r} holds a truth value that is neither 0 nor 1")


def _array(cursor: _Cursor, key: str, depth: int) -> Value:
    kind = _number(cursor, _U32, f"the kind of array {key!r}")
    count = _number(cursor, _U64, f"the length of array {key!r}")
    if kind == STRING:
        return _string_array(cursor, key, count)
    if kind == ARRAY:
        return _nested_array(cursor, key, count, depth)
    if kind not in KINDS:
        raise _bad(cursor, f"array {key!r} has unknown kind {kind}")
    name, form = KINDS[kind]
    size = count * struct.calcsize(form)
    start = _spend(cursor, size, key)
    _check_bools(cursor, name, start, size, key)
    return NumberArray(name, cursor.data[start : start + size])


def _spend(cursor: _Cursor, size: int, key: str) -> int:
    if size > cursor.array_bytes:
        raise _bad(cursor, f"array {key!r} takes {size} bytes; all arrays may take {MAX_ARRAY_BYTES}")
    cursor.array_bytes -= size
    return _skip(cursor, size, f"array {key!r}")


def _nested_array(cursor: _Cursor, key: str, count: int, depth: int) -> Value:
    if depth >= MAX_NESTING:
        raise _bad(cursor, f"array {key!r} is nested deeper than {MAX_NESTING}")
    if count > cursor.nested_arrays:
        raise _bad(cursor, f"array {key!r} holds {count} arrays; at most {MAX_NESTED_ARRAYS} are read")
    cursor.nested_arrays -= count
    return tuple(_array(cursor, key, depth + 1) for _ in range(count))


def _string_array(cursor: _Cursor, key: str, count: int) -> StringArray:
    left = len(cursor.data) - cursor.position
    if count > cursor.array_strings or 8 * count > left:
        raise _bad(
            cursor,
            f"array {key!r} claims {count} strings in {left} bytes; at most {MAX_ARRAY_STRINGS} are read",
        )
    cursor.array_strings -= count
    base = cursor.position
    end = base + min(left, cursor.array_bytes)
    starts = array("I", bytes(4 * (count + 1)))
    position = _walk(cursor, starts, base, end, key)
    cursor.array_bytes -= position - base
    cursor.position = position
    return StringArray(cursor.data[base:position], starts)


def _walk(cursor: _Cursor, starts: array[int], base: int, end: int, key: str) -> int:
    """Fill ``starts`` with where each string begins, counted from ``base``; return where the last ends."""
    data, position, length_at = cursor.data, base, _U64.unpack_from
    last = len(starts) - 1
    for index in range(last):
        start = position + 8
        size = length_at(data, position)[0] if start <= end else end
        position = start + size
        if position > end or size > MAX_ARRAY_STRING_BYTES:
            raise _bad(cursor, f"string {index} of array {key!r} is longer than what is left or than allowed")
        starts[index] = start - base
        try:
            data[start:position].decode()
        except UnicodeDecodeError:
            raise _bad(cursor, f"string {index} of array {key!r} at byte {start} is not UTF-8") from None
    starts[last] = position + 8 - base
    return position


def _alignment(cursor: _Cursor, metadata: dict[str, Value]) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or not 1 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise _bad(
            cursor, f"'general.alignment' is {alignment!r}; it must be a power of two up to {MAX_ALIGNMENT}"
        )
    return alignment


def _tensor(cursor: _Cursor, metadata: dict[str, Value]) -> TensorInfo:
    """One entry of the table of tensors; its offset still counts from the start of the data."""
    name = _string(cursor, "a tensor's name", MAX_NAME_BYTES)
    if not name:
        raise _bad(cursor, f"the tensor before byte {cursor.position} has no name")
    rank = _number(cursor, _U32, f"the rank of tensor {name!r}")
    if rank > MAX_DIMENSIONS:
        raise _bad(cursor, f"tensor {name!r} has {rank} dimensions; at most {MAX_DIMENSIONS} are read")
    start = _skip(cursor, 8 * rank, f"the shape of tensor {name!r}")
    shape: tuple[int, ...] = struct.unpack_from(f"<{rank}Q", cursor.data, start)[::-1]
    if any(size > MAX_DIMENSION for size in shape):
        raise _bad(cursor, f"tensor {name!r} has the impossible shape {shape}")
    number = _number(cursor, _U32, f"the type of tensor {name!r}")
    if number not in GGML_TYPES:
        raise _bad(cursor, f"tensor {name!r} has type {number}, which is unknown or was removed from ggml")
    kind = GGML_TYPES[number]
    if (shape[-1] if shape else 1) % kind.block:
        raise _bad(
            cursor,
            f"tensor {name!r} of shape {shape} does not divide into {kind.name} blocks of {kind.block}",
        )
    nbytes = kind.nbytes(math.prod(shape))
    offset = _number(cursor, _U64, f"the offset of tensor {name!r}")
    return TensorInfo(name, kind.name, _original_shape(cursor, metadata, name, shape), offset, nbytes)


def _original_shape(
    cursor: _Cursor, metadata: dict[str, Value], name: str, shape: tuple[int, ...]
) -> tuple[int, ...]:
    """The shape before it was flattened for ggml, which the tools of ComfyUI-GGUF note in the metadata."""
    key = f"comfy.gguf.orig_shape.{name}"
    if key not in metadata:
        return shape
    noted = metadata[key]
    if not isinstance(noted, NumberArray) or noted.kind != "INT32" or len(noted) > MAX_DIMENSIONS:
        raise _bad(cursor, f"{key!r} must be an INT32 array of at most {MAX_DIMENSIONS} numbers")
    original = tuple(int(size) for size in noted)
    if min(original, default=0) < 0 or math.prod(original) != math.prod(shape):
        raise _bad(cursor, f"{key!r} says {original}, but the tensor's shape is {shape}")
    return original


def _placed(cursor: _Cursor, infos: list[TensorInfo], alignment: int) -> dict[str, TensorInfo]:
    """The tensors by name with absolute offsets, once they are known to lie apart and inside the file."""
    begin = -(-cursor.position // alignment) * alignment
    placed: dict[str, TensorInfo] = {}
    for info in infos:
        offset = begin + info.offset
        if info.name in placed:
            raise _bad(cursor, f"there are two tensors {info.name!r}")
        if info.offset % alignment:
            raise _bad(
                cursor, f"tensor {info.name!r} lies at {info.offset}, which is no multiple of {alignment}"
            )
        if offset + info.nbytes > len(cursor.data):
            problem = (
                f"tensor {info.name!r} ends at byte {offset + info.nbytes} of a file of {len(cursor.data)}"
            )
            raise _bad(cursor, problem + "; it is cut short or damaged, download it again")
        placed[info.name] = TensorInfo(info.name, info.type, info.shape, offset, info.nbytes)
    used = sorted((info for info in placed.values() if info.nbytes), key=lambda info: info.offset)
    for first, second in pairwise(used):
        if first.offset + first.nbytes > second.offset:
            raise _bad(cursor, f"tensors {first.name!r} and {second.name!r} overlap")
    return placed
