"""Counts the arithmetic of each part, in floating-point operations: two for each multiplication and addition.

With S tokens, L layers, width d, feed-forward width f and T text rows, one forward of the transformer takes

    linear = 2·S·L·(6d² + 2·d·f) + 2·S·(elements of adapters)
    self   = 4·S²·L·d
    cross  = 4·S·T·L·d + 4·T·L·d²

and the decoders what their convolutions do, one by one (Wan2.1 wan/modules/model.py, vae2_1.py; Wan2.2
wan/modules/vae2_2.py; madebyollin/taehv taehv.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from wanrun.runtime.shapes import Autoencoder, TextEncoder, TinyAutoencoder, Transformer

#: Rows of text that the official model reads; ours reads the prompt's and one that stands for the padding.
TEXT_TOKENS = 512

_VAE_STAGES = 4
_TINY_WIDTHS = (256, 128, 64, 64)
_TINY_TIME = (1, 2, 2)


@dataclass(frozen=True, slots=True)
class Forward:
    """The operations of one forward: in matrix products with weights, and in attention."""

    linear: float
    attention: float


def forward(model: Transformer, tokens: int, text_tokens: int = TEXT_TOKENS) -> Forward:
    """One forward over ``tokens`` positions and ``text_tokens`` rows of text."""
    d, f, layers = model.width, model.ffn_width, model.layers
    linear = 2 * tokens * layers * (6 * d * d + 2 * d * f) + 4 * text_tokens * layers * d * d
    linear += 2 * tokens * model.adapter_elements
    attention = 4 * tokens * tokens * layers * d + 4 * tokens * text_tokens * layers * d
    return Forward(float(linear), float(attention))


def encode(encoder: TextEncoder, tokens: int) -> float:
    """One prompt of ``tokens`` true tokens, without the scores of its attention, which are nothing beside."""
    return 2.0 * tokens * encoder.layer_elements


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution while one latent frame is decoded.

    ``scale`` is its output's positions per latent position along a side, ``frames`` how many frames it makes
    of the latent frame. ``time_taps`` of 3 look two frames back.
    """

    inputs: int
    outputs: int
    time_taps: int
    space_taps: int
    scale: int
    frames: int
    kind: Literal["residual", "upsample", "doubling", "memory", "plain"] = "plain"

    def operations(self, positions: int, first: bool = False) -> float:
        """For a latent frame of ``positions``; a clip's ``first`` is one frame, whose past is zeros."""
        frames, taps = (1, 1) if first else (self.frames, self.time_taps)
        if first and self.kind == "doubling":
            return 0.0
        return 2.0 * self.inputs * self.outputs * taps * self.space_taps * frames * positions * self.scale**2


def convolutions(decoder: Autoencoder) -> Iterator[Convolution]:
    """Those of the VAE's decoder in their order."""
    wide = 4 * decoder.width
    yield Convolution(decoder.latent_channels, decoder.latent_channels, 1, 1, 1, 1)
    yield Convolution(decoder.latent_channels, wide, 3, 9, 1, 1)
    yield from _residual(wide, wide, 1, 1)
    yield Convolution(wide, 3 * wide, 1, 1, 1, 1)
    yield Convolution(wide, wide, 1, 1, 1, 1)
    yield from _residual(wide, wide, 1, 1)
    before, scale, frames = wide, 1, 1
    for stage, after in enumerate((wide, wide, wide // 2, wide // 4)):
        for block in range(3):
            yield from _residual(after if block else before, after, scale, frames)
        before = after
        if stage == _VAE_STAGES - 1:
            break
        if stage < 2:
            yield Convolution(after, 2 * after, 3, 1, scale, frames, "doubling")
            frames *= 2
        scale *= 2
        # version 2.1 halves the channels with each upsampling
        before = after if decoder.patch == 2 else after // 2
        yield Convolution(after, before, 1, 9, scale, frames, "upsample")
    yield Convolution(before, 3 * decoder.patch**2, 3, 9, scale, frames)


def _residual(inputs: int, outputs: int, scale: int, frames: int) -> Iterator[Convolution]:
    yield Convolution(inputs, outputs, 3, 9, scale, frames, "residual")
    yield Convolution(outputs, outputs, 3, 9, scale, frames, "residual")
    if inputs != outputs:
        yield Convolution(inputs, outputs, 1, 1, scale, frames)


def tiny_convolutions(decoder: TinyAutoencoder) -> Iterator[Convolution]:
    """Those of the tiny decoder in their order; it makes four frames of every latent frame, the first too."""
    yield Convolution(decoder.latent_channels, _TINY_WIDTHS[0], 1, 9, 1, 1)
    scale = frames = 1
    for (width, after), stride in zip(pairwise(_TINY_WIDTHS), _TINY_TIME, strict=True):
        for _ in range(3):
            yield Convolution(2 * width, width, 1, 9, scale, frames, "memory")
            yield Convolution(width, width, 1, 9, scale, frames)
            yield Convolution(width, width, 1, 9, scale, frames)
        scale *= 2
        yield Convolution(width, width * stride, 1, 1, scale, frames)
        frames *= stride
        yield Convolution(width, after, 1, 9, scale, frames)
    yield Convolution(_TINY_WIDTHS[-1], 3 * decoder.patch**2, 1, 9, scale, frames)


def decode(decoder: Autoencoder | TinyAutoencoder, latent: tuple[int, int, int, int]) -> float:
    """A clip of latents (channels, frames, height, width); attention within the VAE's frames included."""
    _, frames, height, width = latent
    positions = height * width
    if isinstance(decoder, TinyAutoencoder):
        return frames * sum(conv.operations(positions) for conv in tiny_convolutions(decoder))
    layers = list(convolutions(decoder))
    first = sum(conv.operations(positions, first=True) for conv in layers)
    rest = sum(conv.operations(positions) for conv in layers)
    return first + (frames - 1) * rest + frames * bottleneck_attention(decoder, positions)


def bottleneck_attention(decoder: Autoencoder, positions: int) -> float:
    """The attention of one latent frame in the VAE's bottleneck."""
    return 4.0 * positions * positions * 4 * decoder.width
