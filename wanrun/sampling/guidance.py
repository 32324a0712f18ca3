"""Combines a denoiser and two contexts into the guided velocity."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from wanrun.errors import InvalidRequest
from wanrun.types import SHAPED, BranchDenoiser, Denoise, Denoiser


@dataclass(frozen=True, slots=True)
class Guidance:
    """How strongly the positive prompt is followed, and when."""

    high: float
    #: For timesteps below 1000·``boundary``, where the low-noise expert answers.
    low: float
    boundary: float | None
    #: Guidance is used at sigmas from ``start`` down to ``end`` (Kynkäänniemi et al. 2024, arXiv 2404.07724).
    start: float = 1.0
    end: float = 0.0
    #: φ of Lin et al. 2023 (arXiv 2305.08891), which undoes overexposure; 0 leaves the guided velocity alone.
    rescale: float = 0.0
    #: w of the composition: how much more guidance the objects' nouns get.
    compose: float = 0.0

    def composes(self, timestep: float) -> bool:
        """Whether the objects' nouns get more guidance at this timestep."""
        return self.compose != 0 and self.scale(timestep) != 1 and timestep >= 1000 * SHAPED

    def scale(self, timestep: float) -> float:
        """The scale at a timestep; 1 is none."""
        if not 1000 * self.end <= timestep <= 1000 * self.start:
            return 1.0
        return self.high if self.boundary is None or timestep >= 1000 * self.boundary else self.low

    def combine(self, conditional: Tensor, unconditional: Tensor, timestep: float) -> Tensor:
        """v = v₋ + s·(v₊ − v₋), of which a part φ gets the standard deviation of v₊."""
        guided = unconditional + self.scale(timestep) * (conditional - unconditional)
        if not self.rescale:
            return guided
        return guided * (self.rescale * conditional.std() / guided.std() + (1 - self.rescale))


def guided(
    denoiser: Denoiser,
    positive: Tensor,
    negative: Tensor | None,
    guidance: Guidance,
    condition: Tensor | None = None,
    headless: Tensor | None = None,
) -> Denoise:
    """Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): v = v₋ + s·(v₊ − v₋), two passes.

    With ``headless``, the prompt's context without the nouns of its objects, w·(v₊ − v₀) is added until they
    have their shape: a composition of velocities (Liu et al. 2022, arXiv 2206.01714) of the whole and of what
    it is without a part, for a third pass.

    A denoiser that is a ``BranchDenoiser`` makes one of them. Where s is 1 the second pass is skipped. Raises
    InvalidRequest for a scale that is not finite or that lacks its negative context.
    """
    scales = (
        {"guidance_high": guidance.high, "guidance_low": guidance.low}
        if guidance.boundary is not None
        else {"guidance": guidance.high}
    )
    for name, value in scales.items():
        if not math.isfinite(value):
            raise InvalidRequest(f"{name} must be a number, not {value}")
        if value != 1 and negative is None:
            raise InvalidRequest(f"{name} {value:g} needs a negative prompt's context; only 1 goes without")

    def denoise(latents: Tensor, timestep: float) -> Tensor:
        if negative is None or guidance.scale(timestep) == 1:
            return denoiser.velocity(latents, timestep, positive, condition)
        contexts = [positive, negative]
        if headless is not None and guidance.composes(timestep):
            contexts.append(headless)
        if isinstance(denoiser, BranchDenoiser):
            found = denoiser.velocities(latents, timestep, contexts, condition)
        else:
            found = [denoiser.velocity(latents, timestep, each, condition) for each in contexts]
        conditional, unconditional, *without = found
        velocity = guidance.combine(conditional, unconditional, timestep)
        return velocity + guidance.compose * (conditional - without[0]) if without else velocity

    return denoise
