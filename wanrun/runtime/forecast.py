"""Forecasts how long requests take: from what runs like them took, and where there was none from the plan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from wanrun import pipeline
from wanrun.runtime import timings
from wanrun.runtime.estimate import Estimator, evaluations
from wanrun.runtime.shapes import Parts
from wanrun.runtime.timings import LEAST_STEPS, Stopwatch, Taken
from wanrun.types import EXPERTS, GenerationRequest

#: A request is tried for some steps if that is less than this part of the time that it may take.
_WORTH_TRYING = 0.12


@dataclass(slots=True)
class Forecaster:
    """Seconds of requests for the estimator's bundle, which differ in settings and size alone."""

    estimator: Estimator
    device: str
    _parts: dict[tuple[str, str], Parts] = field(default_factory=dict)
    _taken: dict[tuple[object, ...], Taken | None] = field(default_factory=dict)

    def seconds(self, request: GenerationRequest, computed: float = 1.0) -> float:
        """From the command's start to its end, where the part ``computed`` of the forwards is computed."""
        precision = self.estimator.machine.pick(request.precision)
        key = request.decoder, precision
        if key not in self._parts:
            self._parts[key] = self.estimator.read(request, precision)
        planned = self.estimator.plan(request, self._parts[key])
        by_name = {phase.name: phase.seconds for phase in planned.phases}
        experts = sum(by_name.pop(name, 0.0) for name in EXPERTS)
        before = by_name.pop("start") + by_name.pop("text")
        after = sum(by_name.values())
        taken = self._known(request)
        if taken is None:
            return before + computed * experts + after
        decode = after if taken.decode is None else taken.decode
        return before + taken.load + computed * sum(evaluations(request)) * taken.forward + decode

    def try_out(self, request: GenerationRequest, within_s: float) -> float:
        """Make some steps of ``request`` if nothing is known of it and they are few of ``within_s`` seconds.

        How many seconds that took. The encoded prompts stay in the cache.
        """
        short = replace(request, steps=LEAST_STEPS, cache="none")
        step_s = (self.seconds(short) - self.seconds(replace(short, steps=1))) / (LEAST_STEPS - 1)
        if self._known(request) is not None or LEAST_STEPS * step_s > _WORTH_TRYING * within_s:
            return 0.0
        planned = self.estimator.plan(short)
        watch = Stopwatch(pipeline.silent, self.estimator.machine.device == "cpu")
        watch("trial", 0, 1)
        pipeline.prompt_to_latents(
            self.estimator.bundle, short, watch, self.device, resident_bytes=planned.resident
        )
        watch("trial", 1, 1)
        taken = watch.taken(sum(evaluations(short)))
        if taken is not None:
            timings.keep(self.estimator.bundle, short, self.device, taken)
            self._taken.clear()
        # what was imported need not be again
        return max(0.0, watch.lasted("trial") - planned.phases[0].seconds)

    def _known(self, request: GenerationRequest) -> Taken | None:
        key = request.latent_shape, request.decoder, request.precision
        if key not in self._taken:
            self._taken[key] = timings.find(self.estimator.bundle, request, self.device)
        return self._taken[key]
