"""Samples with DPM-Solver++ 2S (Lu et al. 2022, arXiv 2211.01095, algorithm 1) in ancestral steps."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated

from torch import Generator, Tensor

from wanrun.sampling.ancestral import ancestral
from wanrun.sampling.renoise import renoise
from wanrun.sampling.trajectory import half_log_snr, levels, move
from wanrun.types import Denoise, OnStep, Range, forwards


@forwards(2)
def sample(
    denoise: Denoise,
    latents: Tensor,
    sigmas: Tensor,
    rng: Generator,
    on_step: OnStep,
    *,
    eta: Annotated[float, Range(0, 1)] = 1.0,
) -> Tensor:
    """DPM-Solver++ 2S ancestral (ComfyUI ``sample_dpmpp_2s_ancestral_RF``): the estimate in mid-step counts.

    Two evaluations a step, one on the last; one, too, at σ = 1, where the middle in λ is the start itself.
    The model is told 1000σ with its fraction. Reproducible from the seed; with eta=0 it draws nothing. Raises
    InvalidRequest for sigmas that do not fall.

    Good for variety with fewer artefacts than euler-ancestral, at twice its cost.
    """
    for index, (start, end) in enumerate(pairwise(levels(sigmas))):
        clean = target = latents - start * denoise(latents, 1000 * start)
        below, kept = ancestral(start, end, eta)
        if start < 1 and below > 0:
            middle = 1 / (1 + math.exp((half_log_snr(start) + half_log_snr(below)) / 2))
            halfway = move(latents, clean, start, middle)
            target = halfway - middle * denoise(halfway, 1000 * middle)
        latents = renoise(latents, target, start, end, kept, rng)
        on_step(index, latents, clean)
    return latents
