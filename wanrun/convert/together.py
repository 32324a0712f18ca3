"""Denoises videos in step, which costs a small model little more than one and loads a large one once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from wanrun import pipeline, plugins
from wanrun.errors import InvalidRequest
from wanrun.sampling.guidance import Guidance
from wanrun.sampling.noise import step_generator
from wanrun.sampling.tape import taped
from wanrun.sampling.trajectory import tensor
from wanrun.types import BranchDenoiser, Checkpoint, Conditioning, Denoise, Denoiser, GenerationRequest


def denoise_together(
    denoiser: Denoiser,
    requests: Sequence[GenerationRequest],
    conditionings: Sequence[Conditioning],
    checkpoint: Checkpoint | None = None,
) -> Tensor:
    """(videos, channels, frames, height, width): what ``pipeline.denoise`` makes of each request.

    ``denoiser`` must take a clip for each context, as ours does. The requests may differ in prompt and seed.
    Step caches and rescaled guidance look at one video's values: InvalidRequest.
    """
    first = requests[0]
    if first.cache != "none" or first.guidance_rescale:
        raise InvalidRequest("videos that are made in step take no step cache and no guidance_rescale")
    branched = cast("BranchDenoiser", denoiser)
    guidance = Guidance(
        first.guidance_high, first.guidance_low, first.boundary, first.guidance_start, first.guidance_end
    )

    def velocity(latents: Tensor, timestep: float) -> Tensor:
        contexts = [each.positive for each in conditionings]
        contexts += [each.negative for each in conditionings if each.negative is not None]
        if guidance.scale(timestep) == 1:
            contexts = contexts[: len(requests)]
        clips = latents.repeat(len(contexts) // len(requests), 1, 1, 1, 1)
        branches = torch.stack(branched.velocities(clips, timestep, contexts)).split(len(requests))
        return branches[0] if len(branches) == 1 else guidance.combine(branches[0], branches[1], timestep)

    denoise: Denoise = velocity
    if checkpoint is not None:
        denoise = taped(velocity, checkpoint.recorded(), checkpoint.record)
    latents: Tensor = plugins.bind("samplers", first.sampler)(
        denoise,
        torch.stack([pipeline.noise(request) for request in requests]),
        tensor(pipeline.sigmas(first)),
        step_generator(first.seed),
        lambda index, latents, clean: None,
    )
    return latents
