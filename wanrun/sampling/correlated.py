"""Noise whose frames hang together (Ge et al. 2023, "Preserve Your Own Correlation", arXiv 2305.10474).

Each takes independent noise (channels, frames, height, width) and gives noise of the same distribution in
every frame, standard normal and independent between positions and channels, but correlated between frames.
The distribution is the model's own, so that only what differs from frame to frame changes.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Generator, Tensor

from wanrun.types import Range


def mixed(noise: Tensor, rng: Generator, *, alpha: Annotated[float, Range(0, 100)] = 1.0) -> Tensor:
    """All frames share a part of their noise: any two have the correlation α²/(1 + α²).

    ``alpha`` is how much stronger the shared part is than each frame's own. ε_i = (α·ε + ε_i')/√(1 + α²).
    """
    shared = torch.randn(noise[:, :1].shape, generator=rng, dtype=noise.dtype)
    return (alpha * shared + noise) / math.hypot(1, alpha)


def progressive(noise: Tensor, rng: Generator, *, alpha: Annotated[float, Range(0, 100)] = 1.0) -> Tensor:
    """Each frame goes on from the one before: frames i and j have the correlation (α/√(1 + α²))^|i − j|.

    ``alpha`` is how much of the frame before is kept. ε_i = (α·ε_{i−1} + ε_i')/√(1 + α²).
    """
    frames = [noise[:, 0]]
    for own in noise.unbind(1)[1:]:
        frames.append((alpha * frames[-1] + own) / math.hypot(1, alpha))
    return torch.stack(frames, dim=1)
