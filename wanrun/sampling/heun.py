"""Samples with Heun's method."""

from __future__ import annotations

from itertools import pairwise

from torch import Generator, Tensor

from wanrun.sampling.trajectory import levels
from wanrun.types import Denoise, OnStep, forwards


@forwards(2)
def sample(denoise: Denoise, latents: Tensor, sigmas: Tensor, rng: Generator, on_step: OnStep) -> Tensor:
    """Heun (Karras et al. 2022, arXiv 2206.00364, algorithm 1): the mean of the velocities at both ends.

    Two evaluations a step, one on the last, as in diffusers; the model is told 1000σ with its fraction.
    Deterministic: ``rng`` is not used. Raises InvalidRequest for sigmas that do not fall.

    Good for accuracy at half as many steps, if memory of earlier steps misleads the others.
    """
    for index, (start, end) in enumerate(pairwise(levels(sigmas))):
        velocity = denoise(latents, 1000 * start)
        clean = latents - start * velocity
        if end > 0:
            velocity = 0.5 * (velocity + denoise(latents + (end - start) * velocity, 1000 * end))
        latents = latents + (end - start) * velocity
        on_step(index, latents, clean)
    return latents
