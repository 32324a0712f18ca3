"""Samples with UniPC (Zhao et al. 2023, arXiv 2302.04867): order 2, B(h) = e^h − 1, data prediction.

The variant is that of Wan2.2 ``wan/utils/fm_solvers_unipc.py`` (``bh2``): the corrector reuses the evaluation
at the predicted latents, and its estimate is not computed again after the correction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Generator, Tensor

from wanrun.sampling.trajectory import half_log_snr, levels, move, truncated_timestep
from wanrun.types import Denoise, OnStep


@dataclass(frozen=True, slots=True)
class State:
    """All that one step hands to the next."""

    #: Where the model is evaluated next: x_i as predicted.
    latents: Tensor
    #: The corrected x_{i−1}, from which the corrector steps again.
    base: Tensor
    #: Clean estimates m_{i−1}, m_{i−2}, newest first, at most two.
    estimates: tuple[Tensor, ...] = ()


def sample(denoise: Denoise, latents: Tensor, sigmas: Tensor, rng: Generator, on_step: OnStep) -> Tensor:
    """One evaluation a step; order 1 on the first and the last step, 2 between.

    The model is told int(1000σ). Deterministic: ``rng`` is not used. Raises InvalidRequest for sigmas
    that do not fall.
    """
    values = levels(sigmas)
    state = State(latents, latents)
    for index, sigma in enumerate(values[:-1]):
        clean = state.latents - sigma * denoise(state.latents, truncated_timestep(sigma))
        state = advance(state, clean, values, index)
        on_step(index, state.latents, clean)
    return state.latents


def advance(state: State, clean: Tensor, sigmas: list[float], index: int) -> State:
    """Correct the latents of step ``index`` by their own clean estimate, then predict those of the next."""
    steps = len(sigmas) - 1
    base = state.latents
    if index > 0:
        base = _correct(state, clean, sigmas[: index + 1], _order(index - 1, steps))
    estimates = (clean, *state.estimates[:1])
    predicted = _predict(base, estimates, sigmas[: index + 2], _order(index, steps))
    return State(predicted, base, estimates)


def _order(index: int, steps: int) -> int:
    """No more than the estimates at hand, and 1 where the list ends."""
    return min(2, index + 1, steps - index)


def _predict(base: Tensor, estimates: tuple[Tensor, ...], sigmas: list[float], order: int) -> Tensor:
    """UniP: from ``sigmas[-2]`` to ``sigmas[-1]``. The paper fixes the weight of the only difference at ½."""
    target = estimates[0]
    if order == 2:
        before, start, end = map(half_log_snr, sigmas[-3:])
        ratio = (before - start) / (end - start)
        target = target + 0.5 / ratio * (estimates[1] - estimates[0])
    return move(base, target, sigmas[-2], sigmas[-1])


def _correct(state: State, clean: Tensor, sigmas: list[float], order: int) -> Tensor:
    """UniC: ``sigmas[-2]`` to ``sigmas[-1]`` again, now knowing the estimate at the end as well."""
    newest = state.estimates[0]
    change = clean - newest
    if order == 1:
        return move(state.base, newest + 0.5 * change, sigmas[-2], sigmas[-1])
    before, start, end = map(half_log_snr, sigmas[-3:])
    ratio = (before - start) / (end - start)
    past, present = _corrector_weights(end - start, ratio)
    slope = past / ratio * (state.estimates[1] - newest) + present * change
    return move(state.base, newest + slope, sigmas[-2], sigmas[-1])


def _corrector_weights(h: float, ratio: float) -> tuple[float, float]:
    """ρ₁, ρ₂ of [[1, 1], [r, 1]]·ρ = (φ₂, 2φ₃)/B(h), the paper's equation 8 with −h for data prediction.

    A list that starts at σ = 1 has r = −∞: the past then weighs nothing.
    """
    scale = math.expm1(-h)
    second = scale / -h - 1
    third = second / -h - 0.5
    first_moment, second_moment = second / scale, 2 * third / scale
    past = (first_moment - second_moment) / (1 - ratio)
    return past, first_moment - past
