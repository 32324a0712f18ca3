"""Rewrites a model file with other tensor types, tensor by tensor, so that memory holds one at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from numpy.typing import NDArray

from wanrun.errors import InvalidRequest, StoreError
from wanrun.gguf.ggml import quantize
from wanrun.gguf.types import tensor_type
from wanrun.gguf.weights import Weights, open_weights
from wanrun.gguf.writer import TensorSource, write_gguf

if TYPE_CHECKING:
    from wanrun.types import Progress

#: The type that a tensor of this name and shape gets, None for its own.
Choice: TypeAlias = Callable[[str, tuple[int, ...]], str | None]


def requantize(
    source: Path, target: Path, choose: Choice, metadata: Mapping[str, object], progress: Progress
) -> None:
    """Write ``source``, GGUF or safetensors, to the GGUF file ``target``, its types by ``choose``.

    ``metadata`` is added to the source's own, or replaces it. A tensor that keeps its type keeps its bytes.
    ``progress`` counts tensors. Raises FormatError for a source that cannot be read, InvalidRequest for a
    type that cannot be made, StoreError when the result does not fit on the disk; ``target`` is as before.
    """
    with open_weights(source) as weights:
        names = weights.names
        kinds = {name: choose(name, weights.shape(name)) or weights.type(name) for name in names}
        _check(weights, kinds, target)
        tensors: list[TensorSource] = []
        for index, name in enumerate(names):
            done = partial(progress, "quantising", index + 1, len(names))
            data = partial(_data, weights, name, kinds[name], done)
            tensors.append((name, kinds[name], weights.shape(name), data))
        write_gguf(target, {**weights.header.metadata, **metadata}, tensors)


def _check(weights: Weights, kinds: Mapping[str, str], target: Path) -> None:
    unknown = sorted({kind for kind in kinds.values() if tensor_type(kind).number is None})
    if unknown:
        raise InvalidRequest(f"GGUF has no type {', '.join(unknown)}: give those tensors another")
    needed = sum(tensor_type(kind).nbytes(prod(weights.shape(name))) for name, kind in kinds.items())
    free = shutil.disk_usage(target.absolute().parent).free
    if needed > free:
        raise StoreError(f"{target} needs {needed:,} bytes and {free:,} are free on its disk")


def _data(weights: Weights, name: str, kind: str, done: Callable[[], None]) -> bytes | NDArray[Any]:
    data: bytes | NDArray[Any]
    if kind == weights.type(name):
        data = weights.packed(name).data.numpy()
    else:
        rows = weights.tensor(name).numpy()
        data = rows.tobytes() if kind == "F32" else quantize(kind, rows)
    done()
    return data
