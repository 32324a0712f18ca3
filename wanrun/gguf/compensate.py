"""Rounds the weights of a row so that later ones make up for the errors of earlier ones.

This is GPTQ (Frantar et al. 2022, arXiv 2210.17323) inside ggml's blocks of 256: the scales stay what ggml's
own quantiser chose, the codes are chosen one column after the other, and each column's error is spread over
the columns that are still to come, as far as the inputs of the two go together. What goes together is
measured by ``wanrun calibrate``: the products of each pair of channels within a block.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wanrun.errors import InvalidRequest
from wanrun.gguf.codes import LAYOUTS, grid, put
from wanrun.gguf.ggml import quantize
from wanrun.gguf.imatrix import Moments
from wanrun.gguf.types import tensor_type

#: Elements of a K block.
BLOCK = 256
#: What is added to the products' diagonal, in parts of its mean, so that they can be inverted.
_DAMPING = 0.01


def compensated(kind: str, packed: bytes, rows: NDArray[np.float32], factors: Tensor) -> bytes:
    """``packed``, the blocks of ``rows`` (out, in) as ``kind``, with codes that change its output less.

    ``factors`` are those of the inputs' products. InvalidRequest for a kind that is not in
    ``wanrun.gguf.codes.LAYOUTS`` or factors of other columns.
    """
    if kind not in LAYOUTS:
        raise InvalidRequest(f"the codes of {kind} cannot be chosen; those of {', '.join(LAYOUTS)} can")
    out, columns = rows.shape
    if factors.shape != (columns // BLOCK, BLOCK, BLOCK) or columns % BLOCK:
        raise InvalidRequest(f"products of shape {tuple(factors.shape)} do not fit rows of {columns} columns")
    blocks = torch.from_numpy(np.frombuffer(packed, np.uint8).copy()).reshape(-1, tensor_type(kind).size)
    least, step = (part.reshape(out, columns) for part in grid(kind, blocks))
    codes = torch.empty(out, columns, dtype=torch.uint8)
    for index, factor in enumerate(factors):
        at = slice(BLOCK * index, BLOCK * (index + 1))
        weights = torch.from_numpy(rows[:, at]).clone()
        codes[:, at] = _choose(weights, least[:, at], step[:, at], factor, LAYOUTS[kind].most)
    return put(kind, blocks, codes.reshape(-1, BLOCK)).numpy().tobytes()


def factors(products: NDArray[np.float32]) -> Tensor:
    """Of each block's sums of products of input channels, (blocks, 256, 256), how errors are to be spread.

    The upper Cholesky factor of their inverse: row j says how column j's error goes to those behind it.
    """
    return torch.stack([_factor(pairs.double()) for pairs in torch.from_numpy(products)])


def pack(kind: str, rows: NDArray[np.float32], seen: Moments | None) -> bytes:
    """``rows`` as blocks of ``kind``, with all that is known of their inputs; raises as ``ggml.quantize``."""
    packed = quantize(kind, rows, None if seen is None else seen.importance)
    if seen is None or seen.products is None or kind not in LAYOUTS:
        return packed
    return compensated(kind, packed, rows, factors(seen.products))


def _factor(pairs: Tensor) -> Tensor:
    mean = pairs.diagonal().mean()
    if not mean > 0:
        return torch.eye(BLOCK)
    damped = pairs + _DAMPING * mean * torch.eye(BLOCK, dtype=torch.float64)
    factor: Tensor = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)
    return factor.float()


def _choose(weights: Tensor, least: Tensor, step: Tensor, factor: Tensor, most: int) -> Tensor:
    """The codes (out, 256) of ``weights``, which are used up."""
    codes = torch.empty(weights.shape, dtype=torch.uint8)
    divisor = torch.where(step == 0, torch.ones(()), step)
    for column in range(BLOCK):
        wanted = weights[:, column]
        code = ((wanted - least[:, column]) / divisor[:, column]).round().clamp(0, most)
        codes[:, column] = code.to(torch.uint8)
        error = (wanted - least[:, column] - step[:, column] * code) / factor[column, column]
        weights[:, column + 1 :] -= error[:, None] * factor[column, column + 1 :]
    return codes
