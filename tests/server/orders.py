"""Orders for videos that are quick to make."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from wanrun.server.job import Order
from wanrun.types import GenerationRequest

REQUEST = GenerationRequest(
    prompt="a red ball",
    negative="",
    width=32,
    height=32,
    frames=5,
    fps=8,
    steps=3,
    shift=3.0,
    boundary=0.875,
    sampler="unipc",
    schedule="linear",
    guidance_high=4.0,
    guidance_low=4.0,
    seed=7,
    precision="fp32",
    decoder="vae",
    latent_shape=(16, 2, 4, 4),
)


def order(key: str | None = None, priority: int = 0, model: str = "wan-toy", **changes: Any) -> Order:
    """An order for ``REQUEST`` with ``changes``."""
    return Order(model, replace(REQUEST, **changes), priority, key)
