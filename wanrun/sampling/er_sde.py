"""Samples with the extended reverse-time equation's solver (Cui et al. 2023, arXiv 2309.06169)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated

import numpy as np
from torch import Generator, Tensor

from wanrun.sampling.renoise import renoise
from wanrun.sampling.trajectory import levels
from wanrun.types import Denoise, OnStep, Range

#: Of Gauss and Legendre, for integrals over one step: exact to a few parts in 10⁻¹².
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)


def sample(
    denoise: Denoise,
    latents: Tensor,
    sigmas: Tensor,
    rng: Generator,
    on_step: OnStep,
    *,
    order: Annotated[int, Range(1, 3)] = 3,
) -> Tensor:
    """ER-SDE solver (arXiv 2309.06169) with the noise scale φ(k) = k·(e^{k^0.3} + 10), k = σ/(1 − σ).

    One evaluation a step, the order rises from 1, and the last step is of order 1; the model is told 1000σ
    with its fraction. Reproducible from the seed. Raises InvalidRequest for sigmas that do not fall.

    Good for variety in ten to thirty steps: it renews little noise late, where it would cost detail.
    """
    values = levels(sigmas)
    ratios = [value / (1 - value) if value < 1 else math.inf for value in values]
    previous: tuple[Tensor, ...] = ()  # the last estimate, and its slope
    for index, (start, end) in enumerate(pairwise(values)):
        clean = latents - start * denoise(latents, 1000 * start)
        kept = _growth(ratios[index + 1], ratios[index])
        target = clean
        now: tuple[Tensor, ...] = (clean,)
        if previous and order > 1 and end > 0:
            slope = (clean - previous[0]) / (ratios[index] - ratios[index - 1])
            now = clean, slope
            target = clean + _gain(1, ratios[index + 1], ratios[index]) * slope
            if len(previous) > 1 and order > 2:
                bend = (slope - previous[1]) / ((ratios[index] - ratios[index - 2]) / 2)
                target = target + _gain(2, ratios[index + 1], ratios[index]) * bend
        latents = renoise(latents, target, start, end, kept, rng)
        previous = now
        on_step(index, latents, clean)
    return latents


def _growth(end: float, start: float) -> float:
    """(e^{k'^0.3} + 10) / (e^{k^0.3} + 10), the share of the noise that is kept; 0 from pure noise."""
    low, high = end**0.3, start**0.3
    return (math.exp(low - high) + 10 * math.exp(-high)) / (1 + 10 * math.exp(-high))


def _gain(power: int, end: float, start: float) -> float:
    """What the ``power``-th derivative of the estimate in k adds to it, in units of the estimate's own gain.

    That gain is 1 − φ(k')/φ(k); the paper's equation 24 adds ∫ φ(k')/φ(u)·(u − k)^(power−1) du over the step
    to the Taylor term (k' − k)^power/power!.
    """
    if not math.isfinite(start):
        return 0.0
    centre, half = (math.log(end) + math.log(start)) / 2, (math.log(start) - math.log(end)) / 2
    places = np.exp(centre + half * _NODES)
    shares = [end / place * _growth(end, place) for place in places]
    integral = half * float(np.sum(_WEIGHTS * places * shares * (places - start) ** (power - 1)))
    whole = 1 - end / start * _growth(end, start)
    return ((end - start) ** power / math.factorial(power) + integral) / whole
