"""What every sampler must do, on flows with known properties."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from wanrun.errors import InvalidRequest
from wanrun.sampling import deis, schedules, unipc
from wanrun.sampling.noise import initial_noise, step_generator
from wanrun.sampling.trajectory import tensor
from wanrun.types import Denoise, Sampler

from .flows import at_exact_sigmas, curved, gaussian_solution, gaussian_velocity, registered, trace

#: At latents and a sigma.
Velocity = Callable[[Tensor, float], Tensor]

SHAPE = (4, 3, 6, 5)
SAMPLERS: dict[str, Sampler] = {
    **registered("samplers"),
    "unipc:order=3,variant=bh1": partial(unipc.sample, order=3, variant="bh1"),
    "deis:order=3": partial(deis.sample, order=3),
}
STOCHASTIC = (
    "ddpm",
    "lcm",
    "euler-ancestral",
    "dpm++2s-ancestral",
    "dpm++2m-sde",
    "dpm++3m-sde",
    "er-sde",
)
DETERMINISTIC = [name for name in SAMPLERS if name not in STOCHASTIC]
#: As the official code of theirs; the others tell the model 1000σ with its fraction.
TRUNCATING = [name for name in SAMPLERS if name.split(":")[0] in ("unipc", "dpm++2m", "dpm++2m-sde", "deis")]


def relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def told(name: str, velocity: Velocity, sigmas: list[float]) -> Denoise:
    """``velocity`` at the exact sigma: a truncated one would hide what is tested."""
    if name in TRUNCATING:
        return at_exact_sigmas(velocity, sigmas)
    return lambda latents, timestep: velocity(latents, timestep / 1000)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(
    "sigmas",
    [
        schedules.linear(1, 3.0),
        schedules.linear(2, 3.0),
        schedules.unipc(2, 3.0),
        schedules.linear(20, 8.0),
        [1.0, 0.99999, 0.5, 1e-5, 0.0],
    ],
    ids=len,
)
def test_one_data_point_is_found_whatever_the_steps(name: str, sigmas: list[float]) -> None:
    """There every estimate of the clean latents is right, and the last step ends on it."""
    target, noise = initial_noise(SHAPE, 1), initial_noise(SHAPE, 2)
    denoise = told(name, lambda latents, sigma: (latents - target) / sigma, sigmas)
    record = trace(SAMPLERS[name], denoise, noise, sigmas)
    assert record.indices == list(range(len(record.indices)))
    assert len(record.indices) == len(sigmas) - 1 or name == "adaptive"
    assert relative(record.latents[-1], target) < 1e-5
    for clean in record.clean:
        # (1 − 10⁻⁵) of noise and float32 leave two digits of the estimate less
        assert relative(clean, target) < 1e-4


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("steps", [1, 2, 3, 20])
def test_a_list_that_starts_at_pure_noise_stays_finite(name: str, steps: int) -> None:
    """λ = −∞ at σ = 1; the limit of σ → 1 is the answer, not NaN."""
    noise = initial_noise(SHAPE, 3).double()
    exact = schedules.linear(steps, 5.0)
    near = [1 - 1e-13, *exact[1:]]

    def velocity(latents: Tensor, sigma: float) -> Tensor:
        return curved(latents, 1000 * sigma)

    at_one = trace(SAMPLERS[name], told(name, velocity, exact), noise, exact).latents[-1]
    below = trace(SAMPLERS[name], told(name, velocity, near), noise, near).latents[-1]
    assert torch.isfinite(at_one).all()
    # λ itself is only about −30 there, so the past keeps about h/30 of its weight: near, not equal
    assert relative(below, at_one) < (2.0 if "bh1" in name else 0.05)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_one_step_is_eulers(name: str) -> None:
    noise = initial_noise(SHAPE, 1)
    for sigmas in (schedules.linear(1, 5.0), schedules.unipc(1, 5.0), [0.8, 0.0]):
        denoise = told(name, lambda latents, sigma: curved(latents, 1000 * sigma), sigmas)
        expected = noise - sigmas[0] * curved(noise, 1000 * sigmas[0])
        assert relative(trace(SAMPLERS[name], denoise, noise, sigmas).latents[-1], expected) < 1e-6


#: Of the error where the step is halved; the corrector gives UniPC one order more than its name says.
ORDERS = {
    "euler": 1,
    "ddim": 1,
    "heun": 2,
    "dpm++2m": 2,
    "res-multistep": 2,
    "deis": 2,
    "deis:order=3": 3,
    "unipc": 3,
    "unipc:order=3,variant=bh1": 4,
    "dpm++2s-ancestral:eta=0": 2,
    "dpm++2m-sde:eta=0": 2,
    "dpm++3m-sde:eta=0": 3,
}


def test_every_deterministic_solver_has_its_order_measured() -> None:
    assert set(DETERMINISTIC) <= ORDERS.keys() | {"adaptive"}  # whose steps are not ours to halve


@pytest.mark.parametrize(("name", "order"), ORDERS.items())
def test_order_of_convergence(name: str, order: int) -> None:
    """Halving the step divides the error by 2^order, on data of many widths.

    The lower order of the first steps does not show, for near pure noise no estimate changes; that of the
    last steps is left out.
    """
    start, end = 1 - 1e-6, 0.4
    lowest, highest = (math.log((1 - sigma) / sigma) for sigma in (start, end))
    noise, widths = initial_noise((64,), 5).double(), torch.linspace(0.1, 1.5, 64, dtype=torch.float64)
    errors = []
    for steps in (400, 800):
        grid = torch.linspace(lowest, highest, steps + 1, dtype=torch.float64)
        sigmas: list[float] = (1 / (1 + grid.exp())).tolist()
        plain, _, eta = name.partition(":eta=")
        sampler = partial(registered("samplers")[plain], eta=float(eta)) if eta else SAMPLERS[name]
        record = trace(
            sampler, told(plain, partial(gaussian_velocity, deviation=widths), sigmas), noise, sigmas
        )
        exact = gaussian_solution(noise, start, sigmas[-3], widths)
        errors.append((record.latents[-3] - exact).norm().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


def test_solvers_rank_on_a_whole_run() -> None:
    """From noise to data in 20 steps the solvers of higher order beat Euler by far."""
    noise = initial_noise((512,), 5).double()
    sigmas = schedules.unipc(20, 3.0)
    exact = gaussian_solution(noise, sigmas[0], 0.0)
    error = {
        name: (
            trace(SAMPLERS[name], told(name, gaussian_velocity, sigmas), noise, sigmas).latents[-1] - exact
        )
        .abs()
        .max()
        .item()
        for name in DETERMINISTIC
    }
    assert error["ddim"] == pytest.approx(error["euler"])
    for name in set(DETERMINISTIC) - {"euler", "ddim"}:
        assert error[name] < error["euler"] / 1.9, name


@pytest.mark.parametrize("name", TRUNCATING)
def test_the_official_solvers_tell_the_model_whole_timesteps(name: str) -> None:
    record = trace(SAMPLERS[name], curved, initial_noise(SHAPE, 0), schedules.unipc(40, 12.0))
    assert record.timesteps[:6] == [999.0, 997.0, 995.0, 993.0, 990.0, 988.0]
    assert all(timestep.is_integer() for timestep in record.timesteps)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in TRUNCATING])
def test_the_others_tell_it_fractions(name: str) -> None:
    sigmas = schedules.linear(7, 3.0)
    record = trace(SAMPLERS[name], curved, initial_noise(SHAPE, 0), sigmas)
    assert sum(not timestep.is_integer() for timestep in record.timesteps) >= 3
    assert {1000 * sigma for sigma in sigmas[:-1]} <= set(record.timesteps) or name == "adaptive"


@pytest.mark.parametrize("name", SAMPLERS)
def test_reports_the_clean_estimate_and_leaves_its_input_alone(name: str) -> None:
    noise = initial_noise(SHAPE, 0)
    before = noise.clone()
    sigmas = schedules.unipc(5, 5.0)
    record = trace(SAMPLERS[name], curved, noise, sigmas)
    velocity = curved(noise, record.timesteps[0])
    assert relative(record.clean[0], noise - sigmas[0] * velocity) < 1e-6
    assert relative(record.clean[-1], record.latents[-1]) < 1e-6
    assert torch.equal(noise, before)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_seed_decides_what_is_added(name: str) -> None:
    noise, sigmas = initial_noise(SHAPE, 0), tensor(schedules.linear(6, 5.0))

    def final(seed: int) -> Tensor:
        return SAMPLERS[name](curved, noise, sigmas, step_generator(seed), lambda *step: None)

    assert torch.equal(final(1), final(1))
    assert torch.equal(final(1), final(2)) == (name in DETERMINISTIC)


def test_unipc_resumes_from_its_state() -> None:
    """A state taken in the middle is all that a run needs to go on."""
    sigmas = schedules.unipc(6, 5.0)
    whole = trace(partial(unipc.sample, order=3), curved, initial_noise(SHAPE, 4), sigmas)
    solver = unipc.Solver(sigmas, order=3)
    state = unipc.State(initial_noise(SHAPE, 4), initial_noise(SHAPE, 4))
    for index, sigma in enumerate(sigmas[:-1]):
        copy = unipc.State(
            state.latents.clone(), state.base.clone(), tuple(m.clone() for m in state.estimates)
        )
        clean = copy.latents - sigma * curved(copy.latents, float(int(1000 * sigma)))
        state = solver.advance(copy, clean, index)
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
