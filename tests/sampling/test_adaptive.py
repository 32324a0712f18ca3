"""The adaptive sampler: its error follows the tolerance, its steps the content, and its budget holds."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from wanrun.sampling import adaptive, dpmpp, schedules
from wanrun.sampling.adaptive import Controller, Estimate
from wanrun.sampling.noise import initial_noise

from .flows import at_exact_sigmas, curved, gaussian_solution, gaussian_velocity, trace

WIDTHS = torch.linspace(0.1, 1.5, 512, dtype=torch.float64)


def gaussian(latents: Tensor, timestep: float) -> Tensor:
    return gaussian_velocity(latents, timestep / 1000, WIDTHS)


def solved(tolerance: float, steps: int = 400, shift: float = 3.0) -> tuple[float, int]:
    """(error, evaluations) on data of many widths."""
    noise, sigmas = initial_noise((512,), 5).double(), schedules.linear(steps, shift)
    record = trace(partial(adaptive.sample, tolerance=tolerance), gaussian, noise, sigmas)
    error = record.latents[-1] - gaussian_solution(noise, 1.0, 0.0, WIDTHS)
    return error.square().mean().sqrt().item(), len(record.timesteps)


def test_the_error_follows_the_tolerance() -> None:
    errors, counts = zip(*(solved(tolerance) for tolerance in (0.03, 0.01, 0.003, 0.001)), strict=True)
    assert list(errors) == sorted(errors, reverse=True)
    assert list(counts) == sorted(counts)
    assert errors[-1] < 0.01


def test_its_order_is_the_predictors_at_least() -> None:
    """error ~ evaluations^−p: with a controlled error of order h³ p is 2 or more."""
    (coarse, few), (fine, many) = solved(0.003), solved(0.0001)
    assert many > 2 * few
    assert math.log(coarse / fine) / math.log(many / few) > 2


@pytest.mark.parametrize("place", [0.43, 0.8])
def test_better_than_fixed_steps_of_the_same_number(place: float) -> None:
    """A flow with one sharp turn, whose place no schedule knows."""
    noise = initial_noise((64,), 3).double()

    def turning(latents: Tensor, sigma: float) -> Tensor:
        return latents - math.tanh((sigma - place) * 30) * torch.sign(noise)

    def fixed(sigmas: list[float]) -> Tensor:
        return trace(dpmpp.sample, at_exact_sigmas(turning, sigmas), noise, sigmas).latents[-1]

    record = trace(
        partial(adaptive.sample, tolerance=0.01),
        lambda latents, timestep: turning(latents, timestep / 1000),
        noise,
        schedules.linear(100, 1.0),
    )
    exact = fixed(schedules.linear(1000, 1.0))
    error = (record.latents[-1] - exact).norm()
    for schedule in (schedules.linear, schedules.cosine, schedules.beta):
        assert error < 0.8 * (fixed(schedule(len(record.timesteps), 1.0)) - exact).norm()


def test_steps_are_short_where_the_flow_turns() -> None:
    def turning(latents: Tensor, timestep: float) -> Tensor:
        return math.tanh((timestep / 1000 - 0.43) * 60) * torch.ones_like(latents)

    record = trace(
        partial(adaptive.sample, tolerance=0.01), turning, torch.zeros(8), schedules.linear(200, 1.0)
    )
    levels = [timestep / 1000 for timestep in record.timesteps]
    near = sum(0.33 < level < 0.53 for level in levels)
    assert near >= 3 * sum(0.6 < level < 0.8 for level in levels)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 13])
def test_never_more_evaluations_than_steps(steps: int) -> None:
    for tolerance in (0.0001, 1.0):
        sampler = partial(adaptive.sample, tolerance=tolerance)
        record = trace(sampler, curved, initial_noise((4, 3, 6, 5), steps), schedules.linear(steps, 5.0))
        assert len(record.timesteps) <= steps
        assert torch.isfinite(record.latents[-1]).all()
    assert (
        trace(
            partial(adaptive.sample, tolerance=0.0001),
            curved,
            initial_noise((4, 3, 6, 5), 0),
            [1.0, 0.5, 0.0],
        ).timesteps[0]
        == 1000.0
    )


def test_a_simple_flow_takes_few_steps() -> None:
    """One data point is solved exactly by any step, so the steps double until the end."""
    target, noise = initial_noise((4, 3, 6, 5), 1), initial_noise((4, 3, 6, 5), 2)
    record = trace(
        adaptive.sample, lambda latents, timestep: noise - target, noise, schedules.linear(100, 3.0)
    )
    assert len(record.timesteps) <= 12
    assert (record.latents[-1] - target).abs().max() < 1e-5


def test_a_list_that_ends_above_zero_ends_there() -> None:
    noise = initial_noise((512,), 5).double()
    record = trace(partial(adaptive.sample, tolerance=0.0005), gaussian, noise, [1.0, 0.9, 0.8, 0.7, *FEW])
    assert (record.latents[-1] - gaussian_solution(noise, 1.0, 0.3, WIDTHS)).abs().max() < 0.01


FEW = [0.69 - 0.01 * index for index in range(40)]


@pytest.mark.parametrize("end", [0.6, 0.3, 1e-9])
def test_the_corrector_is_exact_for_a_parabola(end: float) -> None:
    """x' = σ'/σ·x + σ'∫ p(s)/s² ds, checked by quadrature."""
    start = 0.7

    def clean(sigma: float) -> float:
        return 1.3 - 0.4 * sigma + 2.1 * sigma**2

    places = [end, start, 0.9]
    estimates = [
        Estimate(each, torch.zeros(1), torch.full((1,), clean(each), dtype=torch.float64)) for each in places
    ]
    found = adaptive._correct(torch.ones(1, dtype=torch.float64), estimates, start, end).item()
    # in log s, where the integrand is smooth however small the end
    grid = torch.linspace(math.log(end), math.log(start), 20_001, dtype=torch.float64).exp()
    integral = torch.trapezoid((1.3 - 0.4 * grid + 2.1 * grid**2) / grid, grid.log()).item()
    assert found == pytest.approx(end / start + end * integral, rel=1e-5)


def test_the_controller_shortens_after_an_error_and_lengthens_without() -> None:
    controller = Controller()
    controller.accept(4.0, 0.1)
    assert controller.length < 0.1
    controller.accept(1e-9, 0.1)
    assert controller.length == 0.125
    assert not controller.rejects(2.9, 0.1, 0.5, 20)
    assert not controller.rejects(9.0, 0.1, 0.5, 4)  # it would have to be as long again
    assert controller.length == 0.125
    assert controller.rejects(9.0, 0.1, 0.5, 20)
    assert controller.length == pytest.approx(0.03)


def test_the_controller_leaves_enough_forwards() -> None:
    assert Controller(length=0.01).choose(0.5, 4) == pytest.approx(0.1)
    assert Controller(length=0.01).choose(0.5, 0) == 0.5
