"""Samplers that diffusers has as well: the same latents after every step."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from diffusers import (
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    UniPCMultistepScheduler,
)
from diffusers.schedulers.scheduling_ltx_euler_ancestral_rf import LTXEulerAncestralRFScheduler
from torch import Tensor

from wanrun.sampling import ancestral, deis, dpmpp, dpmpp_sde, euler, heun, schedules, unipc
from wanrun.sampling.noise import initial_noise, step_generator
from wanrun.types import Denoise, Sampler

from .flows import curved, trace

# DEIS hands numpy a tensor
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")

SHAPE = (4, 3, 6, 5)
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}

#: Ours, theirs, and whether theirs tells the model whole timesteps.
PAIRS: dict[str, tuple[Sampler, Any, bool]] = {
    "euler": (euler.sample, FlowMatchEulerDiscreteScheduler, False),
    "lcm": (ancestral.lcm, FlowMatchLCMScheduler, False),
    "euler-ancestral": (ancestral.euler, LTXEulerAncestralRFScheduler, False),
    "euler-ancestral:eta=0.5": (
        partial(ancestral.euler, eta=0.5),
        partial(LTXEulerAncestralRFScheduler, eta=0.5),
        False,
    ),
    "dpm++2m": (dpmpp.sample, partial(DPMSolverMultistepScheduler, **FLOW), True),
    "dpm++2m-sde": (
        dpmpp_sde.second_order,
        partial(DPMSolverMultistepScheduler, algorithm_type="sde-dpmsolver++", **FLOW),
        True,
    ),
    **{
        f"unipc:order={order},variant={variant}": (
            partial(unipc.sample, order=order, variant=variant),
            partial(UniPCMultistepScheduler, solver_order=order, solver_type=variant, **FLOW),
            True,
        )
        for order in (1, 2, 3)
        for variant in ("bh1", "bh2")
    },
    **{
        f"deis:order={order}": (
            partial(deis.sample, order=order),
            partial(DEISMultistepScheduler, solver_order=order, **FLOW),
            True,
        )
        for order in (1, 2, 3)
    },
}


def reference(name: str, velocity: Denoise, latents: Tensor, sigmas: list[float]) -> list[Tensor]:
    """The latents after each step of the diffusers scheduler, given our sigmas and noise."""
    _, scheduler_of, whole = PAIRS[name]
    scheduler = scheduler_of()
    levels = torch.tensor(sigmas, dtype=torch.float64)
    timesteps = (levels[:-1] * 1000).to(torch.int64) if whole else levels[:-1] * 1000
    scheduler.num_inference_steps = len(timesteps)
    scheduler.sigmas, scheduler.timesteps = levels, timesteps
    scheduler.set_begin_index(0)
    rng = step_generator(0)
    noisy = {"generator": rng} if name.split(":")[0] in ("lcm", "euler-ancestral", "dpm++2m-sde") else {}
    after = []
    sample = latents[None]  # its formulas want a batch
    for timestep in timesteps:
        output = velocity(sample[0], float(timestep))[None]
        sample = scheduler.step(output, timestep, sample, return_dict=False, **noisy)[0]
        after.append(sample[0])
    return after


def relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def listed(name: str, steps: int, shift: float, at_one: bool) -> list[float]:
    """A list that diffusers can walk: its multistep formulas are NaN at σ = 1, DEIS's and bh1's at 0, too."""
    sigmas = (schedules.linear if at_one else schedules.unipc)(steps, shift)
    if at_one and PAIRS[name][2]:
        sigmas[0] -= 1e-6
    if name.startswith("deis") or name.endswith("bh1"):
        sigmas[-1] = 0.01
    return sigmas


def noise_of(name: str, seed: int) -> Tensor:
    """diffusers' DEIS divides by 1 − σ, which leaves three digits of float32: both are given float64."""
    noise = initial_noise(SHAPE, seed)
    return noise.double() if name.startswith("deis") else noise


@pytest.mark.parametrize("shift", [1.0, 12.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 14])
@pytest.mark.parametrize("at_one", [True, False])
@pytest.mark.parametrize("name", PAIRS)
def test_every_step_agrees(name: str, at_one: bool, steps: int, shift: float) -> None:
    sigmas = listed(name, steps, shift, at_one)
    noise = noise_of(name, steps)
    record = trace(PAIRS[name][0], curved, noise, sigmas)
    theirs = reference(name, curved, noise, sigmas)
    assert record.indices == list(range(steps))
    assert len(record.timesteps) == len(theirs) == steps
    for ours, expected in zip(record.latents, theirs, strict=True):
        assert ours.dtype == noise.dtype
        assert relative(ours, expected) <= 1e-5


@pytest.mark.parametrize("name", [name for name in PAIRS if not name.startswith("deis")])
def test_a_long_run_agrees(name: str) -> None:
    """diffusers lowers DEIS's order at the end of short runs only; ours always."""
    sigmas = listed(name, 40, 12.0, at_one=False)
    noise = initial_noise(SHAPE, 40)
    theirs = reference(name, curved, noise, sigmas)
    for ours, expected in zip(trace(PAIRS[name][0], curved, noise, sigmas).latents, theirs, strict=True):
        assert relative(ours, expected) <= 1e-5


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_heun_agrees(steps: int) -> None:
    """Its list has every inner sigma twice, and it steps once an evaluation."""
    sigmas = schedules.linear(steps, 5.0)
    noise = initial_noise(SHAPE, steps)
    record = trace(heun.sample, curved, noise, sigmas)
    scheduler = FlowMatchHeunDiscreteScheduler()
    inner = [sigma for sigma in sigmas[1:-1] for _ in range(2)]
    scheduler.sigmas = torch.tensor([sigmas[0], *inner, 0.0], dtype=torch.float64)
    scheduler.timesteps = scheduler.sigmas[:-1] * 1000
    scheduler.prev_derivative = scheduler.dt = None
    scheduler.set_begin_index(0)
    sample = noise[None]
    for timestep in scheduler.timesteps:
        output = curved(sample[0], float(timestep))[None]
        sample = scheduler.step(output, timestep, sample, return_dict=False)[0]
    assert len(record.timesteps) == 2 * steps - 1
    assert record.timesteps == scheduler.timesteps.tolist()
    assert relative(record.latents[-1], sample[0]) <= 1e-5


@pytest.mark.parametrize("name", PAIRS)
def test_the_reference_would_notice_another_solver(name: str) -> None:
    """The comparison above can fail: no two solvers come near each other on this flow."""
    noise = noise_of(name, 0)
    sigmas = listed(name, 10, 5.0, at_one=False)
    theirs = reference(name, curved, noise, sigmas)[-1]
    same = {"deis:order=1": "euler", "euler": "deis:order=1"}  # but for what they tell the model
    for other in PAIRS.keys() - {name, same.get(name, "")}:
        assert relative(trace(PAIRS[other][0], curved, noise, sigmas).latents[-1], theirs) > 2e-5, other
