"""Samples with Euler's method."""

from __future__ import annotations

from itertools import pairwise

from torch import Generator, Tensor

from wanrun.sampling.trajectory import levels
from wanrun.types import Denoise, OnStep


def sample(denoise: Denoise, latents: Tensor, sigmas: Tensor, rng: Generator, on_step: OnStep) -> Tensor:
    """Euler: x' = x + (σ' − σ)·v, one evaluation a step; the model is told 1000σ with its fraction.

    Deterministic: ``rng`` is not used. Raises InvalidRequest for sigmas that do not fall.

    Good for distilled models of four to eight steps, and as the measure of the others.
    """
    for index, (start, end) in enumerate(pairwise(levels(sigmas))):
        velocity = denoise(latents, 1000 * start)
        clean = latents - start * velocity
        latents = latents + (end - start) * velocity
        on_step(index, latents, clean)
    return latents
