"""Strengthens attention across frames (Luo et al. 2025, "Enhance-A-Video", arXiv 2502.07508).

At each place of the picture, the attention of its tokens in all frames to each other is (frames, frames). The
mean c of what lies off its diagonal says how much the frames look at one another; evenly spread attention has
c = 1/frames. What the block's self-attention adds is multiplied by

    max(1, c·(frames + weight))

so that blocks which relate frames to each other weigh more, and none weighs less.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from wanrun.wan.attention import attention
from wanrun.wan.model import Attention, Block, WanModel, split_heads


def strengthen(model: WanModel, weight: float) -> None:
    """Have the self-attention of every block weigh more as its frames attend to each other."""
    for block in cast("list[Block]", list(model.blocks)):
        block.add_module("self_attn", CrossFrame(block.self_attn, weight))


class CrossFrame(nn.Module):
    """The self-attention ``inner``, strengthened."""

    def __init__(self, inner: Attention, weight: float) -> None:
        super().__init__()
        self.inner, self.weight = inner, weight

    def forward(self, x: Tensor, turn: Tensor) -> Tensor:
        """See ``Attention.forward``."""
        inner = self.inner
        query = split_heads(inner.norm_q(inner.q(x), turn))
        key, value = inner.read(x, turn)
        mixed = attention(query, key, value)
        gain = intensity(query, key, frame_count(turn), self.weight)
        return inner._join(mixed * gain[:, None, None, None].to(mixed.dtype))


def frame_count(turn: Tensor) -> int:
    """The frames of a rotation (see ``wanrun.wan.rope``), whose first pair turns with the frame alone."""
    return len(torch.unique_consecutive(torch.view_as_real(turn[:, 0]), dim=0))


def intensity(query: Tensor, key: Tensor, frames: int, weight: float) -> Tensor:
    """max(1, c·(frames + weight)) of each row (batch,) of (batch, heads, tokens, dim) queries and keys."""
    if frames < 2:
        return torch.ones(len(query), device=query.device)
    # (batch, heads, places, frames, dim)
    q, k = (each.float().unflatten(2, (frames, -1)).transpose(2, 3) for each in (query, key))
    attended = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    diagonal = attended.diagonal(dim1=-2, dim2=-1).sum(-1)
    across = (frames - diagonal) / (frames * frames - frames)
    return torch.clamp(across.mean(dim=(1, 2)) * (frames + weight), min=1.0)
