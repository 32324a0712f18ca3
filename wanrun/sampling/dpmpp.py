"""Samples with DPM-Solver++ 2M (Lu et al. 2022, arXiv 2211.01095, algorithm 2), midpoint form."""

from __future__ import annotations

from itertools import pairwise

from torch import Generator, Tensor

from wanrun.sampling.trajectory import half_log_snr, levels, move, truncated_timestep
from wanrun.types import Denoise, OnStep


def sample(denoise: Denoise, latents: Tensor, sigmas: Tensor, rng: Generator, on_step: OnStep) -> Tensor:
    """DPM-Solver++ 2M (arXiv 2211.01095): second order from the estimates of two steps.

    One evaluation a step. As in Wan2.2 ``wan/utils/fm_solvers.py`` the first and the last step are first
    order and the model is told int(1000σ). Deterministic: ``rng`` is not used. Raises InvalidRequest for
    sigmas that do not fall.

    Good for everything, from ten steps on: the official alternative to unipc.
    """
    values = levels(sigmas)
    last = len(values) - 2
    previous: Tensor | None = None
    for index, (start, end) in enumerate(pairwise(values)):
        clean = latents - start * denoise(latents, truncated_timestep(start))
        target = clean
        if previous is not None and index < last:
            target = clean + _half_slope(clean, previous, values[index - 1 : index + 2])
        latents = move(latents, target, start, end)
        previous = clean
        on_step(index, latents, clean)
    return latents


def _half_slope(clean: Tensor, previous: Tensor, sigmas: list[float]) -> Tensor:
    """½·D₁: how far the estimate moves by the middle (in λ) of the step from ``sigmas[1]`` to ``sigmas[2]``.

    The paper's ratio r = h₀/h is infinite when the list starts at σ = 1, and the slope then zero.
    """
    before, start, end = map(half_log_snr, sigmas)
    ratio = (start - before) / (end - start)
    return 0.5 / ratio * (clean - previous)
