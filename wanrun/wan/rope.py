"""Rotary position embedding over (time, height, width).

RoFormer (Su et al. 2021, arXiv 2104.09864), laid out as in Wan2.1 wan/modules/model.py: a head's 64 complex
pairs are split 22/21/21 over the axes, pairs are interleaved, base 10000.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wanrun.wan.config import HEAD_DIM


def rotation(frames: int, height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """(frames·height·width, 64) complex64: the rotation of every token of a grid, time slowest."""
    spatial = 2 * (HEAD_DIM // 6)
    axis_dims = (HEAD_DIM - 2 * spatial, spatial, spatial)
    grid = torch.cartesian_prod(
        *(torch.arange(size, dtype=torch.float64) for size in (frames, height, width))
    )
    angles = [
        grid[:, axis, None] * 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        for axis, dim in enumerate(axis_dims)
    ]
    angle = torch.cat(angles, dim=1)  # (tokens, 64)
    # complex64 is made from float64 angles: float32 angles lose the phase of far positions
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64).to(device)


def rotate_(heads: Tensor, rotation: Tensor) -> Tensor:
    """Turn in place the pairs of ``heads``, (batch, tokens, heads, 128) float32.

    ``rotation`` is (tokens, 64).
    """
    torch.view_as_complex(heads.unflatten(-1, (-1, 2))).mul_(rotation[:, None])
    return heads
