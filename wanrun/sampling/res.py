"""Samples with a refined exponential solver of several steps."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Generator, Tensor

from wanrun.sampling import adams
from wanrun.sampling.trajectory import levels, move
from wanrun.types import Denoise, OnStep


def sample(denoise: Denoise, latents: Tensor, sigmas: Tensor, rng: Generator, on_step: OnStep) -> Tensor:
    """RES multistep (Zhang and others 2023, arXiv 2308.02157; ComfyUI ``res_multistep``): order 2 in −ln σ.

    One evaluation a step; the first and the last step are Euler's. The model is told 1000σ with its fraction.
    Deterministic: ``rng`` is not used. Raises InvalidRequest for sigmas that do not fall.

    Good for ten to twenty steps: as dpm++2m, and it has a memory from the very first step.
    """
    values = levels(sigmas)
    times = [-math.log(value) if value else math.inf for value in values]
    previous: Tensor | None = None
    for index, (start, end) in enumerate(pairwise(values)):
        clean = latents - start * denoise(latents, 1000 * start)
        target = clean
        if previous is not None and end > 0:
            before, now, after = times[index - 1 : index + 2]
            target = adams.mean((clean, previous), (0.0, (before - now) / (after - now)), after - now)
        latents = move(latents, target, start, end)
        previous = clean
        on_step(index, latents, clean)
    return latents
