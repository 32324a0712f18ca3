"""Reads a list of sigmas the way the samplers need it.

On the flow x_σ = (1 − σ)·x₀ + σ·ε the velocity dx/dσ is ε − x₀, so x₀ = x − σ·v and the half log
signal-to-noise ratio is λ = ln((1 − σ)/σ).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from wanrun.errors import InvalidRequest

#: In λ. The multistep formulas divide by a step's square: a shorter one would be all rounding error.
SMALLEST_STEP = 1e-6


def tensor(sigmas: Sequence[float]) -> Tensor:
    """What a sampler takes, float64, of what a schedule gives."""
    return torch.tensor([float(sigma) for sigma in sigmas], dtype=torch.float64)


def levels(sigmas: Tensor) -> list[float]:
    """The sigmas as plain floats; InvalidRequest unless they fall visibly and stay within 0..1."""
    if sigmas.ndim != 1 or len(sigmas) < 2:
        raise InvalidRequest(f"a sampler needs a list of two sigmas or more, not shape {tuple(sigmas.shape)}")
    values: list[float] = sigmas.to(torch.float64).tolist()
    for before, after in pairwise(values):
        if not 1.0 >= before > after >= 0.0:
            raise InvalidRequest(
                f"sigmas must fall from at most 1 to at least 0, but {before} is followed by {after}"
            )
        if half_log_snr(after) - half_log_snr(before) < SMALLEST_STEP:
            raise InvalidRequest(f"sigmas must lie further apart than {before} and {after}: drop one")
    return values


def truncated_timestep(sigma: float) -> float:
    """The timestep that the official multistep solvers tell the model: 1000σ without its fraction."""
    return float(int(1000 * sigma))


def half_log_snr(sigma: float) -> float:
    """λ = ln((1 − σ)/σ); −∞ at σ = 1, +∞ at σ = 0."""
    if sigma <= 0:
        return math.inf
    return math.log1p(-sigma) - math.log(sigma) if sigma < 1 else -math.inf


def move(latents: Tensor, clean: Tensor, start: float, end: float) -> Tensor:
    """``latents`` taken from ``start`` to ``end`` exactly, were the clean latents ``clean`` all the way.

    This is (σ'/σ)·x − α'·(e^{−h} − 1)·x₀ of the DPM-Solver++ paper; with α = 1 − σ the second factor is
    σ'/σ − 1, which needs no λ and so holds at σ = 1 and σ' = 0.
    """
    kept = end / start
    return kept * latents + (1 - kept) * clean
