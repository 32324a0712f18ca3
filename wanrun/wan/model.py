"""The Wan diffusion transformer: predicts the velocity of noisy latents.

Wan technical report (arXiv 2503.20314); layout and precision as in Wan2.2 wan/modules/model.py: linear
layers and attention in the compute dtype; norms, modulation, gates, residual, time embedding and head in
float32. Parameter names are the original checkpoint's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wanrun.wan.attention import attention
from wanrun.wan.config import EPS, FREQUENCY_DIM, HEAD_DIM, PATCH, WanConfig
from wanrun.wan.context import Context
from wanrun.wan.rope import rotate_, rotation


class RMSNorm(nn.Module):
    """Root-mean-square norm over all channels, before the split into heads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, turn: Tensor | None = None) -> Tensor:
        """The normalised ``x`` (batch, tokens, width), its heads rotated by ``turn``; dtype is kept.

        One float32 copy is changed in place: with a copy for each operation it takes three times as long.
        """
        wide = x.to(torch.float32, copy=True)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        wide.mul_((length.square() / x.shape[-1] + EPS).rsqrt()).mul_(self.weight)
        if turn is not None:
            rotate_(wide.unflatten(-1, (-1, HEAD_DIM)), turn)
        return wide.to(x.dtype)


def split_heads(x: Tensor) -> Tensor:
    """(batch, tokens, width) -> (batch, heads, tokens, 128)."""
    heads: Tensor = x.unflatten(-1, (-1, HEAD_DIM))
    return heads.transpose(1, 2)


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm(x)·(1+scale)+shift on (batch, tokens, width) with (1 or batch, 1 or frames, width)."""
    if shift.shape[:2] == (1, 1):
        return F.layer_norm(x, x.shape[-1:], 1 + scale[0, 0], shift[0, 0], EPS)
    frames: Tensor = F.layer_norm(x, x.shape[-1:], eps=EPS).unflatten(1, (shift.shape[1], -1))
    return torch.addcmul(shift.unsqueeze(2), frames, 1 + scale.unsqueeze(2)).flatten(1, 2)


def add_gated(x: Tensor, change: Tensor, amount: Tensor) -> Tensor:
    """x + change·amount in float32, with the broadcasting of ``modulated_norm``."""
    frames: Tensor = x.unflatten(1, (amount.shape[1], -1))
    return torch.addcmul(frames, change.float().view_as(frames), amount.unsqueeze(2)).flatten(1, 2)


class Attention(nn.Module):
    """Attention with normalised queries and keys: over the video's tokens, or over the text's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(width, width), nn.Linear(width, width)
        self.v, self.o = nn.Linear(width, width), nn.Linear(width, width)
        self.norm_q, self.norm_k = RMSNorm(width), RMSNorm(width)

    def forward(self, x: Tensor, turn: Tensor) -> Tensor:
        """Over the tokens of ``x`` itself, queries and keys rotated by ``turn``."""
        query = split_heads(self.norm_q(self.q(x), turn))
        return self._join(attention(query, *self.read(x, turn)))

    def read(self, source: Tensor, turn: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The keys and values of ``source``, (batch, heads, tokens, 128) each, the keys rotated."""
        return split_heads(self.norm_k(self.k(source), turn)), split_heads(self.v(source))

    def across(self, x: Tensor, read: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        """Over what was ``read``; ``bias`` adds to the logits."""
        return self._join(attention(split_heads(self.norm_q(self.q(x))), *read, bias))

    def _join(self, mixed: Tensor) -> Tensor:
        out: Tensor = self.o(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """Self-attention, cross-attention and feed-forward around a float32 residual."""

    def __init__(self, config: WanConfig, dtype: torch.dtype) -> None:
        super().__init__()
        width = config.width
        self.dtype = dtype
        self.modulation = nn.Parameter(torch.randn(1, 6, width) / width**0.5)
        self.self_attn = Attention(width)
        self.norm3 = nn.LayerNorm(width, eps=EPS)
        self.cross_attn = Attention(width)
        self.ffn = nn.Sequential(
            nn.Linear(width, config.ffn_width),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.ffn_width, width),
        )

    def forward(
        self, x: Tensor, time: Tensor, text: tuple[Tensor, Tensor], text_bias: Tensor, turn: Tensor
    ) -> Tensor:
        """``x`` (batch, tokens, width); ``time`` (batch, 1 or frames, 6, width); ``text`` keys and values."""
        shift_sa, scale_sa, gate_sa, shift_ff, scale_ff, gate_ff = (self.modulation + time).unbind(2)
        h = modulated_norm(x, shift_sa, scale_sa).to(self.dtype)
        x = add_gated(x, self.self_attn(h, turn), gate_sa)
        x = x + self.cross_attn.across(self.norm3(x).to(self.dtype), text, text_bias).float()
        h = modulated_norm(x, shift_ff, scale_ff).to(self.dtype)
        return add_gated(x, self.ffn(h), gate_ff)


class Head(nn.Module):
    """Final norm, modulated by the time vector itself, and the projection to patches."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.modulation = nn.Parameter(torch.randn(1, 2, config.width) / config.width**0.5)
        self.head = nn.Linear(config.width, config.out_channels * PATCH[1] * PATCH[2])

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        shift, scale = (self.modulation + time.unsqueeze(2)).unbind(2)
        out: Tensor = self.head(modulated_norm(x, shift, scale))
        return out


def time_features(timestep: Tensor) -> Tensor:
    """Sinusoids of timesteps 0..1000: cosines first, (..., 256) float32 from float64 angles."""
    half = FREQUENCY_DIM // 2
    # made on the CPU: some devices have no float64
    exponents = torch.arange(half, dtype=torch.float64) / half
    angles = timestep.cpu().to(torch.float64)[..., None] * 10000.0**-exponents
    return torch.cat([angles.cos(), angles.sin()], dim=-1).float().to(timestep.device)


#: Takes hidden states (batch, tokens, width) through blocks, some or all of them; what it is told of the time
#: is the (batch, 1 or latent frames, width) time vector. A step cache leaves blocks out here.
Walk: TypeAlias = Callable[[Tensor, Sequence[Callable[[Tensor], Tensor]], Tensor], Tensor]


def straight(x: Tensor, blocks: Sequence[Callable[[Tensor], Tensor]], time: Tensor) -> Tensor:
    """The Walk through every block."""
    for block in blocks:
        x = block(x)
    return x


@dataclass(frozen=True, slots=True)
class Prompt:
    """A Context as one model's blocks see it: keys and values (batch, heads, keys, 128) of each."""

    text: list[tuple[Tensor, Tensor]]
    bias: Tensor


class WanModel(nn.Module):
    """The whole transformer; ``dtype`` is what its linear layers and attention compute in."""

    def __init__(self, config: WanConfig, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        width = config.width
        self.config, self.dtype = config, dtype
        self.patch_embedding = nn.Conv3d(config.in_channels, width, PATCH, stride=PATCH)
        self.text_embedding = nn.Sequential(
            nn.Linear(config.text_width, width), nn.GELU(approximate="tanh"), nn.Linear(width, width)
        )
        self.time_embedding = nn.Sequential(
            nn.Linear(FREQUENCY_DIM, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(Block(config, dtype) for _ in range(config.layers))
        self.head = Head(config)

    def read(self, context: Context) -> Prompt:
        """What the blocks need of the prompts: it is the same at every timestep."""
        text = self.text_embedding(context.rows.to(self.dtype))
        blocks = cast("list[Block]", list(self.blocks))
        return Prompt([block.cross_attn.read(text) for block in blocks], context.bias)

    def forward(
        self, latents: Tensor, timestep: Tensor, prompt: Prompt | Context, walk: Walk = straight
    ) -> Tensor:
        """Velocity (batch, out_channels, frames, height, width) float32.

        ``latents`` (batch, in_channels, frames, height, width), condition channels joined after the latents';
        ``timestep`` 0..1000, (1 or batch, 1), or (1 or batch, frames) for one per latent frame; ``prompt``
        as it was read, or to be read here; ``walk`` takes the hidden states through the blocks.
        """
        if isinstance(prompt, Context):
            prompt = self.read(prompt)
        x = self.patch_embedding(latents)
        grid = x.shape[2:]  # (frames, height/2, width/2)
        x = x.flatten(2).transpose(1, 2).float()  # (batch, tokens, width)
        turn = rotation(grid[0], grid[1], grid[2], device=x.device)
        time = self.time_embedding(time_features(timestep))
        modulation = self.time_projection(time).unflatten(-1, (6, -1))
        blocks = [
            partial(block, time=modulation, text=text, text_bias=prompt.bias, turn=turn)
            for block, text in zip(self.blocks, prompt.text, strict=True)
        ]
        x = walk(x, blocks, time)
        return self._unpatchify(self.head(x, time), *grid)

    def _unpatchify(self, x: Tensor, frames: int, height: int, width: int) -> Tensor:
        # the channel is the fastest of a patch's axes here, unlike in the convolution's weight
        patches: Tensor = x.unflatten(2, (PATCH[1], PATCH[2], -1)).unflatten(1, (frames, height, width))
        return patches.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)
