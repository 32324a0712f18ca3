"""Samples with DPM-Solver++ for the stochastic equation (Lu et al. 2022, arXiv 2211.01095), several steps.

``eta`` is the share of the noise's renewal: κ = e^{−ηh}. At 0 both are the solvers of the ordinary equation.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from torch import Generator, Tensor

from wanrun.sampling import adams
from wanrun.sampling.renoise import decay, renoise
from wanrun.sampling.trajectory import half_log_snr, levels, truncated_timestep
from wanrun.types import Denoise, OnStep, Range


def second_order(
    denoise: Denoise,
    latents: Tensor,
    sigmas: Tensor,
    rng: Generator,
    on_step: OnStep,
    *,
    eta: Annotated[float, Range(0, 1)] = 1.0,
) -> Tensor:
    """DPM-Solver++ 2M SDE (arXiv 2211.01095), midpoint form, as the official and diffusers' code has it.

    One evaluation a step, the first and the last of order 1; the model is told int(1000σ). Reproducible from
    the seed. Raises InvalidRequest for sigmas that do not fall.

    Good for texture and variety at twenty to forty steps.
    """
    values = levels(sigmas)
    times = [half_log_snr(value) for value in values]
    previous: Tensor | None = None
    for index, (start, end) in enumerate(pairwise(values)):
        clean = latents - start * denoise(latents, truncated_timestep(start))
        target = clean
        if previous is not None and index < len(values) - 2:
            ratio = (times[index] - times[index - 1]) / (times[index + 1] - times[index])
            target = clean + 0.5 / ratio * (clean - previous)
        latents = renoise(latents, target, start, end, decay(start, end) ** eta, rng)
        previous = clean
        on_step(index, latents, clean)
    return latents


def third_order(
    denoise: Denoise,
    latents: Tensor,
    sigmas: Tensor,
    rng: Generator,
    on_step: OnStep,
    *,
    eta: Annotated[float, Range(0, 1)] = 1.0,
) -> Tensor:
    """DPM-Solver++ 3M SDE (k-diffusion ``sample_dpmpp_3m_sde``): the parabola through three estimates.

    The parabola is integrated exactly. k-diffusion and diffusers halve its last term, which leaves their
    solver of order 2. One evaluation a step, the order rises from 1, and the last step is of order 1; the
    model is told 1000σ with its fraction. Reproducible from the seed. Raises InvalidRequest for sigmas that
    do not fall.

    Good for texture and variety at thirty steps or more.
    """
    values = levels(sigmas)
    times = [half_log_snr(value) for value in values]
    estimates: list[Tensor] = []  # newest first
    for index, (start, end) in enumerate(pairwise(values)):
        clean = latents - start * denoise(latents, 1000 * start)
        estimates = [clean, *estimates[:2]]
        target = clean
        if index and end > 0:
            step = times[index + 1] - times[index]
            nodes = [(times[index - back] - times[index]) / step for back in range(len(estimates))]
            target = adams.mean(estimates, nodes, (1 + eta) * step)
        latents = renoise(latents, target, start, end, decay(start, end) ** eta, rng)
        on_step(index, latents, clean)
    return latents
