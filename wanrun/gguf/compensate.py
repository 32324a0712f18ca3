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
from wanrun.gguf.types import tensor_type

#: Elements of a K block.
BLOCK = 256
#: What is added to the products' diagonal, in parts of its mean, so that they can be inverted.
_DAMPING = 0.01


def compensated(kind: str, packed: bytes, rows: NDArray[np.float32], products: NDArray[np.float32]) -> bytes:
    """``packed``, the blocks of ``rows`` (out, in) as ``kind``, with codes that change its output less.

    ``products`` (in / 256, 256, 256) are sums of products of input channels, a block's with each other.
    InvalidRequest for a kind that is not in ``wanrun.gguf.codes.LAYOUTS`` or products of other columns.
    """
    if kind not in LAYOUTS:
        raise InvalidRequest(f"the codes of {kind} cannot be chosen; those of {', '.join(LAYOUTS)} can")
    out, columns = rows.shape
    if products.shape != (columns // BLOCK, BLOCK, BLOCK) or columns % BLOCK:
        raise InvalidRequest(f"products of shape {products.shape} do not fit rows of {columns} columns")
    blocks = torch.from_numpy(np.frombuffer(packed, np.uint8).copy()).reshape(-1, tensor_type(kind).size)
    least, step = (part.reshape(out, columns) for part in grid(kind, blocks))
    codes = torch.empty(out, columns, dtype=torch.uint8)
    for index, pairs in enumerate(torch.from_numpy(products)):
        at = slice(BLOCK * index, BLOCK * (index + 1))
        weights = torch.from_numpy(rows[:, at]).clone()
        codes[:, at] = _choose(weights, least[:, at], step[:, at], _factor(pairs), LAYOUTS[kind].most)
    return put(kind, blocks, codes.reshape(-1, BLOCK)).numpy().tobytes()


def _factor(pairs: Tensor) -> Tensor:
    """The upper Cholesky factor of the inverse of the products: row j is how column j's error is spread."""
    pairs = pairs.double()
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
