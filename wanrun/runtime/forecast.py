"""Forecasts how long requests take: from what runs like them took, and where there was none from the plan."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from wanrun import pipeline
from wanrun.runtime import timings
from wanrun.runtime.estimate import Estimator, evaluations
from wanrun.runtime.shapes import Parts
from wanrun.runtime.timings import LEAST_STEPS, Stopwatch, Taken
from wanrun.types import EXPERTS, GenerationRequest

#: A request is tried for some steps if that is less than this part of the time that it may take.
_WORTH_TRYING = 0.12
#: The part of starting that imports are; the rest is ending.
_IMPORTS = 0.5


@dataclass(slots=True)
class Forecaster:
    """Seconds of requests for the estimator's bundle, which differ in settings and size alone.

    ``since`` is the processor's time of this process from which on its own work counts, too; None where
    another process makes the video.
    """

    estimator: Estimator
    device: str
    since: float | None = None
    _parts: dict[tuple[str, str], Parts] = field(default_factory=dict)
    _tried: bool = False
    _others: dict[tuple[object, ...], dict[str, float]] = field(default_factory=dict)
    _taken: dict[tuple[object, ...], Taken | None] = field(default_factory=dict)

    def seconds(self, request: GenerationRequest, computed: float = 1.0) -> float:
        """From the command's start to its end, where the part ``computed`` of the forwards is computed."""
        taken = self._known(request)
        if taken is None:
            planned = self._plan(request)
            experts = sum(planned.pop(name, 0.0) for name in EXPERTS)
            return self._own() + computed * experts + sum(planned.values())
        planned = self._beside(request)
        start, text, writing = (planned.pop(name) for name in ("start", "text", "writing"))
        if self._tried:
            start *= 1 - _IMPORTS
        decode = sum(planned.values()) if taken.decode is None else taken.decode
        denoise = taken.load + computed * sum(evaluations(request)) * taken.forward
        return self._own() + start + text + denoise + decode + writing

    def _own(self) -> float:
        """Seconds that went into choosing."""
        return 0.0 if self.since is None else time.process_time() - self.since

    def _plan(self, request: GenerationRequest) -> dict[str, float]:
        """The plan's seconds by phase."""
        precision = self.estimator.machine.pick(request.precision)
        key = request.decoder, precision
        if key not in self._parts:
            self._parts[key] = self.estimator.read(request, precision)
        planned = self.estimator.plan(request, self._parts[key])
        return {phase.name: phase.seconds for phase in planned.phases}

    def _beside(self, request: GenerationRequest) -> dict[str, float]:
        """The plan's seconds but for the experts', which do not depend on the steps."""
        key = request.latent_shape, request.decoder, request.precision
        if key not in self._others:
            planned = self._plan(request)
            self._others[key] = {name: each for name, each in planned.items() if name not in EXPERTS}
        return dict(self._others[key])

    def try_out(self, request: GenerationRequest, within_s: float) -> None:
        """Make some steps of ``request`` if nothing is known of it and they are few of ``within_s`` seconds.

        The encoded prompts stay in the cache, and what was imported need not be again.
        """
        short = replace(request, steps=LEAST_STEPS, cache="none")
        tried_s = sum(seconds for name, seconds in self._plan(short).items() if name in EXPERTS)
        if self._known(request) is not None or tried_s > _WORTH_TRYING * within_s:
            return
        planned = self.estimator.plan(short)
        watch = Stopwatch(pipeline.silent, self.estimator.machine.device == "cpu")
        before = time.process_time()
        watch("trial", 0, 1)
        pipeline.prompt_to_latents(
            self.estimator.bundle, short, watch, self.device, resident_bytes=planned.resident
        )
        watch("trial", 1, 1)
        taken = watch.taken(sum(evaluations(short)))
        if taken is not None:
            timings.keep(self.estimator.bundle, short, self.device, taken)
            self._taken.clear()
            self._others.clear()
        self._tried = True
        if self.since is not None:
            # many threads' time is not the wall's
            self.since += time.process_time() - before - watch.lasted("trial")

    def _known(self, request: GenerationRequest) -> Taken | None:
        key = request.latent_shape, request.decoder, request.precision
        if key not in self._taken:
            self._taken[key] = timings.find(self.estimator.bundle, request, self.device)
        return self._taken[key]
