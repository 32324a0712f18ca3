"""Decodes in tiles that overlap, for pictures whose whole decoding does not fit in memory.

Only one tile's activations and feature cache exist at a time; the price is that the pixels of all frames are
held, in half precision, until the last tile is done. There are no tiles in time: every tile is decoded one
latent frame at a time anyway, with exactly the past that its layers remember, which no shorter piece of the
clip could do with less memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from math import ceil

import torch
from torch import Tensor

#: A tile's overlap with its neighbour is this part of its side.
_OVERLAP = 4

#: (channels, frames, height, width) latents to (3, height, width) float32 pictures.
Decode = Callable[[Tensor], Iterator[Tensor]]


def tiled(decode: Decode, latents: Tensor, tile: int) -> Iterator[Tensor]:
    """The pictures of ``latents``, decoded in tiles of at most ``tile`` latent positions a side.

    Where tiles overlap they are blended linearly, which hides that each sees only its own surroundings.
    """
    total: Tensor | None = None
    canvas = torch.empty(0)
    height, width = latents.shape[2:]
    for (top, rows), (left, columns) in product(spans(height, tile), spans(width, tile)):
        part = latents[:, :, top : top + rows, left : left + columns]
        for index, picture in enumerate(decode(part)):
            stride = picture.shape[-1] // columns
            if total is None:
                frames = 4 * latents.shape[1] - 3
                canvas = torch.zeros(frames, 3, height * stride, width * stride, dtype=torch.float16)
                total = torch.zeros(height * stride, width * stride)
            weight = _ramp(rows, tile, stride)[:, None] * _ramp(columns, tile, stride)
            at = slice(top * stride, (top + rows) * stride), slice(left * stride, (left + columns) * stride)
            canvas[index, :, *at] += (picture.cpu() * weight).half()
            if index == 0:
                total[at] += weight
    if total is not None:
        for picture in canvas:
            yield picture.float() / total


def spans(length: int, tile: int) -> list[tuple[int, int]]:
    """(start, size) of the tiles along one side: as few as there can be, evenly spread."""
    if tile >= length:
        return [(0, length)]
    step = tile - max(1, tile // _OVERLAP)
    count = ceil((length - tile) / step) + 1
    return [(round(index * (length - tile) / (count - 1)), tile) for index in range(count)]


def _ramp(size: int, tile: int, stride: int) -> Tensor:
    """Weights along one side of a tile in pixels: rising over the overlap, falling at the end."""
    place = torch.arange(size * stride) + 0.5
    edge = torch.minimum(place, size * stride - place)
    return (edge / (max(1, tile // _OVERLAP) * stride)).clamp(max=1.0)
