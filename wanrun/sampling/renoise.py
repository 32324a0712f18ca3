"""Takes a step that keeps a part of the noise and draws the rest anew.

x' = c·x + (1 − σ' − c·(1 − σ))·x₀ + σ'·√(1 − κ²)·z with c = κ·σ'/σ: if x is (1 − σ)·x₀ + σ·ε, then x' is
(1 − σ')·x₀ + σ'·ε' with ε' = κ·ε + √(1 − κ²)·z, again of variance 1. Every stochastic sampler here is this
step, and differs only in κ and in its estimate of x₀; κ = 1 is Euler's step.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor


def renoise(latents: Tensor, clean: Tensor, start: float, end: float, kept: float, rng: Generator) -> Tensor:
    """``latents`` from ``start`` to ``end``, of whose noise the share ``kept`` (κ, 0..1) stays.

    Nothing is drawn from ``rng`` where nothing is added.
    """
    scale = kept * end / start
    moved = scale * latents + (1 - end - scale * (1 - start)) * clean
    fresh = end * math.sqrt(max(0.0, 1 - kept**2))
    return moved + fresh * noise_like(latents, rng) if fresh else moved


def noise_like(latents: Tensor, rng: Generator) -> Tensor:
    """Standard normal float32 from ``rng``, which belongs to the CPU: a seed means the same anywhere."""
    return torch.randn(latents.shape, generator=rng, dtype=torch.float32).to(latents.device)


def decay(start: float, end: float) -> float:
    """e^{−h} = σ'(1 − σ) / (σ(1 − σ')), where h is the step in λ; 0 from σ = 1 and to σ' = 0."""
    return end * (1 - start) / (start * (1 - end)) if end < 1 else 1.0
