"""Records every guided velocity of a run, so that an interrupted one continues exactly.

A sampler is a function of its starting noise, its random generator and the velocities it was given. Played
back, they bring any sampler to where it stopped, with its history and its random state, bit for bit and
without asking the model again. No sampler needs to know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from wanrun.errors import FormatError
from wanrun.types import Denoise

#: Stores the bytes of the velocity with this number, counted from 0.
Record = Callable[[int, bytes], None]


def taped(denoise: Denoise, played: Sequence[bytes], record: Record) -> Denoise:
    """``denoise`` whose first velocities come from ``played``, and whose others go to ``record``.

    Velocities are kept as little-endian float32. Raises FormatError for one of another size than the latents.
    """
    asked = 0

    def velocity(latents: Tensor, timestep: float) -> Tensor:
        nonlocal asked
        asked += 1
        if asked <= len(played):
            return _unpacked(played[asked - 1], latents)
        fresh = denoise(latents, timestep)
        record(asked - 1, fresh.cpu().contiguous().numpy().astype("<f4", copy=False).tobytes())
        return fresh

    return velocity


def _unpacked(data: bytes, like: Tensor) -> Tensor:
    values = np.frombuffer(data, "<f4")
    if values.size != like.numel():
        raise FormatError(f"a recorded velocity has {values.size} values, the latents {like.numel()}")
    return torch.from_numpy(values.astype(np.float32)).reshape(like.shape).to(like.device)
