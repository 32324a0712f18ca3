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
from wanrun.types import Denoise, StepCache

#: Stores the bytes of the velocity with this number, counted from 0.
Record = Callable[[int, bytes], None]


def taped(
    denoise: Denoise, played: Sequence[bytes], record: Record, cache: StepCache | None = None
) -> Denoise:
    """``denoise`` whose first velocities come from ``played``, and whose others go to ``record``.

    Velocities are kept as little-endian float32, each followed by what the step ``cache`` notes of it. Raises
    FormatError for one of another size than the latents.
    """
    asked = 0

    def velocity(latents: Tensor, timestep: float) -> Tensor:
        nonlocal asked
        asked += 1
        if asked <= len(played):
            data, size = played[asked - 1], 4 * latents.numel()
            if cache is not None:
                cache.replay(latents, timestep, data[size:])
                data = data[:size]
            return _unpacked(data, latents)
        fresh = denoise(latents, timestep)
        data = fresh.cpu().contiguous().numpy().astype("<f4", copy=False).tobytes()
        record(asked - 1, data if cache is None else data + cache.note())
        return fresh

    return velocity


def _unpacked(data: bytes, like: Tensor) -> Tensor:
    values = np.frombuffer(data, "<f4")
    if values.size != like.numel():
        raise FormatError(f"a recorded velocity has {values.size} values, the latents {like.numel()}")
    return torch.from_numpy(values.astype(np.float32)).reshape(like.shape).to(like.device)
