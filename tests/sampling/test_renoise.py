"""Stochastic samplers: the exact posterior, the right marginals, and the data's distribution at the end."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from wanrun.sampling import ancestral, dpmpp_2s, dpmpp_sde, er_sde, schedules
from wanrun.sampling.noise import initial_noise, step_generator
from wanrun.sampling.renoise import decay, noise_like
from wanrun.sampling.trajectory import tensor
from wanrun.types import Sampler

from .flows import DEVIATION, MEAN, at_exact_sigmas, gaussian_velocity

SAMPLERS: dict[str, Sampler] = {
    "ddpm": ancestral.ddpm,
    "ddim:eta=0": ancestral.ddim,
    "ddim:eta=0.5": partial(ancestral.ddim, eta=0.5),
    "ddim:eta=1": partial(ancestral.ddim, eta=1.0),
    "lcm": ancestral.lcm,
    "euler-ancestral": ancestral.euler,
    "euler-ancestral:eta=0.3": partial(ancestral.euler, eta=0.3),
    "dpm++2m-sde": dpmpp_sde.second_order,
    "dpm++2m-sde:eta=0.5": partial(dpmpp_sde.second_order, eta=0.5),
    "dpm++3m-sde": dpmpp_sde.third_order,
    "dpm++2s-ancestral": dpmpp_2s.sample,
    "er-sde": er_sde.sample,
}
STEPS = [(1.0, 0.9), (1.0, 0.1), (0.999, 0.99), (0.8, 0.5), (0.5, 0.4999), (0.3, 0.001), (0.05, 0.04)]


def step(sampler: Sampler, latents: float, clean: float, start: float, end: float) -> tuple[float, float]:
    """(mean, deviation) of x' after one step whose clean estimate is ``clean``.

    The step is linear in the noise that is drawn: two draws of it give both.
    """

    def denoise(state: Tensor, timestep: float) -> Tensor:
        # whichever level is asked about, on the line from the latents to the estimate
        return (torch.full_like(state, latents) - clean) / start

    state = torch.full((2,), latents, dtype=torch.float64)
    result = sampler(denoise, state, tensor([start, end]), step_generator(0), lambda *ignored: None).tolist()
    drawn = noise_like(state, step_generator(0)).tolist()
    deviation = (result[0] - result[1]) / (drawn[0] - drawn[1])
    return result[0] - deviation * drawn[0], deviation


def posterior(latents: float, clean: float, start: float, end: float) -> tuple[float, float]:
    """(mean, deviation) of x' given x and x₀, by Bayes' rule for Gaussians.

    x' given x₀ is N((1 − σ')x₀, σ'²), and x given x' is N(a·x', σ² − a²σ'²) with a = (1 − σ)/(1 − σ').
    """
    scale = (1 - start) / (1 - end)
    spread = start**2 - (scale * end) ** 2
    precision = 1 / end**2 + scale**2 / spread
    mean = ((1 - end) * clean / end**2 + scale * latents / spread) / precision
    return mean, math.sqrt(1 / precision)


@pytest.mark.parametrize(("start", "end"), STEPS)
@pytest.mark.parametrize("name", ["ddpm", "ddim:eta=1", "dpm++2m-sde"])
def test_the_exact_posterior(name: str, start: float, end: float) -> None:
    """DDPM is the posterior of the forward process; the SDE solvers share its first-order step."""
    latents, clean = 1.3, -0.7
    mean, deviation = posterior(latents, clean, start, end)
    assert step(SAMPLERS[name], latents, clean, start, end) == pytest.approx((mean, deviation), abs=1e-6)


def test_the_posterior_would_notice_another_sampler() -> None:
    for name in ("lcm", "euler-ancestral", "ddim:eta=0.5", "er-sde"):
        assert step(SAMPLERS[name], 1.3, -0.7, 0.8, 0.5) != pytest.approx(
            posterior(1.3, -0.7, 0.8, 0.5), abs=1e-2
        )


@pytest.mark.parametrize(("start", "end"), STEPS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_noise_keeps_its_variance(name: str, start: float, end: float) -> None:
    """x = (1 − σ)x₀ + σε has, after a step with the right estimate, again that mean and that variance."""
    clean = 0.6
    at_mean, added = step(SAMPLERS[name], (1 - start) * clean, clean, start, end)
    above, _ = step(SAMPLERS[name], (1 - start) * clean + start, clean, start, end)
    assert at_mean == pytest.approx((1 - end) * clean, abs=1e-6)
    assert math.hypot(above - at_mean, added) == pytest.approx(end, abs=1e-6)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "lcm"])
def test_the_data_come_out(name: str) -> None:
    """The exact flow of a Gaussian gives its mean and its variance; what lacks is as the steps are long."""
    noise = initial_noise((40_000,), 3)
    errors = []
    for steps in (50, 400):
        sigmas = schedules.linear(steps, 3.0)
        # a sampler that truncates the timesteps is told the exact sigma instead
        denoise = (
            at_exact_sigmas(gaussian_velocity, sigmas)
            if name.startswith("dpm++2m")
            else lambda latents, timestep: gaussian_velocity(latents, timestep / 1000)
        )
        final = SAMPLERS[name](denoise, noise, tensor(sigmas), step_generator(1), lambda *ignored: None)
        assert final.mean().item() == pytest.approx(MEAN, abs=0.01)
        errors.append(abs(final.std().item() / DEVIATION - 1))
    assert errors[0] < 0.2
    assert errors[1] < 0.025


def test_decay_is_the_exponential_of_the_step() -> None:
    assert decay(0.8, 0.5) == pytest.approx(math.exp(-(math.log(0.5 / 0.5) - math.log(0.2 / 0.8))))
    assert decay(1.0, 0.5) == decay(0.5, 0.0) == 0.0
