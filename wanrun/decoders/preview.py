"""Shows latents without decoding them, as a small picture for people who wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

if TYPE_CHECKING:
    from wanrun.types import Decoder, Frame

#: Standard deviations from the mean that are told apart.
_RANGE = 2.0
#: More positions of latents are not decoded for a small picture: 208x120 pixels of a video of 832x480.
_POSITIONS = 512


@torch.inference_mode()
def picture(latents: Tensor) -> Frame:
    """uint8 (height, width, 3) of the middle frame of latents, one pixel for each position.

    The channels are summed in three groups, each of its own fixed sign pattern. That shows what is where, but
    not its colours, which only the decoder of the model knows.
    """
    middle = latents[:, latents.shape[1] // 2].float().cpu()  # (channels, height, width)
    channels = torch.arange(len(middle), dtype=torch.float32)
    angles = channels[None] * torch.tensor([1.0, 2.0, 3.0])[:, None]
    values = torch.einsum("kc,chw->hwk", angles.cos(), middle)
    spread = values.std(correction=0).clamp(min=1e-6)
    values = (values - values.mean()) / (2 * _RANGE * spread) + 0.5
    pixels: Frame = (255 * values.nan_to_num().clamp(0, 1)).round().numpy().astype(np.uint8)
    return pixels


@torch.inference_mode()
def decoded_picture(latents: Tensor, decoder: Decoder) -> Frame:
    """uint8 (height, width, 3) of the middle frame of latents: what ``decoder`` makes of it, shrunk."""
    index = latents.shape[1] // 2
    middle = latents[:, index : index + 1].float().cpu()  # (channels, 1, height, width)
    while middle.shape[2] * middle.shape[3] > _POSITIONS:
        middle = avg_pool2d(middle, 2, ceil_mode=True)
    return next(iter(decoder.frames(middle)))
