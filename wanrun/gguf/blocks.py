"""Unpacks the common ggml block formats in torch, for devices that the C library cannot reach.

Each function takes blocks as (number, bytes) uint8 and returns (number, elements) float32, bit for bit what
the C routine of the same name in ``ggml/src/ggml-quants.c`` gives: products of a half-precision scale with
small integers are exact in float32, so the order of the few roundings left is all that has to agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

#: The non-linear 4-bit levels of IQ4_NL and IQ4_XS.
_LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def _half(blocks: Tensor, at: int) -> Tensor:
    """The float16 at byte ``at`` of each block, as (number, 1) float32."""
    return blocks[:, at : at + 2].contiguous().view(torch.float16).to(torch.float32)


def _shifted(data: Tensor, step: int, count: int, dim: int) -> Tensor:
    """``data`` shifted right by 0, step, … along a new dimension ``dim`` of ``count`` entries."""
    shifts = torch.arange(0, step * count, step, dtype=torch.uint8, device=data.device)
    return data.unsqueeze(dim) >> shifts.reshape(-1, *[1] * (-dim - 1))


def _nibbles(data: Tensor) -> Tensor:
    """The 32 numbers of each run of 16 bytes: all low halves, then all high ones."""
    return (_shifted(data, 4, 2, -2) & 15).flatten(-2)


def _fifth_bits(data: Tensor) -> Tensor:
    """(number, 4) bytes -> (number, 32), each bit as 16 or 0."""
    return (_shifted(data, 1, 8, -1) & 1).flatten(1) << 4


def _q4_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * (_nibbles(blocks[:, 2:]).float() - 8)


def _q4_1(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * _nibbles(blocks[:, 4:]).float() + _half(blocks, 2)


def _q5_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * ((_nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6])).float() - 16)


def _q5_1(blocks: Tensor) -> Tensor:
    numbers = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8])
    return _half(blocks, 0) * numbers.float() + _half(blocks, 2)


def _q8_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * blocks[:, 2:].view(torch.int8).float()


def _q2_k(blocks: Tensor) -> Tensor:
    scales = blocks[:, :16, None]
    numbers = _shifted(blocks[:, 16:80].reshape(-1, 2, 32), 2, 4, -2) & 3  # (number, 2, 4, 32)
    scale = _half(blocks, 80)[..., None] * (scales & 15).float()
    least = _half(blocks, 82)[..., None] * (scales >> 4).float()
    return (scale * numbers.reshape(-1, 16, 16).float() - least).flatten(1)


def _q3_k(blocks: Tensor) -> Tensor:
    high = _shifted(blocks[:, :32], 1, 8, -2) & 1  # (number, 8, 32)
    low = (_shifted(blocks[:, 32:96].reshape(-1, 2, 32), 2, 4, -2) & 3).reshape(-1, 8, 32)
    numbers = (low | high << 2).float() - 4
    packed = blocks[:, 96:108]
    low_scales = (_shifted(packed[:, :8], 4, 2, -2) & 15).flatten(1)
    high_scales = (_shifted(packed[:, 8:], 2, 4, -2) & 3).flatten(1)
    scale = _half(blocks, 108) * ((low_scales | high_scales << 4).float() - 32)
    return (scale[..., None] * numbers.reshape(-1, 16, 16)).flatten(1)


def _k_scales(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Twelve bytes -> eight 6-bit scales and eight 6-bit minima, (number, 8, 1) float32."""
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = torch.cat([first & 63, (third & 15) | (first >> 2 & 48)], 1)
    minima = torch.cat([second & 63, (third >> 4) | (second >> 2 & 48)], 1)
    return scales.float()[..., None], minima.float()[..., None]


def _q4_k(blocks: Tensor) -> Tensor:
    scales, minima = _k_scales(blocks[:, 4:16])
    numbers = (_shifted(blocks[:, 16:].reshape(-1, 4, 32), 4, 2, -2) & 15).reshape(-1, 8, 32).float()
    return (_half(blocks, 0)[..., None] * scales * numbers - _half(blocks, 2)[..., None] * minima).flatten(1)


def _q5_k(blocks: Tensor) -> Tensor:
    scales, minima = _k_scales(blocks[:, 4:16])
    high = (_shifted(blocks[:, 16:48], 1, 8, -2) & 1) << 4  # (number, 8, 32)
    low = (_shifted(blocks[:, 48:].reshape(-1, 4, 32), 4, 2, -2) & 15).reshape(-1, 8, 32)
    numbers = (low | high).float()
    return (_half(blocks, 0)[..., None] * scales * numbers - _half(blocks, 2)[..., None] * minima).flatten(1)


def _q6_k(blocks: Tensor) -> Tensor:
    low = (_shifted(blocks[:, :128].reshape(-1, 2, 64), 4, 2, -2) & 15).reshape(-1, 2, 4, 32)
    high = _shifted(blocks[:, 128:192].reshape(-1, 2, 32), 2, 4, -2) & 3
    numbers = (low | high << 4).reshape(-1, 16, 16).float() - 32
    scales = blocks[:, 192:208].contiguous().view(torch.int8).float()
    return ((_half(blocks, 208) * scales)[..., None] * numbers).flatten(1)


def _levels(numbers: Tensor) -> Tensor:
    return torch.tensor(_LEVELS, dtype=torch.float32, device=numbers.device)[numbers.int()]


def _iq4_nl(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * _levels(_nibbles(blocks[:, 2:]))


def _iq4_xs(blocks: Tensor) -> Tensor:
    high = (_shifted(blocks[:, 2:4], 2, 4, -1) & 3).flatten(1)
    low = (_shifted(blocks[:, 4:8], 4, 2, -1) & 15).flatten(1)
    scale = _half(blocks, 0) * ((low | high << 4).float() - 32)
    return (scale[..., None] * _levels(_nibbles(blocks[:, 8:].reshape(-1, 8, 16)))).flatten(1)


#: The formats that torch unpacks.
UNPACK: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "Q4_0": _q4_0,
        "Q4_1": _q4_1,
        "Q5_0": _q5_0,
        "Q5_1": _q5_1,
        "Q8_0": _q8_0,
        "Q2_K": _q2_k,
        "Q3_K": _q3_k,
        "Q4_K": _q4_k,
        "Q5_K": _q5_k,
        "Q6_K": _q6_k,
        "IQ4_NL": _iq4_nl,
        "IQ4_XS": _iq4_xs,
    }
)
