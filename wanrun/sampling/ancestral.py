"""Samples with first-order steps that renew a part of the noise: one evaluation a step.

At its new level the noise's variance is right whatever part is kept (see ``wanrun.sampling.renoise``); the
samplers differ in that part. All are reproducible from the seed. The model is told 1000σ with its fraction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated

from torch import Generator, Tensor

from wanrun.sampling.renoise import decay, renoise
from wanrun.sampling.trajectory import levels
from wanrun.types import Denoise, OnStep, Range

#: The share of the noise, 0..1, that a step from one sigma to another keeps.
Kept = Callable[[float, float], float]


def ddim(
    denoise: Denoise,
    latents: Tensor,
    sigmas: Tensor,
    rng: Generator,
    on_step: OnStep,
    *,
    eta: Annotated[float, Range(0, 1)] = 0.0,
) -> Tensor:
    """DDIM (Song et al. 2021, arXiv 2010.02502, equation 16): Euler with ``eta`` of DDPM's noise.

    Good for variety at a steady amount of noise; without eta it is euler.
    """
    return _sample(denoise, latents, sigmas, rng, on_step, lambda start, end: _ddim(start, end, eta))


def ddpm(denoise: Denoise, latents: Tensor, sigmas: Tensor, rng: Generator, on_step: OnStep) -> Tensor:
    """DDPM (Ho et al. 2020, arXiv 2006.11239): the posterior of the forward process, given its estimate.

    Good for many steps, where it corrects its own errors; too noisy below fifty.
    """
    return _sample(denoise, latents, sigmas, rng, on_step, lambda start, end: _ddim(start, end, 1.0))


def lcm(denoise: Denoise, latents: Tensor, sigmas: Tensor, rng: Generator, on_step: OnStep) -> Tensor:
    """Consistency sampling (Luo et al. 2023, arXiv 2310.04378): to the end and back, with all noise new.

    Good for models distilled to one to eight steps; blurs others.
    """
    return _sample(denoise, latents, sigmas, rng, on_step, lambda start, end: 0.0)


def euler(
    denoise: Denoise,
    latents: Tensor,
    sigmas: Tensor,
    rng: Generator,
    on_step: OnStep,
    *,
    eta: Annotated[float, Range(0, 1)] = 1.0,
) -> Tensor:
    """Euler below the next level, then noise back up to it (ComfyUI ``sample_euler_ancestral_RF``).

    Good for variety between seeds, at thirty steps or more.
    """
    return _sample(denoise, latents, sigmas, rng, on_step, lambda start, end: ancestral(start, end, eta)[1])


def ancestral(start: float, end: float, eta: float) -> tuple[float, float]:
    """(σ_d, κ) of an ancestral step: σ_d = σ'·(1 + (σ'/σ − 1)·η) is where the flow is followed to.

    Scaled by (1 − σ')/(1 − σ_d) so that x₀ keeps its share, what is left there of the noise is κ·σ'.
    """
    below = end * (1 + (end / start - 1) * eta)
    return below, (1 - end) / (1 - below) * (below / end if end else 1.0)


def _ddim(start: float, end: float, eta: float) -> float:
    """√(1 − η²(1 − e^{−2h})): at η = 1 it is e^{−h}, the posterior's."""
    return math.sqrt(max(0.0, 1 - eta**2 * (1 - decay(start, end) ** 2)))


def _sample(
    denoise: Denoise, latents: Tensor, sigmas: Tensor, rng: Generator, on_step: OnStep, kept: Kept
) -> Tensor:
    for index, (start, end) in enumerate(pairwise(levels(sigmas))):
        clean = latents - start * denoise(latents, 1000 * start)
        latents = renoise(latents, clean, start, end, kept(start, end), rng)
        on_step(index, latents, clean)
    return latents
