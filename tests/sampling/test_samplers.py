"""Samplers: step by step against diffusers, and against a flow whose solution is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor

from wanrun import plugins
from wanrun.errors import InvalidRequest
from wanrun.sampling import dpmpp, euler, schedules, unipc
from wanrun.sampling.noise import initial_noise
from wanrun.types import Denoise, Sampler, Schedule

from .flows import at_exact_sigmas, curved, gaussian_solution, gaussian_velocity, trace

SHAPE = (4, 3, 6, 5)
SAMPLERS = {"unipc": unipc.sample, "dpm++2m": dpmpp.sample, "euler": euler.sample}


def scheduler_of(name: str) -> Any:
    if name == "unipc":
        return UniPCMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction", solver_order=2, solver_type="bh2"
        )
    if name == "dpm++2m":
        return DPMSolverMultistepScheduler(
            use_flow_sigmas=True,
            prediction_type="flow_prediction",
            algorithm_type="dpmsolver++",
            solver_order=2,
            solver_type="midpoint",
        )
    return FlowMatchEulerDiscreteScheduler()


def reference(name: str, velocity: Denoise, latents: Tensor, sigmas: Tensor) -> list[Tensor]:
    """The latents after each step of the diffusers scheduler, given our sigmas."""
    scheduler = scheduler_of(name)
    timesteps = sigmas[:-1] * 1000
    if name != "euler":
        timesteps = timesteps.to(torch.int64)
    scheduler.num_inference_steps = len(timesteps)
    scheduler.sigmas, scheduler.timesteps = sigmas, timesteps
    scheduler.set_begin_index(0)
    after = []
    sample = latents[None]  # its formulas want a batch
    for timestep in timesteps:
        output = velocity(sample[0], float(timestep))[None]
        sample = scheduler.step(output, timestep, sample, return_dict=False)[0]
        after.append(sample[0])
    return after


def relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0, 12.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 10, 40])
@pytest.mark.parametrize("schedule", [schedules.linear, schedules.unipc])
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_step_agrees_with_diffusers(name: str, schedule: Schedule, steps: int, shift: float) -> None:
    sigmas = schedule(steps, shift)
    if name == "unipc" and schedule is schedules.linear:
        sigmas[0] -= 1e-6  # diffusers' formula has no value at 1
    noise = initial_noise(SHAPE, steps)
    record = trace(SAMPLERS[name], curved, noise, sigmas)
    theirs = reference(name, curved, noise, sigmas)
    assert record.indices == list(range(steps))
    assert len(record.timesteps) == len(theirs) == steps
    for ours, expected in zip(record.latents, theirs, strict=True):
        assert ours.dtype == torch.float32
        assert relative(ours, expected) <= 1e-5


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_reference_would_notice_another_solver(name: str) -> None:
    """The comparison above can fail: no two of the three solvers come near each other on this flow."""
    sigmas = schedules.unipc(10, 5.0)
    noise = initial_noise(SHAPE, 0)
    theirs = reference(name, curved, noise, sigmas)[-1]
    for other in SAMPLERS.keys() - {name}:
        assert relative(trace(SAMPLERS[other], curved, noise, sigmas).latents[-1], theirs) > 1e-4


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 20])
def test_a_list_that_starts_at_pure_noise_stays_finite(name: str, steps: int) -> None:
    """λ = −∞ at σ = 1; the limit of σ → 1 is the answer, not NaN."""
    noise = initial_noise(SHAPE, 3)
    exact = schedules.linear(steps, 5.0)
    near = exact.clone()
    near[0] = 1 - 1e-13
    at_one = trace(SAMPLERS[name], at_exact_sigmas(curved, 1000 * exact), noise.double(), exact).latents[-1]
    below = trace(SAMPLERS[name], at_exact_sigmas(curved, 1000 * near), noise.double(), near).latents[-1]
    assert torch.isfinite(at_one).all()
    # λ itself is only about −30 there, so the past keeps about h/30 of its weight: near, not equal
    assert relative(below, at_one) < 0.02


def test_unipc_forgets_the_first_step_as_its_ratio_grows() -> None:
    """The corrector's weights at r = −∞ are the limit of those at finite r."""
    exact = unipc._corrector_weights(0.8, -math.inf)
    assert exact[0] == 0
    assert unipc._corrector_weights(0.8, -1e12) == pytest.approx(exact, abs=1e-11)


@pytest.mark.parametrize("name", ["unipc", "dpm++2m"])
@pytest.mark.parametrize("schedule", [schedules.linear, schedules.unipc])
def test_one_step_is_eulers(name: str, schedule: Schedule) -> None:
    sigmas = schedule(1, 5.0)
    noise = initial_noise(SHAPE, 1)
    exact = at_exact_sigmas(lambda x, sigma: curved(x, 1000 * sigma), sigmas[:1].repeat(2))
    higher = trace(SAMPLERS[name], exact, noise, sigmas).latents[-1]
    assert relative(higher, trace(euler.sample, exact, noise, sigmas).latents[-1]) < 1e-6


def test_first_step_of_dpmpp_is_eulers() -> None:
    sigmas = schedules.linear(8, 5.0)
    noise = initial_noise(SHAPE, 1)
    first = [trace(sampler, curved, noise, sigmas).latents[0] for sampler in (dpmpp.sample, euler.sample)]
    assert relative(first[0], first[1]) < 1e-6


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_straight_flow_is_solved_exactly(name: str) -> None:
    """One data point: the velocity is constant along each path and every consistent solver lands on it."""
    target, noise = initial_noise(SHAPE, 1), initial_noise(SHAPE, 2)
    record = trace(SAMPLERS[name], lambda latents, timestep: noise - target, noise, schedules.linear(6, 3.0))
    assert relative(record.latents[-1], target) < 1e-6
    for clean in record.clean:
        assert relative(clean, target) < 1e-6


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("dpm++2m", 2), ("unipc", 3)])
def test_order_of_convergence(name: str, order: int) -> None:
    """Halving the step divides the error by 2^order; UniPC-2 with its corrector is third order.

    Measured before the last step, which is first order by design.
    """
    start, end = 0.97, 0.05
    lowest, highest = (math.log((1 - sigma) / sigma) for sigma in (start, end))
    noise = initial_noise((64,), 5).double()
    errors = []
    for steps in (40, 80, 160):
        sigmas = 1 / (1 + torch.linspace(lowest, highest, steps + 1, dtype=torch.float64).exp())
        result = trace(SAMPLERS[name], at_exact_sigmas(gaussian_velocity, sigmas), noise, sigmas).latents[-2]
        exact = gaussian_solution(noise, start, sigmas[-2].item())
        errors.append((result - exact).abs().max().item())
    rates = [math.log2(errors[0] / errors[1]), math.log2(errors[1] / errors[2])]
    assert rates == pytest.approx([order, order], abs=0.1)


def test_samplers_rank_on_a_whole_run() -> None:
    """From noise to data in 20 steps the second-order solvers beat Euler by far."""
    noise = initial_noise((512,), 5).double()
    sigmas = schedules.unipc(20, 3.0)
    exact = gaussian_solution(noise, sigmas[0].item(), 0.0)
    error = {
        name: (trace(sampler, at_exact_sigmas(gaussian_velocity, sigmas), noise, sigmas).latents[-1] - exact)
        .abs()
        .max()
        .item()
        for name, sampler in SAMPLERS.items()
    }
    assert error["dpm++2m"] < error["euler"] / 2
    assert error["unipc"] < error["euler"] / 2


@pytest.mark.parametrize("name", ["unipc", "dpm++2m"])
def test_multistep_solvers_tell_the_model_whole_timesteps(name: str) -> None:
    record = trace(SAMPLERS[name], curved, initial_noise(SHAPE, 0), schedules.unipc(40, 12.0))
    assert record.timesteps[:6] == [999.0, 997.0, 995.0, 993.0, 990.0, 988.0]
    assert all(timestep.is_integer() for timestep in record.timesteps)


def test_euler_tells_the_model_fractions() -> None:
    sigmas = schedules.linear(7, 3.0)
    record = trace(euler.sample, curved, initial_noise(SHAPE, 0), sigmas)
    assert record.timesteps == (1000 * sigmas[:-1]).tolist()


@pytest.mark.parametrize("name", SAMPLERS)
def test_reports_the_clean_estimate_and_leaves_its_input_alone(name: str) -> None:
    noise = initial_noise(SHAPE, 0)
    before = noise.clone()
    record = trace(SAMPLERS[name], curved, noise, schedules.unipc(5, 5.0))
    first = schedules.unipc(5, 5.0)[0].item()
    velocity = curved(noise, record.timesteps[0])
    assert relative(record.clean[0], noise - first * velocity) < 1e-6
    assert relative(record.clean[-1], record.latents[-1]) < 1e-6
    assert torch.equal(noise, before)


def test_unipc_resumes_from_its_state() -> None:
    """A state taken in the middle is all a run needs to go on: what a checkpoint will hold."""
    values = schedules.unipc(6, 5.0).tolist()
    whole = trace(unipc.sample, curved, initial_noise(SHAPE, 4), schedules.unipc(6, 5.0))
    state = unipc.State(initial_noise(SHAPE, 4), initial_noise(SHAPE, 4))
    for index, sigma in enumerate(values[:-1]):
        copy = unipc.State(
            state.latents.clone(), state.base.clone(), tuple(m.clone() for m in state.estimates)
        )
        clean = copy.latents - sigma * curved(copy.latents, float(int(1000 * sigma)))
        state = unipc.advance(copy, clean, values, index)
        assert torch.equal(state.latents, whole.latents[index])


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(
    "sigmas",
    [
        [],
        [1.0],
        [1.0, 1.0, 0.0],
        [0.5, 0.7, 0.0],
        [1.5, 0.5],
        [0.5, -0.1],
        [math.nan, 0.0],
        [0.8, 0.5, 0.5 - 1e-12, 0.0],
        [0.5, 1e-300, 1e-300 * (1 - 1e-15)],
        [1.0, math.nan],
        [[1.0], [0.0]],
    ],
    ids=str,
)
def test_refuses_sigmas_that_do_not_fall(name: str, sigmas: list[float]) -> None:
    with pytest.raises(InvalidRequest, match="sigma"):
        trace(SAMPLERS[name], curved, initial_noise(SHAPE, 0), torch.tensor(sigmas, dtype=torch.float64))


@pytest.mark.parametrize("name", SAMPLERS)
def test_found_by_name(name: str) -> None:
    sampler: Sampler = plugins.load("samplers", name)
    assert sampler is SAMPLERS[name]
    assert plugins.load("schedules", "linear") is schedules.linear
    assert plugins.load("schedules", "unipc") is schedules.unipc
