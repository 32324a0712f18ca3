"""A run that is played back continues bit for bit, whatever the sampler."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Generator, Tensor

from wanrun.errors import FormatError
from wanrun.sampling import adaptive
from wanrun.sampling.noise import initial_noise, step_generator
from wanrun.sampling.schedules import linear
from wanrun.sampling.tape import taped
from wanrun.sampling.trajectory import tensor
from wanrun.types import Denoise, OnStep

from .flows import registered

STEPS = 6
SAMPLERS = {**registered("samplers"), "adaptive": partial(adaptive.sample, tolerance=0.0001)}


def noisy_euler(denoise: Denoise, latents: Tensor, sigmas: Tensor, rng: Generator, on_step: OnStep) -> Tensor:
    """A sampler that draws noise as it goes and asks twice a step, as others may."""
    for index in range(len(sigmas) - 1):
        start, end = float(sigmas[index]), float(sigmas[index + 1])
        velocity = denoise(latents, 1000 * start)
        velocity = 0.5 * (velocity + denoise(latents + (end - start) * velocity, 1000 * end))
        latents = latents + (end - start) * velocity + 0.1 * end * torch.randn(latents.shape, generator=rng)
        on_step(index, latents, latents)
    return latents


def model(latents: Tensor, timestep: float) -> Tensor:
    return torch.tanh(latents * 1.7 + timestep / 1000)


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", [*SAMPLERS, "noisy"])
@pytest.mark.parametrize("killed_at", [0, 1, 3, STEPS - 1])
def test_a_stopped_run_continues_to_the_same_bits(name: str, killed_at: int) -> None:
    sample = noisy_euler if name == "noisy" else SAMPLERS[name]

    def run(denoise: Denoise) -> Tensor:
        noise = initial_noise((2, 2, 4, 4), 5)
        result: Tensor = sample(
            denoise, noise, tensor(linear(STEPS, 3.0)), step_generator(5), lambda *step: None
        )
        return result

    kept: list[bytes] = []

    def dying(latents: Tensor, timestep: float) -> Tensor:
        if len(kept) == killed_at:
            raise Killed
        return model(latents, timestep)

    with pytest.raises(Killed):
        run(taped(dying, [], lambda index, data: kept.append(data)))
    assert len(kept) == killed_at
    fresh: list[int] = []
    resumed = run(taped(model, kept, lambda index, data: fresh.append(index)))
    assert fresh[0] == killed_at
    assert torch.equal(resumed, run(model))


def test_a_recording_of_other_latents_is_refused() -> None:
    with pytest.raises(FormatError, match="3 values"):
        taped(model, [b"\0" * 12], lambda index, data: None)(torch.zeros(2, 2), 10.0)
