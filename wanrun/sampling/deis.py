"""Samples with DEIS (Zhang and Chen 2023, arXiv 2204.13902) in log ρ."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from torch import Generator, Tensor

from wanrun.sampling import adams
from wanrun.sampling.trajectory import half_log_snr, levels, move, truncated_timestep
from wanrun.types import Denoise, OnStep, Range


def sample(
    denoise: Denoise,
    latents: Tensor,
    sigmas: Tensor,
    rng: Generator,
    on_step: OnStep,
    *,
    order: Annotated[int, Range(1, 3)] = 2,
) -> Tensor:
    """DEIS (arXiv 2204.13902): the polynomial through the noise estimates of up to three steps, exactly.

    One evaluation a step; the order falls towards the end, as in diffusers, and the model is told int(1000σ).
    Deterministic: ``rng`` is not used. Raises InvalidRequest for sigmas that do not fall.

    Good for ten to twenty steps, as dpm++2m.
    """
    values = levels(sigmas)
    times = [half_log_snr(value) for value in values]
    estimates: list[Tensor] = []  # of the noise, newest first
    for index, (start, end) in enumerate(pairwise(values)):
        velocity = denoise(latents, truncated_timestep(start))
        clean = latents - start * velocity
        noise = latents + (1 - start) * velocity
        estimates = [noise, *estimates[: order - 1]]
        latents = move(latents, clean, start, end)
        used = min(len(estimates), len(values) - 1 - index)
        if used > 1:
            step = times[index + 1] - times[index]
            nodes = [(times[index - back] - times[index]) / step for back in range(used)]
            gain = end - start * (1 - end) / (1 - start)
            latents = latents + gain * (adams.mean(estimates[:used], nodes, -step) - noise)
        on_step(index, latents, clean)
    return latents
