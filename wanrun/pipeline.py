"""The stages of a run in order, each a function from values to values.

    prompt ──▶ Conditioning ──▶ latents ──▶ frames ──▶ file

Any intermediate can be saved and fed back in. A stage works on a part that is open, so that many requests
can share it; a single run closes each part before the next one is opened.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from wanrun import plugins, settings
from wanrun.errors import InvalidRequest, PluginError
from wanrun.prompts.composition import without_heads
from wanrun.store.loras import with_loras
from wanrun.store.store import open_store
from wanrun.types import (
    Bundle,
    Checkpoint,
    Conditioning,
    Decoder,
    Denoiser,
    Frame,
    GenerationRequest,
    OnStep,
    Progress,
    StepCache,
    Tally,
    TextEncoder,
)

if TYPE_CHECKING:
    from torch import Tensor

_LIBRARIES = ("wanrun", "torch", "llama-cpp-python")


def silent(phase: str, done: int, total: int) -> None:
    """A Progress that shows nothing."""


def expand(bundle: Bundle, request: GenerationRequest, progress: Progress = silent) -> GenerationRequest:
    """The request with what its expander makes of the prompt; itself without one, and when that is done.

    Kept on disk by everything that decides it, so that the same request is not expanded twice. A language
    model is closed again when this returns. Raises as the expander does.
    """
    from wanrun.text.expansion import ExpansionCache, expand

    if request.expand == "none" or request.expanded:
        return request
    progress("text", 0, 0)
    expander = plugins.bind("expanders", request.expand)
    component = bundle.components.get("expander")
    cache = ExpansionCache(settings.home() / "cache" / "expansions")
    path = cache.path(
        version("wanrun"),
        request.expand,
        component.digest if component else "",
        bundle.system,
        request.seed,
        request.prompt,
    )
    found = cache.read(path)
    if found is None:
        model = component.path if component else None
        found = expand(request.prompt, request.seed, bundle.system, expander, model)
        if settings.size("cache"):
            cache.write(path, found)
    return replace(request, expanded=found.prompt, notes=(*request.notes, *found.notes))


def open_encoder(bundle: Bundle) -> TextEncoder:
    """The bundle's text encoder, which starts only for prompts that are not in the cache."""
    from wanrun.text.cache import CachedEncoder
    from wanrun.text.prompts import PromptEncoder

    component = bundle.components["text_encoder"]
    load = plugins.load("text_encoders", "umt5")

    def opener() -> TextEncoder:
        return PromptEncoder(load(component.path))

    limit = settings.size("cache")
    if not limit:
        return opener()
    return CachedEncoder(opener, component.digest, settings.home() / "cache" / "contexts", limit)


def open_denoiser(
    bundle: Bundle, request: GenerationRequest, device: str = "auto", resident_bytes: int | None = None
) -> Denoiser:
    """The bundle's experts with its adapters and the request's, in the request's precision.

    ``resident_bytes`` may be spent on weights that stay ready: see ``wanrun.diffusion.experts.load``.
    """
    bundle = with_loras(bundle, request.lora)
    return open_experts(
        bundle, request.boundary, device, request.precision, resident_bytes, request.cross_frame
    )


def open_experts(
    bundle: Bundle,
    boundary: float | None,
    device: str,
    precision: str,
    resident_bytes: int | None = None,
    cross_frame: float = 0.0,
) -> Denoiser:
    """The bundle's experts with its adapters; they switch at ``boundary``. Raises as ``with_adapters``."""
    load = with_adapters(plugins.load("backends", "torch"), bundle)
    if cross_frame:
        if not _takes(load, "cross_frame"):
            raise PluginError(f"the backend {load.__module__} cannot strengthen attention across frames")
        load = partial(load, cross_frame=cross_frame)
    files = {role: component.path for role, component in bundle.experts.items()}
    return load(files, boundary, device, precision, resident_bytes)


def with_adapters(load: Callable[..., Denoiser], bundle: Bundle) -> Callable[..., Denoiser]:
    """The backend's factory ``load``, to be called without a thought of the bundle's adapters.

    Raises PluginError when there are adapters and the backend, which may be another's, takes none.
    """
    if not bundle.adapters:
        return load
    if not _takes(load, "adapters"):
        raise PluginError(
            f"{bundle.name} needs adapters (LoRA), and the backend {load.__module__} cannot apply any: use "
            "another backend, or a model that has them merged in"
        )
    return partial(load, adapters=bundle.adapters)


def _takes(function: Callable[..., Any], name: str) -> bool:
    """Whether the function has a parameter of that name, or takes any."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def open_decoder(bundle: Bundle, request: GenerationRequest, device: str = "auto") -> Decoder:
    """The decoder that the request names; of several, joined by "+", the first that memory suffices for.

    Raises InvalidRequest when the bundle lacks a decoder's file.
    """
    from wanrun.decoders.fallback import Fallback

    openers: list[tuple[str, Callable[[], Decoder]]] = []
    for name in request.decoder.split("+"):
        role = "preview" if name == "tiny" else "vae"
        if role not in bundle.components:
            raise InvalidRequest(f"{bundle.name} has no {role.upper()}, which the decoder {name} needs")
        path = bundle.components[role].path
        opener = partial(plugins.load("decoders", name), path, device, request.precision)
        openers.append((name, opener))
    return openers[0][1]() if len(openers) == 1 else Fallback(openers)


def encode(encoder: TextEncoder, request: GenerationRequest, progress: Progress = silent) -> Conditioning:
    """The prompts' contexts; without guidance the negative prompt is not read."""
    guided = {request.guidance_high, request.guidance_low if request.boundary is not None else 1.0} != {1.0}
    without = without_heads(request.text) if guided and request.compose else ""
    total = 1 + guided + bool(without)
    positive = encoder.encode(request.text)
    progress("text", 1, total)
    negative = encoder.encode(request.negative) if guided else None
    headless = encoder.encode(without) if without else None
    progress("text", total, total)
    return Conditioning(positive, negative, headless)


def encode_all(
    bundle: Bundle, requests: Sequence[GenerationRequest], progress: Progress = silent
) -> list[Conditioning]:
    """The conditionings of many requests, with one encoder and one copy of each negative prompt's context."""
    requests = [expand(bundle, request, progress) for request in requests]
    found: list[Conditioning] = []
    negatives: dict[str, Tensor] = {}
    with open_encoder(bundle) as encoder:
        for index, request in enumerate(requests):
            read = encode(encoder, request)
            if read.negative is not None:
                read = replace(read, negative=negatives.setdefault(request.negative, read.negative))
            found.append(read)
            progress("encoding prompts", index + 1, len(requests))
    return found


def sigmas(request: GenerationRequest) -> list[float]:
    """The noise levels that the sampler walks down."""
    schedule = plugins.bind("schedules", request.schedule)
    return [float(level) for level in schedule(request.steps, request.shift)]


def noise(request: GenerationRequest) -> Tensor:
    """What the sampler begins with."""
    from wanrun.sampling.noise import frame_generator, initial_noise

    independent = initial_noise(request.latent_shape, request.seed)
    if request.noise == "iid":
        return independent
    correlated: Tensor = plugins.bind("noises", request.noise)(independent, frame_generator(request.seed))
    return correlated


def step_cache(denoiser: Denoiser, request: GenerationRequest) -> StepCache | None:
    """The step cache that the request names, around ``denoiser``; None for none."""
    if request.cache == "none":
        return None
    make = plugins.bind("step_caches", request.cache)
    cache: StepCache = make(denoiser, sigmas(request), request.boundary)
    return cache


def denoise(
    denoiser: Denoiser,
    request: GenerationRequest,
    conditioning: Conditioning,
    progress: Progress = silent,
    checkpoint: Checkpoint | None = None,
    on_step: OnStep | None = None,
    tally: Tally | None = None,
) -> Tensor:
    """The clean latents, float32 on the CPU; what ``checkpoint`` has recorded is not computed again.

    ``tally`` becomes what a step cache has counted.
    """
    from wanrun.sampling.guidance import Guidance, guided
    from wanrun.sampling.noise import step_generator
    from wanrun.sampling.tape import taped
    from wanrun.sampling.trajectory import tensor

    levels = tensor(sigmas(request))
    steps = len(levels) - 1
    cache = step_cache(denoiser, request)
    guidance = Guidance(
        request.guidance_high,
        request.guidance_low,
        request.boundary,
        request.guidance_start,
        request.guidance_end,
        request.guidance_rescale,
        request.compose,
    )
    velocity = guided(
        cache or denoiser,
        conditioning.positive,
        conditioning.negative,
        guidance,
        headless=conditioning.headless,
    )
    if checkpoint is not None:
        velocity = taped(velocity, checkpoint.recorded(), checkpoint.record, cache)

    taken = 0

    def stepped(index: int, latents: Tensor, clean: Tensor) -> None:
        nonlocal taken
        taken = index + 1
        progress("denoise", taken, steps)
        if on_step is not None:
            on_step(index, latents, clean)

    latents: Tensor = plugins.bind("samplers", request.sampler)(
        velocity,
        noise(request),
        levels,
        step_generator(request.seed),
        stepped,
    )
    if taken < steps:  # an adaptive sampler needs no more
        progress("denoise", steps, steps)
    if cache is not None:
        cache.close()
        if tally is not None:
            tally.forwards, tally.skipped = cache.tally.forwards, cache.tally.skipped
    return latents


def decode(
    decoder: Decoder, request: GenerationRequest, latents: Tensor, progress: Progress = silent
) -> Iterator[Frame]:
    """uint8 (height, width, 3) frames, made as they are asked for."""
    from wanrun.decoders.steady import steady

    for index, frame in enumerate(steady(decoder.frames(latents), request.flicker)):
        progress("decode", index + 1, request.frames)
        yield frame


def prompt_to_latents(
    bundle: Bundle,
    request: GenerationRequest,
    progress: Progress = silent,
    device: str = "auto",
    checkpoint: Checkpoint | None = None,
    resident_bytes: int | None = None,
    on_step: OnStep | None = None,
    tally: Tally | None = None,
) -> Tensor:
    """The first stages: expander, encoder, experts, each closed before the next part is opened."""
    request = expand(bundle, request, progress)
    progress("text", 0, 0)
    with open_encoder(bundle) as encoder:
        conditioning = encode(encoder, request, progress)
    progress("denoise", 0, request.steps)
    with open_denoiser(bundle, request, device, resident_bytes) as denoiser:
        return denoise(denoiser, request, conditioning, progress, checkpoint, on_step, tally)


def latents_to_frames(
    bundle: Bundle,
    request: GenerationRequest,
    latents: Tensor,
    progress: Progress = silent,
    device: str = "auto",
) -> Iterator[Frame]:
    """The last stage: frames, streamed."""
    progress("decode", 0, request.frames)
    with open_decoder(bundle, request, device) as decoder:
        yield from decode(decoder, request, latents, progress)


def provenance(bundle: Bundle, request: GenerationRequest, tally: Tally | None = None) -> dict[str, Any]:
    """What is written into the file: enough to make the same video again, and what a step cache saved."""
    counted = (
        {} if tally is None or not tally.forwards else {"cache": {**asdict(tally), "share": tally.share}}
    )
    return {
        **counted,
        "model": bundle.name,
        **ingredients(bundle),
        "request": asdict(request),
        "sigmas": sigmas(request),
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def ingredients(bundle: Bundle) -> dict[str, Any]:
    """The part of the provenance that says which files a video is made of."""
    return {
        "components": {role: component.digest for role, component in bundle.components.items()},
        "adapters": [
            {"digest": adapter.component.digest, "role": adapter.role, "scale": adapter.scale}
            for adapter in bundle.adapters
        ],
    }


def run(
    bundle: Bundle,
    request: GenerationRequest,
    progress: Progress = silent,
    device: str = "auto",
    tally: Tally | None = None,
) -> Iterator[Frame]:
    """All stages: the video's frames, streamed; ``tally`` as in ``denoise``."""
    with open_store().hold():  # what is deleted meanwhile keeps its files until the run is over
        latents = prompt_to_latents(bundle, request, progress, device, tally=tally)
        yield from latents_to_frames(bundle, request, latents, progress, device)
