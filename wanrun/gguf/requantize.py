"""Rewrites a checkpoint's tensors in other types, in pieces that all cores share, few of them in memory."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wanrun.errors import InvalidRequest
from wanrun.gguf.checkpoint import Checkpoint
from wanrun.gguf.codes import LAYOUTS
from wanrun.gguf.compensate import compensated, factors
from wanrun.gguf.dequantize import PLAIN, dequantize
from wanrun.gguf.ggml import MADE, quantize
from wanrun.gguf.ggml import dequantize as ggml_dequantize
from wanrun.gguf.layouts import gguf_layout, safetensors_layout
from wanrun.gguf.resumable import write_resumable
from wanrun.gguf.types import tensor_type

if TYPE_CHECKING:
    from wanrun.gguf.writer import Data
    from wanrun.types import Progress

#: A core's share at a time: its float32 values stay in the cache.
_PIECE_ELEMENTS = 1 << 18
#: Compensation goes through a piece column by column, which few rows would not be worth.
_COMPENSATED_ELEMENTS = 1 << 21
_PIECES_AHEAD = 4


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """A tensor of the new file: its name and type there, the name that it has in the source.

    ``importance``, float32 (columns,), says what an error in each column costs; ``products`` are those of the
    inputs, as ``wanrun.gguf.compensate`` takes them.
    """

    name: str
    kind: str
    source: str
    importance: NDArray[np.float32] | None = None
    products: NDArray[np.float32] | None = None


def requantize(
    source: Checkpoint,
    target: Path,
    outputs: Sequence[Output],
    metadata: Mapping[str, object],
    progress: Progress,
) -> None:
    """Write ``outputs`` of ``source`` to ``target``, safetensors if it is called so, else GGUF.

    A tensor that keeps its type keeps its bytes. An interrupted call is gone on with by the next.
    ``progress`` counts bytes. Raises InvalidRequest for a type that cannot be made or values that it cannot
    hold, StoreError when the result does not fit on the disk; ``target`` is as before.
    """
    new = (output.kind for output in outputs if output.kind != source.header.tensors[output.source].type)
    if unmade := sorted(set(new) - set(MADE)):
        raise InvalidRequest(f"ggml does not quantise to {', '.join(unmade)}; it does to {', '.join(MADE)}")
    entries = [(output.name, output.kind, source.header.tensors[output.source].shape) for output in outputs]
    if target.suffix == ".safetensors":
        layout = safetensors_layout({key: str(value) for key, value in metadata.items()}, entries)
    else:
        layout = gguf_layout(metadata, entries)
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:

        def pieces(first: int) -> Iterator[Data]:
            work = (piece for output in outputs[first:] for piece in _pieces(source, output))
            return _in_order(pool, work, threads * _PIECES_AHEAD)

        def report(done: int, total: int) -> None:
            progress("quantising", done, total)

        write_resumable(target, _job(source, outputs), layout, pieces, report)


def _job(source: Checkpoint, outputs: Iterable[Output]) -> bytes:
    """What decides the data besides the new file's head: the source as it is now, and the importances."""
    digest = hashlib.sha256()
    for file in source.files:
        status = file.stat()
        digest.update(f"{file.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    for output in outputs:
        digest.update(output.source.encode() + b"\0")
        for known in (output.importance, output.products):
            digest.update(b"" if known is None else known.tobytes())
    return digest.digest()


def _in_order(pool: ThreadPoolExecutor, work: Iterable[Callable[[], Data]], ahead: int) -> Iterator[Data]:
    """The results of ``work`` in its order, while at most ``ahead`` more are made."""
    waiting: deque[Future[Data]] = deque()
    try:
        for piece in work:
            waiting.append(pool.submit(piece))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Some rows of a tensor as they are stored, flat uint8, and what their values are multiplied by."""

    output: Output
    kind: str
    shape: tuple[int, int]
    data: Tensor
    scale: Tensor | None
    factors: Tensor | None

    def convert(self) -> Data:
        if self.kind == self.output.kind and self.scale is None:
            return self.data.numpy()
        try:
            values = self._values()
            packed = quantize(self.output.kind, values, self.output.importance)
            if self.factors is None:
                return packed
            return compensated(self.output.kind, packed, values, self.factors)
        except InvalidRequest as error:
            raise InvalidRequest(f"tensor {self.output.name!r}: {error}") from None

    def _values(self) -> NDArray[np.float32]:
        if self.kind in PLAIN and self.kind not in ("F16", "BF16"):
            values = dequantize(self.kind, self.data, self.shape, torch.float32)
            return (values if self.scale is None else values * self.scale).numpy()
        rows = np.empty(self.shape, np.float32)
        ggml_dequantize(self.kind, self.data.numpy(), rows)  # which has no threads of its own, as torch has
        return rows


def _pieces(source: Checkpoint, output: Output) -> Iterator[Callable[[], Data]]:
    """Functions that make the tensor's data, some rows each."""
    stored, scale = source.packed(output.source), source.scale(output.source)
    spec, columns = tensor_type(stored.type), stored.shape[-1] if stored.shape else 1
    spread = None
    if output.products is not None and output.kind in LAYOUTS and output.kind != stored.type:
        spread = factors(output.products)
    piece = _PIECE_ELEMENTS if spread is None else _COMPENSATED_ELEMENTS
    rows, step = prod(stored.shape) // max(columns, 1), max(1, piece // max(columns, 1))
    for first in range(0, rows, step):
        count = min(step, rows - first)
        start, size = spec.nbytes(first * columns), spec.nbytes(count * columns)
        factor = scale if scale is None or scale.numel() == 1 else scale.reshape(-1, 1)[first : first + count]
        data = stored.data[start : start + size]
        yield _Rows(output, stored.type, (count, columns), data, factor, spread).convert
