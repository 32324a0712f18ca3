"""Plans a request on this machine, and refuses one that does not fit before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from wanrun import options, pipeline, plugins, settings
from wanrun.errors import OutOfMemoryBudget
from wanrun.prompts.composition import without_heads
from wanrun.runtime import advice
from wanrun.runtime.calibration import calibrated
from wanrun.runtime.free import free_memory
from wanrun.runtime.machine import Machine
from wanrun.runtime.parts import read_parts
from wanrun.runtime.planner import Plan, plan
from wanrun.runtime.remembered import text_encoder
from wanrun.runtime.shapes import Job, Parts, arithmetic
from wanrun.store.loras import with_loras
from wanrun.text.keys import context_path
from wanrun.types import SHAPED, Bundle, GenerationRequest

#: Step caches that keep nothing of the transformer's hidden states.
_KEEP_NO_STATES = ("none", "easycache")
#: Characters of a prompt for each token, on the low side, and the end-of-sequence token.
_TOKEN_CHARACTERS = 4
_MOST_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Estimator:
    """Plans requests for ``bundle``; ``limit`` is in bytes, and ``told`` whether the user set it."""

    bundle: Bundle
    machine: Machine
    limit: int
    told: bool

    def plan(self, request: GenerationRequest, parts: Parts | None = None) -> Plan:
        """The plan of ``request``, with other ``parts`` than the bundle's if they are given."""
        precision = self.machine.pick(request.precision)
        parts = parts or self.read(request, precision)
        job = describe(self.bundle, request, precision)
        if not self.machine.device_bytes:
            return plan(parts, job, self.machine, self.limit)
        # what the user allows is the accelerator's memory, where the run computes
        device_limit = self.limit if self.told else int(self.machine.device_bytes)
        return plan(parts, job, self.machine, free_memory(), device_limit)

    def read(self, request: GenerationRequest, precision: str, quant: str | None = None) -> Parts:
        """The parts that ``request`` uses, with the experts as the mix ``quant`` if one is named."""
        encoder = text_encoder(self.bundle.components["text_encoder"])
        adapted = with_loras(self.bundle, request.lora)
        return read_parts(adapted, encoder, request.decoder, arithmetic(precision), quant)

    def check(self, request: GenerationRequest) -> Plan:
        """The plan of ``request``; OutOfMemoryBudget with the nearest settings that fit if it does not."""
        planned = self.plan(request)
        if planned.fits:
            return planned
        raise OutOfMemoryBudget(advice.explain(planned, self.suggest(request), self.told))

    def suggest(self, request: GenerationRequest) -> list[advice.Suggestion]:
        """The nearest settings to those of ``request`` that fit."""
        precision = self.machine.pick(request.precision)
        read: dict[tuple[str, Any], Parts] = {}

        def replan(changes: Mapping[str, Any]) -> Plan:
            other = changed(request, changes)
            key = other.decoder, changes.get("quant")
            if key not in read:
                read[key] = self.read(other, precision, key[1])
            return self.plan(other, read[key])

        return advice.nearest(self.bundle.name, request, "preview" in self.bundle.components, replan)


def open_estimator(bundle: Bundle, device: str, memory: int | None) -> Estimator:
    """Plans for ``bundle`` on ``device``, which is measured if it never was; ``memory`` is in bytes.

    Without ``memory`` the setting decides. Raises WanrunError when the machine cannot be measured.
    """
    told = memory if memory is not None else settings.memory()
    return Estimator(bundle, calibrated(device), free_memory() if told is None else told, told is not None)


def describe(bundle: Bundle, request: GenerationRequest, precision: str) -> Job:
    """What ``request`` asks of the parts, in the precision ``precision``."""
    prompts = [request.text]
    guided = {request.guidance_high, request.guidance_low if request.boundary is not None else 1.0} != {1.0}
    if guided:
        prompts.append(request.negative)
    composed = without_heads(request.text) if guided and request.compose else ""
    prompts += [composed] if composed else []
    missing = [text for text in prompts if not _known(bundle, text)]
    longest = max(len(text) for text in prompts)
    return Job(
        latent=request.latent_shape,
        frames=request.frames,
        width=request.width,
        height=request.height,
        evaluations=evaluations(request),
        prompts=len(missing),
        prompt_tokens=min(_MOST_TOKENS, 1 + longest // _TOKEN_CHARACTERS),
        precision=precision,
        kept_branches=0 if _cache(request) in _KEEP_NO_STATES else 1 + guided + bool(composed),
    )


def _cache(request: GenerationRequest) -> str:
    return options.parse(request.cache).name


def evaluations(request: GenerationRequest) -> tuple[int, ...]:
    """Forwards of each expert, at most: what the sampler asks for, twice where guidance is used
    and three times where it composes.

    A sampler that asks more than once a step asks again about the step's end, which is not asked about at 0.
    """

    composed = bool(request.compose and without_heads(request.text))

    def forwards(level: float, scale: float) -> int:
        if scale == 1 or not request.guidance_end <= level <= request.guidance_start:
            return 1
        return 2 + (composed and level >= SHAPED)

    levels = pipeline.sigmas(request)[:-1]
    again = plugins.signature("samplers", options.parse(request.sampler).name)
    asked = levels + levels[1:] * ((again.forwards if again else 1) - 1)
    if request.boundary is None:
        return (sum(forwards(level, request.guidance_high) for level in asked),)
    high = [level for level in asked if level >= request.boundary]
    low = [level for level in asked if level < request.boundary]
    return (
        sum(forwards(level, request.guidance_high) for level in high),
        sum(forwards(level, request.guidance_low) for level in low),
    )


def changed(request: GenerationRequest, changes: Mapping[str, Any]) -> GenerationRequest:
    """``request`` with another ``size`` (width, height), ``frames`` or ``decoder`` that the model can do."""
    channels, _, height, _ = request.latent_shape
    stride = request.height // height
    width, height = changes.get("size", (request.width, request.height))
    frames = changes.get("frames", request.frames)
    shape = channels, (frames - 1) // 4 + 1, height // stride, width // stride
    decoder = changes.get("decoder", request.decoder)
    return replace(request, width=width, height=height, frames=frames, decoder=decoder, latent_shape=shape)


def _known(bundle: Bundle, text: str) -> bool:
    """Whether the encoded prompt is in the cache."""
    folder = settings.home() / "cache" / "contexts"
    return context_path(folder, bundle.components["text_encoder"].digest, text).is_file()
