"""Draws the noise that a run starts from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from wanrun.errors import InvalidRequest

#: torch seeds its Mersenne twister with 32 bits (aten/src/ATen/core/MT19937RNGEngine.h): above, seeds repeat.
SEED_LIMIT = 2**32

#: Elements in the largest latents we will draw: 16 channels of 1,000 seconds at 1080p stay below it.
ELEMENT_LIMIT = 2**32


def initial_noise(shape: Sequence[int], seed: int) -> Tensor:
    """Standard normal float32 of ``shape``, on the CPU so that a seed means the same on every device.

    The official code (Wan2.2 ``wan/text2video.py``) draws on the GPU instead, so its seeds give other videos.
    Raises InvalidRequest for a seed outside 0..2³²−1 or a shape with an empty or absurd axis.
    """
    if any(size < 1 for size in shape) or math.prod(shape) > ELEMENT_LIMIT:
        raise InvalidRequest(
            f"latents cannot have the shape {tuple(shape)}: ask for another size or frame count"
        )
    return torch.randn(*shape, generator=_generator(seed), dtype=torch.float32)


def frame_generator(seed: int) -> Generator:
    """The generator for what frames of correlated noise share; its stream is none of the others'."""
    return _generator(seed, offset=SEED_LIMIT // 4)


def step_generator(seed: int) -> Generator:
    """The generator for a sampler that adds noise as it goes.

    Its stream differs from that of ``initial_noise``: the same numbers twice would correlate the noise
    added with the noise already in the latents.
    """
    return _generator(seed, offset=SEED_LIMIT // 2)


def _generator(seed: int, offset: int = 0) -> Generator:
    if not 0 <= seed < SEED_LIMIT:
        raise InvalidRequest(f"seed must be 0 to {SEED_LIMIT - 1}, not {seed}")
    return torch.Generator("cpu").manual_seed((seed + offset) % SEED_LIMIT)
