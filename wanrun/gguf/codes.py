"""The numbers in ggml's K blocks, taken apart from the scales that they are multiplied by.

An element of a block is ``least + step · code`` with a code of 0 to ``LAYOUTS[kind].most``. The bits of the
codes lie where ``dequantize_row_…`` of ggml-quants.c finds them (see ``wanrun.gguf.blocks``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from wanrun.gguf.blocks import UNPACK


class Layout(NamedTuple):
    """Bytes ``first`` to ``last`` of a block hold the codes, which ``pack`` makes of (number, 256) uint8."""

    first: int
    last: int
    most: int
    pack: Callable[[Tensor], Tensor]


def grid(kind: str, blocks: Tensor) -> tuple[Tensor, Tensor]:
    """``least`` and ``step``, (number, 256) float32, of (number, bytes) uint8 blocks with any codes."""
    layout = LAYOUTS[kind]
    ends = []
    for byte in (0, 255):
        filled = blocks.clone()
        filled[:, layout.first : layout.last] = byte
        ends.append(UNPACK[kind](filled))
    return ends[0], (ends[1] - ends[0]) / layout.most


def put(kind: str, blocks: Tensor, codes: Tensor) -> Tensor:
    """``blocks`` with these (number, 256) uint8 codes in place of their own."""
    layout = LAYOUTS[kind]
    made = blocks.clone()
    made[:, layout.first : layout.last] = layout.pack(codes)
    return made


def _joined(parts: Tensor, bits: int) -> Tensor:
    """(number, …, count, width) codes of ``bits`` bits -> bytes, the first of ``count`` in the low bits."""
    joined = torch.zeros_like(parts[..., 0, :])
    for index in range(parts.shape[-2]):
        joined |= parts[..., index, :] << bits * index
    return joined.flatten(1)


def _quarters(codes: Tensor) -> Tensor:
    """2-bit codes: in each half of a block four runs of 32 share 32 bytes."""
    return _joined(codes.reshape(-1, 2, 4, 32), 2)


def _halves(codes: Tensor) -> Tensor:
    """4-bit codes: in each quarter of a block two runs of 32 share 32 bytes."""
    return _joined(codes.reshape(-1, 4, 2, 32), 4)


def _eighths(codes: Tensor) -> Tensor:
    """1-bit codes: all eight runs of 32 share 32 bytes."""
    return _joined(codes.reshape(-1, 8, 32), 1)


def _q3_k(codes: Tensor) -> Tensor:
    return torch.cat([_eighths(codes >> 2), _quarters(codes & 3)], 1)


def _q5_k(codes: Tensor) -> Tensor:
    return torch.cat([_eighths(codes >> 4), _halves(codes & 15)], 1)


def _q6_k(codes: Tensor) -> Tensor:
    low = _joined((codes & 15).reshape(-1, 2, 2, 64), 4)  # runs of 64, unlike Q4_K's
    return torch.cat([low, _quarters(codes >> 4)], 1)


#: The types whose codes can be chosen.
LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "Q2_K": Layout(16, 80, 3, _quarters),
        "Q3_K": Layout(0, 96, 7, _q3_k),
        "Q4_K": Layout(16, 144, 15, _halves),
        "Q5_K": Layout(16, 176, 31, _q5_k),
        "Q6_K": Layout(0, 192, 63, _q6_k),
    }
)
