"""Reads and writes importance matrices: how large the inputs of each matrix were while a model worked.

The formats are llama.cpp's (common/imatrix-loader.cpp, tools/imatrix/imatrix.cpp): a GGUF file with the
tensors ``NAME.in_sum2`` and ``NAME.counts`` for each matrix ``NAME``, and the older ``.dat``. Ours adds
``NAME.in_products``, which llama.cpp passes over: what ``wanrun.gguf.compensate`` needs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from wanrun.errors import FormatError, InvalidRequest
from wanrun.gguf.layout import StringArray
from wanrun.gguf.mapping import map_file
from wanrun.gguf.weights import Weights, open_weights
from wanrun.gguf.writer import TensorSource, write_gguf

_SUMS, _COUNTS, _PRODUCTS = ".in_sum2", ".counts", ".in_products"
_MAX_ENTRIES = 32_768
_MAX_TEXT = 1 << 16


@dataclass(frozen=True, slots=True)
class Moments:
    """What a matrix saw: per input channel the sum of squares, float32, and over how many rows.

    ``products`` (columns / 256, 256, 256) float32 are the sums of products of any two channels of a block, or
    None where they were not gathered.
    """

    sums: NDArray[np.float32]
    count: float
    products: NDArray[np.float32] | None = None

    @property
    def importance(self) -> NDArray[np.float32]:
        """The mean square of each input channel; all ones when there were no rows, as llama.cpp has it."""
        if self.count <= 0:
            return np.ones_like(self.sums)
        return self.sums / np.float32(self.count)


@dataclass(frozen=True, slots=True)
class Imatrix:
    """Moments by the name of the matrix, and of what: data sets, the number of chunks, and their rows."""

    moments: Mapping[str, Moments]
    datasets: tuple[str, ...] = ()
    chunks: int = 0
    chunk_size: int = 0


def merge(parts: Iterable[Imatrix]) -> Imatrix:
    """What the model would have shown in one go. InvalidRequest when a matrix has two widths."""
    moments: dict[str, Moments] = {}
    datasets: dict[str, None] = {}
    chunks = size = 0
    for part in parts:
        for name, new in part.moments.items():
            old = moments.get(name)
            if old is not None and old.sums.shape != new.sums.shape:
                raise InvalidRequest(
                    f"{name} has {old.sums.size} input channels in one importance matrix and "
                    f"{new.sums.size} in another: they are of different models"
                )
            moments[name] = new if old is None else _added(old, new)
        datasets |= dict.fromkeys(part.datasets)
        chunks, size = chunks + part.chunks, part.chunk_size or size
    return Imatrix(moments, tuple(datasets), chunks, size)


def _added(old: Moments, new: Moments) -> Moments:
    """Products that one of the two lacks are of too little to be kept."""
    products = None
    if old.products is not None and new.products is not None:
        products = old.products + new.products
    return Moments(old.sums + new.sums, old.count + new.count, products)


def write_imatrix(path: Path, imatrix: Imatrix) -> None:
    """Write llama.cpp's GGUF form; a reader sees the old ``path`` or the whole new one."""
    metadata = {
        "general.type": "imatrix",
        "imatrix.datasets": list(imatrix.datasets),
        "imatrix.chunk_count": imatrix.chunks,
        "imatrix.chunk_size": imatrix.chunk_size,
    }
    tensors: list[TensorSource] = []
    for name, seen in sorted(imatrix.moments.items()):
        tensors.append((name + _SUMS, "F32", seen.sums.shape, np.asarray(seen.sums, np.float32)))
        tensors.append((name + _COUNTS, "F32", (1,), np.array([seen.count], np.float32)))
        if seen.products is not None:
            products = np.ascontiguousarray(seen.products, np.float32)
            tensors.append((name + _PRODUCTS, "F32", products.shape, products))
    write_gguf(path, metadata, tensors)


def read_imatrix(path: Path) -> Imatrix:
    """The importance matrix in a file of either form.

    FormatError for a file that is none, or whose sums are none of squares, or of a model with experts in one
    matrix, which no Wan has; ModelNotFound and InvalidRequest when it cannot be read.
    """
    with map_file(path) as data:
        start = data[:4]
        imatrix = None if start == b"GGUF" else _Legacy(path, data[:]).read()
    if imatrix is None:
        with open_weights(path) as weights:
            imatrix = _from_gguf(weights)
    for name, seen in imatrix.moments.items():
        sound = seen.products is None or np.isfinite(seen.products).all()
        if not (
            sound and np.isfinite(seen.sums).all() and (seen.sums >= 0).all() and np.isfinite(seen.count)
        ):
            raise FormatError(f"{path}: the sums of {name!r} are not those of squares; make it again")
    return imatrix


def _from_gguf(weights: Weights) -> Imatrix:
    path, metadata = weights.header.path, weights.header.metadata
    names = [name.removesuffix(_SUMS) for name in weights.names if name.endswith(_SUMS)]
    if not names:
        raise FormatError(f"{path} is no importance matrix: it has no tensor that ends in {_SUMS}")
    moments = {}
    for name in names:
        if name + _COUNTS not in weights:
            raise FormatError(f"{path}: {name!r} has sums but no counts")
        sums, counts = (_floats(weights, name + suffix) for suffix in (_SUMS, _COUNTS))
        if counts.size != 1:
            raise FormatError(f"{path}: {name!r} has {counts.size} counts, where one is needed")
        moments[name] = Moments(sums, float(np.rint(counts[0])), _products(weights, name, sums.size))
    datasets = metadata.get("imatrix.datasets")
    chunks, size = (metadata.get(f"imatrix.chunk_{what}") for what in ("count", "size"))
    return Imatrix(
        moments,
        tuple(datasets) if isinstance(datasets, StringArray) else (),
        chunks if isinstance(chunks, int) else 0,
        size if isinstance(size, int) else 0,
    )


def _products(weights: Weights, name: str, columns: int) -> NDArray[np.float32] | None:
    stored = name + _PRODUCTS
    if stored not in weights:
        return None
    shape = columns // 256, 256, 256
    if columns % 256 or weights.shape(stored) != shape:
        raise FormatError(f"{weights.header.path}: {stored!r} has shape {weights.shape(stored)}, not {shape}")
    return _floats(weights, stored).reshape(shape)


def _floats(weights: Weights, name: str) -> NDArray[np.float32]:
    if weights.type(name) != "F32" or 0 in weights.shape(name):
        raise FormatError(f"{weights.header.path}: tensor {name!r} must be F32 numbers")
    return cast("NDArray[np.float32]", weights.tensor(name).flatten().numpy().copy())


@dataclass(slots=True)
class _Legacy:
    """The bytes of a ``.dat`` file and how far they are read."""

    path: Path
    data: bytes
    position: int = 0

    def read(self) -> Imatrix:
        entries = self._int("the number of entries", 1, _MAX_ENTRIES)
        moments: dict[str, Moments] = {}
        for _ in range(entries):
            name = self._text("a name")
            count = self._int("a count", 0, 2**31 - 1)
            sums = np.frombuffer(self._take(4 * self._int("a width", 1, 2**29), "the sums"), "<f4")
            if name in moments:
                raise self._bad(f"it has two entries {name!r}")
            # a count of 0 marks sums that are means already
            moments[name] = Moments(sums.astype(np.float32), count or 1)
        if self.position == len(self.data):
            return Imatrix(moments)
        return Imatrix(
            moments,
            chunks=self._int("the number of chunks", 0, 2**31 - 1),
            datasets=(self._text("a data set"),),
        )

    def _bad(self, problem: str) -> FormatError:
        return FormatError(f"{self.path} is no importance matrix, neither GGUF nor the older form: {problem}")

    def _take(self, size: int, what: str) -> bytes:
        if size > len(self.data) - self.position:
            raise self._bad(f"{what} at byte {self.position} would take {size} bytes; it is cut short")
        self.position += size
        return self.data[self.position - size : self.position]

    def _int(self, what: str, least: int, most: int) -> int:
        number: int = struct.unpack("<i", self._take(4, what))[0]
        if not least <= number <= most:
            raise self._bad(f"{what} is {number}")
        return number

    def _text(self, what: str) -> str:
        text = self._take(self._int(f"the length of {what}", 0, _MAX_TEXT), what)
        try:
            return text.decode()
        except UnicodeDecodeError:
            raise self._bad(f"{what} is not UTF-8") from None
