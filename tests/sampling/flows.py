"""Velocity fields with known properties, and what a sampler did with them."""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wanrun.sampling.noise import step_generator
from wanrun.sampling.trajectory import tensor
from wanrun.types import Denoise, Sampler

#: Of the Gaussian data whose flow is solved in closed form.
MEAN, DEVIATION = 0.7, 0.4


def curved(latents: Tensor, timestep: float) -> Tensor:
    """A velocity that is nonlinear in the latents and in time, and mixes the elements."""
    time = timestep / 1000
    target = torch.tanh(1.3 * latents) + 0.3 * torch.sin(3 * latents + 5 * time)
    return latents - target * (0.5 + time) + 0.2 * latents.mean(dim=0, keepdim=True).cos()


def gaussian_velocity(latents: Tensor, sigma: float, deviation: float | Tensor = DEVIATION) -> Tensor:
    """E[ε − x₀ | x_σ] when every x₀ is drawn from N(MEAN, ``deviation``²)."""
    variance = (1 - sigma) ** 2 * deviation**2 + sigma**2
    residual = latents - (1 - sigma) * MEAN
    clean = MEAN + (1 - sigma) * deviation**2 / variance * residual
    noise = sigma / variance * residual
    return noise - clean


def gaussian_solution(
    latents: Tensor, start: float, end: float, deviation: float | Tensor = DEVIATION
) -> Tensor:
    """Where the exact flow takes ``latents``: their place in the marginal's quantiles does not change."""
    before, after = (((1 - sigma) ** 2 * deviation**2 + sigma**2) ** 0.5 for sigma in (start, end))
    return (1 - end) * MEAN + after / before * (latents - (1 - start) * MEAN)


def at_exact_sigmas(velocity: Callable[[Tensor, float], Tensor], sigmas: Sequence[float] | Tensor) -> Denoise:
    """A denoiser told the sigmas themselves in order: truncated ones would blur the rate of convergence."""
    remaining = iter([float(sigma) for sigma in sigmas])
    return lambda latents, timestep: velocity(latents, next(remaining))


@dataclass
class Record:
    """What a sampler reported and asked for, step by step."""

    indices: list[int] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    clean: list[Tensor] = field(default_factory=list)
    timesteps: list[float] = field(default_factory=list)

    def on_step(self, index: int, latents: Tensor, clean: Tensor) -> None:
        self.indices.append(index)
        self.latents.append(latents)
        self.clean.append(clean)


def registered(group: str) -> dict[str, Any]:
    """Our functions of one group by name, as ``pyproject.toml`` has them."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    found = {}
    for name, target in project["entry-points"][f"wanrun.{group}"].items():
        module, _, function = target.partition(":")
        found[name] = getattr(importlib.import_module(module), function)
    return found


def trace(sampler: Sampler, velocity: Denoise, latents: Tensor, sigmas: Sequence[float] | Tensor) -> Record:
    """Run ``sampler`` and keep every step; what noise it adds is seed 0's."""
    record = Record()

    def denoise(latents: Tensor, timestep: float) -> Tensor:
        record.timesteps.append(timestep)
        return velocity(latents, timestep)

    listed = sigmas if isinstance(sigmas, Tensor) else tensor(sigmas)
    result = sampler(denoise, latents, listed, step_generator(0), record.on_step)
    assert torch.equal(result, record.latents[-1])
    return record
