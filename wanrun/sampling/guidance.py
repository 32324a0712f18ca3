"""Combines a denoiser and two contexts into the guided velocity."""

from __future__ import annotations

import math

from torch import Tensor

from wanrun.errors import InvalidRequest
from wanrun.types import BranchDenoiser, Denoise, Denoiser


def guided(
    denoiser: Denoiser,
    positive: Tensor,
    negative: Tensor | None,
    scale_high: float,
    scale_low: float,
    boundary: float | None,
    condition: Tensor | None = None,
) -> Denoise:
    """Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): v = v₋ + s·(v₊ − v₋), two passes.

    A denoiser that is a ``BranchDenoiser`` makes one of them. s is ``scale_high`` where the timestep is at
    least 1000·``boundary``, as the experts switch, else ``scale_low``; without ``boundary`` it is always
    ``scale_high``. Where s is 1 the second pass is skipped. Raises InvalidRequest for a scale that is not
    finite or that lacks its negative context.
    """
    scales = (
        {"guidance_high": scale_high, "guidance_low": scale_low}
        if boundary is not None
        else {"guidance": scale_high}
    )
    for name, value in scales.items():
        if not math.isfinite(value):
            raise InvalidRequest(f"{name} must be a number, not {value}")
        if value != 1 and negative is None:
            raise InvalidRequest(f"{name} {value:g} needs a negative prompt's context; only 1 goes without")

    def denoise(latents: Tensor, timestep: float) -> Tensor:
        high = boundary is None or timestep >= 1000 * boundary
        scale = scale_high if high else scale_low
        if negative is None or scale == 1:
            return denoiser.velocity(latents, timestep, positive, condition)
        if isinstance(denoiser, BranchDenoiser):
            both = denoiser.velocities(latents, timestep, [positive, negative], condition)
        else:
            both = [denoiser.velocity(latents, timestep, each, condition) for each in (positive, negative)]
        conditional, unconditional = both
        return unconditional + scale * (conditional - unconditional)

    return denoise
