"""Opens the weights of a model file, GGUF or safetensors, without reading them."""

from __future__ import annotations

import builtins
import difflib
import mmap
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from wanrun.errors import FormatError
from wanrun.gguf.dequantize import dequantize
from wanrun.gguf.header import read_header
from wanrun.gguf.layout import Header, TensorInfo
from wanrun.gguf.mapping import map_file


@dataclass(frozen=True, slots=True)
class PackedTensor:
    """A tensor as it is stored: ``data`` is flat uint8, a view of the mapped file."""

    type: str
    shape: tuple[int, ...]
    data: Tensor


class Weights:
    """The tensors of one open file, by name; a missing name raises FormatError with the nearest ones.

    Tensors are views of a private mapping wherever they can be: writing to one changes memory, never the
    file. They outlive ``close``; the file is unmapped when the last one is gone.
    """

    def __init__(self, header: Header, mapping: mmap.mmap) -> None:
        self.header = header
        self._mapping: mmap.mmap | None = mapping

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.header.tensors)

    def __contains__(self, name: object) -> bool:
        return name in self.header.tensors

    def _info(self, name: str) -> TensorInfo:
        info = self.header.tensors.get(name)
        if info is None:
            near = difflib.get_close_matches(name, self.header.tensors, n=3)
            hint = f"the nearest: {', '.join(near)}" if near else f"it has {len(self.header.tensors)} others"
            raise FormatError(f"{self.header.path} has no tensor {name!r}; {hint}")
        return info

    def shape(self, name: str) -> tuple[int, ...]:
        """In torch's order."""
        return self._info(name).shape

    def type(self, name: str) -> str:
        """The storage type's name, such as ``"Q4_K"``."""
        return self._info(name).type

    def packed(self, name: str) -> PackedTensor:
        """The stored bytes, not copied."""
        info = self._info(name)
        if self._mapping is None:
            raise FormatError(f"{self.header.path} is closed")
        if info.nbytes == 0:
            return PackedTensor(info.type, info.shape, torch.empty(0, dtype=torch.uint8))
        data = torch.frombuffer(self._mapping, dtype=torch.uint8, count=info.nbytes, offset=info.offset)
        return PackedTensor(info.type, info.shape, data)

    def tensor(
        self, name: str, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Tensor:
        """The tensor dequantised to ``dtype`` on ``device``."""
        packed = self.packed(name)
        return dequantize(packed.type, packed.data, packed.shape, dtype).to(device)

    def close(self) -> None:
        """Let go of the file."""
        self._mapping = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: builtins.type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_weights(path: Path) -> Weights:
    """The weights in a GGUF or safetensors file; raises as ``read_header`` does. Use as a context manager."""
    header = read_header(path)
    mapping = map_file(path, private=True)
    if any(info.offset + info.nbytes > len(mapping) for info in header.tensors.values()):
        mapping.close()
        raise FormatError(f"{path} shrank while it was opened")
    return Weights(header, mapping)
