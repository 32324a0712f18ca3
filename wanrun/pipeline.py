"""The stages of a run in order, each a function from values to values.

    prompt ──▶ Conditioning ──▶ latents ──▶ frames ──▶ file

Any intermediate can be saved and fed back in. A stage closes what it opened before the next one opens
anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from wanrun import plugins
from wanrun.store.store import open_store
from wanrun.types import Bundle, Conditioning, Frame, GenerationRequest, Progress

if TYPE_CHECKING:
    from torch import Tensor

_LIBRARIES = ("wanrun", "torch", "llama-cpp-python")


def silent(phase: str, done: int, total: int) -> None:
    """A Progress that shows nothing."""


def encode(bundle: Bundle, request: GenerationRequest, progress: Progress = silent) -> Conditioning:
    """The prompts' contexts; the encoder is closed again."""
    guided = {request.guidance_high, request.guidance_low if request.boundary is not None else 1.0} != {1.0}
    total = 1 + guided
    progress("text", 0, total)
    with plugins.load("text_encoders", "umt5")(bundle.components["text_encoder"].path) as encoder:
        positive = encoder.encode(request.prompt)
        progress("text", 1, total)
        negative = encoder.encode(request.negative) if guided else None
    progress("text", total, total)
    return Conditioning(positive, negative)


def sigmas(request: GenerationRequest) -> Tensor:
    """The noise levels that the sampler walks down."""
    schedule: Tensor = plugins.load("schedules", request.schedule)(request.steps, request.shift)
    return schedule


def denoise(
    bundle: Bundle,
    request: GenerationRequest,
    conditioning: Conditioning,
    progress: Progress = silent,
    device: str = "auto",
) -> Tensor:
    """The clean latents, float32 on the CPU; the experts are closed again."""
    from wanrun.sampling.guidance import guided
    from wanrun.sampling.noise import initial_noise, step_generator

    files = {role: component.path for role, component in bundle.experts.items()}
    levels = sigmas(request)
    steps = len(levels) - 1
    progress("denoise", 0, steps)
    noise = initial_noise(request.latent_shape, request.seed)
    sample = plugins.load("samplers", request.sampler)
    with plugins.load("backends", "torch")(files, request.boundary, device, request.precision) as denoiser:
        velocity = guided(
            denoiser,
            conditioning.positive,
            conditioning.negative,
            request.guidance_high,
            request.guidance_low,
            request.boundary,
        )
        latents: Tensor = sample(
            velocity,
            noise,
            levels,
            step_generator(request.seed),
            lambda index, latents, clean: progress("denoise", index + 1, steps),
        )
    return latents


def decode(
    bundle: Bundle,
    request: GenerationRequest,
    latents: Tensor,
    progress: Progress = silent,
    device: str = "auto",
) -> Iterator[Frame]:
    """uint8 (height, width, 3) frames, made as they are asked for."""
    role = "preview" if request.decoder == "tiny" else "vae"
    progress("decode", 0, request.frames)
    with plugins.load("decoders", request.decoder)(
        bundle.components[role].path, device, request.precision
    ) as decoder:
        for index, frame in enumerate(decoder.frames(latents)):
            progress("decode", index + 1, request.frames)
            yield frame


def provenance(bundle: Bundle, request: GenerationRequest) -> dict[str, Any]:
    """What is written into the file: enough to make the same video again."""
    return {
        "model": bundle.name,
        "components": {role: component.digest for role, component in bundle.components.items()},
        "request": asdict(request),
        "sigmas": [float(level) for level in sigmas(request)],
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def run(
    bundle: Bundle, request: GenerationRequest, progress: Progress = silent, device: str = "auto"
) -> Iterator[Frame]:
    """All stages: the video's frames, streamed."""
    with open_store().hold():  # what is deleted meanwhile keeps its files until the run is over
        latents = denoise(bundle, request, encode(bundle, request, progress), progress, device)
        yield from decode(bundle, request, latents, progress, device)
