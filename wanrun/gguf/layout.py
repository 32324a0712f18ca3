"""Holds what the header of a model file says: metadata by key, tensors by name."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias, overload

#: GGUF's fixed-size value kinds: number in the file -> (name, struct format).
KINDS: Mapping[int, tuple[str, str]] = MappingProxyType(
    {
        0: ("UINT8", "<B"),
        1: ("INT8", "<b"),
        2: ("UINT16", "<H"),
        3: ("INT16", "<h"),
        4: ("UINT32", "<I"),
        5: ("INT32", "<i"),
        6: ("FLOAT32", "<f"),
        7: ("BOOL", "<?"),
        10: ("UINT64", "<Q"),
        11: ("INT64", "<q"),
        12: ("FLOAT64", "<d"),
    }
)
STRING, ARRAY = 8, 9
FORMATS: Mapping[str, str] = MappingProxyType(dict(KINDS.values()))

Number: TypeAlias = bool | int | float


@dataclass(frozen=True, slots=True)
class NumberArray(Sequence[Number]):
    """A GGUF array of numbers, kept packed and unpacked on access; ``kind`` is a name of ``KINDS``."""

    kind: str
    data: bytes

    @property
    def _item(self) -> struct.Struct:
        return struct.Struct(FORMATS[self.kind])

    def __len__(self) -> int:
        return len(self.data) // self._item.size

    def __iter__(self) -> Iterator[Number]:
        return (number for (number,) in self._item.iter_unpack(self.data))

    @overload
    def __getitem__(self, index: int) -> Number: ...
    @overload
    def __getitem__(self, index: slice) -> list[Number]: ...
    def __getitem__(self, index: int | slice) -> Number | list[Number]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number: Number = self._item.unpack_from(self.data, range(len(self))[index] * self._item.size)[0]
        return number


@dataclass(frozen=True, slots=True)
class StringArray(Sequence[str]):
    """A GGUF array of strings, decoded on access, so that a vocabulary costs little more than its bytes.

    ``data`` holds each string after its eight bytes of length; string ``i`` is at
    ``starts[i]`` : ``starts[i + 1]`` − 8.
    """

    data: bytes
    starts: array[int]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]
        return str(self.data[self.starts[i] : self.starts[i + 1] - 8], "utf-8")


#: A tuple is an array of arrays.
Value: TypeAlias = bool | int | float | str | NumberArray | StringArray | tuple["Value", ...]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies: ``shape`` in torch's order, ``offset`` in bytes from the start of the file."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header. ``tensors`` are in the order of the file."""

    path: Path
    format: Literal["gguf", "safetensors"]
    metadata: Mapping[str, Value]
    tensors: Mapping[str, TensorInfo]
