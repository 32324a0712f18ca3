"""Solves for the types within a file's size from the weights alone, without making a video.

What a matrix costs in a type is the share of its output that rounding makes up: the squared error of its
weights over their squares, each input channel weighed by its importance where that is known. All matrices
count alike; ``wanrun mix`` measures what each really costs a video.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray

from wanrun.convert.mix import solve
from wanrun.errors import InvalidRequest
from wanrun.gguf.checkpoint import Checkpoint, open_checkpoint
from wanrun.gguf.dequantize import dequantize
from wanrun.gguf.ggml import quantize
from wanrun.gguf.imatrix import Imatrix
from wanrun.gguf.types import tensor_type
from wanrun.wan.mixes import fitting, plain, quantised
from wanrun.wan.names import canonical
from wanrun.wan.recipe import Recipe, Rules, ruled
from wanrun.wan.requantize import transformer_names

if TYPE_CHECKING:
    from wanrun.types import Progress

KINDS = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
_SAMPLED_ROWS = 64
#: What names, shapes and alignment take at most, a tensor and besides.
_HEAD_BYTES, _METADATA_BYTES = 192, 1 << 14


def sized(
    source: Path, size: int, base: str, imatrix: Imatrix | None, rules: Rules, progress: Progress
) -> Recipe:
    """The types by which the transformer in ``source`` takes at most ``size`` bytes; ``rules`` hold for
    theirs.

    Raises InvalidRequest when even the smallest types take more, else as ``open_checkpoint``.
    """
    with open_checkpoint(source) as checkpoint:
        names = transformer_names(checkpoint)
        infos = {name: checkpoint.header.tensors[stored] for name, stored in names.items()}
        room = size - _METADATA_BYTES - _HEAD_BYTES * len(infos)
        free = []
        for name, info in infos.items():
            asked = ruled(rules, name) if quantised(name, info.shape) else plain(name, info.shape, info.type)
            if asked is None:
                free.append(name)
            else:
                kind = fitting(asked, info.shape) if quantised(name, info.shape) else asked
                room -= tensor_type(kind).nbytes(prod(info.shape))
        errors = _errors(checkpoint, {name: names[name] for name in free}, _known(imatrix), progress)
        if room <= 0 or not errors:
            raise InvalidRequest(f"{size:,} bytes are too few: what keeps its type takes {size - room:,}")
        return solve(
            checkpoint.header, errors, room, base, {"size": size, "from": "rounding errors of weights"}
        )


def _known(imatrix: Imatrix | None) -> dict[str, NDArray[np.float32]]:
    if imatrix is None:
        return {}
    return {name: imatrix.moments[key].importance for name, key in canonical(imatrix.moments).items()}


def _errors(
    checkpoint: Checkpoint,
    names: Mapping[str, str],
    known: Mapping[str, NDArray[np.float32]],
    progress: Progress,
) -> dict[str, dict[str, float]]:
    errors: dict[str, dict[str, float]] = {}
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        measured = pool.map(lambda name: _error(_rows(checkpoint, names[name]), known.get(name)), names)
        for name, costs in zip(names, measured, strict=True):
            errors[name] = costs
            progress("measuring", len(errors), len(names))
    return errors


def _rows(checkpoint: Checkpoint, stored: str) -> NDArray[np.float32]:
    """Some of the matrix's rows, evenly spread."""
    packed, scale = checkpoint.packed(stored), checkpoint.scale(stored)
    rows, columns = packed.shape
    row_bytes = tensor_type(packed.type).nbytes(columns)
    wanted = torch.linspace(0, rows - 1, min(rows, _SAMPLED_ROWS)).long()
    data = packed.data.reshape(rows, row_bytes)[wanted]
    values = dequantize(packed.type, data.flatten(), (len(wanted), columns), torch.float32)
    if scale is not None:
        values = values * (scale if scale.numel() == 1 else scale.reshape(-1, 1)[wanted])
    return cast("NDArray[np.float32]", values.numpy())


def _error(rows: NDArray[np.float32], importance: NDArray[np.float32] | None) -> dict[str, float]:
    """By type, the squared error of the output over its square."""
    weight = np.float32(1) if importance is None else importance
    whole = float((weight * rows**2).sum()) or 1.0
    costs = {}
    for kind in dict.fromkeys(map(partial(fitting, shape=rows.shape), KINDS)):
        blocks = torch.frombuffer(bytearray(quantize(kind, rows, importance)), dtype=torch.uint8)
        back = dequantize(kind, blocks, rows.shape, torch.float32).numpy()
        costs[kind] = float((weight * (rows - back) ** 2).sum()) / whole
    return costs
