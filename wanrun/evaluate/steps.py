"""Measures how a model's work changes from step to step, which the caches magcache and teacache must know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial
from torch import Tensor

from wanrun import pipeline
from wanrun.errors import InvalidRequest, PluginError
from wanrun.request import resolve
from wanrun.sampling.caching import relative_change
from wanrun.store.store import open_store
from wanrun.types import BlockDenoiser, Bundle, Denoiser, Progress, Resource
from wanrun.wan.model import straight

#: The degree of TeaCache's polynomial.
_DEGREE = 4
#: Digits after the point: five numbers in a hundred thousand are far below what prompts differ by.
_DIGITS = 5


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is kept with a model, as the parameters ``magcache`` and ``teacache``."""

    #: By how much the magnitude of what the blocks add changes, for each step after the first.
    ratios: tuple[float, ...]
    #: From the change of the time vector to that of what the blocks add, the highest power first.
    coefficients: tuple[float, ...]

    def parameters(self) -> dict[str, str]:
        """As the text of parameters."""
        return {
            "magcache": ",".join(f"{ratio:.{_DIGITS}g}" for ratio in self.ratios),
            "teacache": ",".join(f"{coefficient:.{_DIGITS + 3}g}" for coefficient in self.coefficients),
        }


@dataclass(slots=True)
class _Step:
    """One forward's change against the one before: of the magnitude, the direction and the time vector."""

    ratio: float
    added: float
    time: float
    same_expert: bool


@dataclass(slots=True)
class _Listener(Resource):
    """A BranchDenoiser that hears what the blocks add, for the first branch of guidance."""

    denoiser: Denoiser
    boundary: float | None
    steps: list[_Step] = field(default_factory=list)
    _before: tuple[Tensor, Tensor, bool] | None = None
    _expert: bool = False
    _heard: bool = False

    def velocity(
        self, latents: Tensor, timestep: float | Tensor, context: Tensor, condition: Tensor | None = None
    ) -> Tensor:
        return self.velocities(latents, timestep, [context], condition)[0]

    def velocities(
        self,
        latents: Tensor,
        timestep: float | Tensor,
        contexts: Sequence[Tensor],
        condition: Tensor | None = None,
    ) -> list[Tensor]:
        if not isinstance(self.denoiser, BlockDenoiser):
            raise PluginError("the backend lets nobody between its blocks: there is nothing to measure")
        self._heard = False
        self._expert = self.boundary is not None and float(timestep) < 1000 * self.boundary
        return self.denoiser.walked(latents, timestep, contexts, condition, self._walk)

    def close(self) -> None:
        self._before = None

    def _walk(self, x: Tensor, blocks: Sequence[Callable[[Tensor], Tensor]], time: Tensor) -> Tensor:
        end = straight(x, blocks, time)
        if not self._heard:
            self._hear(end[0] - x[0], time[0])
        self._heard = True
        return end

    def _hear(self, added: Tensor, time: Tensor) -> None:
        if self._before is not None:
            added_before, time_before, expert = self._before
            ratio = float((added.norm(dim=-1) / added_before.norm(dim=-1)).mean())
            self.steps.append(
                _Step(
                    ratio,
                    relative_change(added, added_before),
                    relative_change(time, time_before),
                    expert == self._expert,
                )
            )
        self._before = added, time, self._expert


def calibrate(
    bundle: Bundle,
    prompts: Sequence[str],
    settings: Mapping[str, Any],
    progress: Progress = pipeline.silent,
    device: str = "auto",
) -> Calibration:
    """Measured on one video of each prompt, with ``settings`` as in ``wanrun.request.resolve``.

    Every step must be computed once, and the same number of times: a sampler of one forward a step.
    """
    requests = [
        resolve(bundle, prompt, {"seed": seed, **settings, "cache": "none"})
        for seed, prompt in enumerate(prompts)
    ]
    heard = []
    with open_store().hold():
        with pipeline.open_encoder(bundle) as encoder:
            conditionings = [pipeline.encode(encoder, request) for request in requests]
        with pipeline.open_denoiser(bundle, requests[0], device) as denoiser:
            for index, (request, conditioning) in enumerate(zip(requests, conditionings, strict=True)):
                listener = _Listener(denoiser, request.boundary)
                pipeline.denoise(listener, request, conditioning)
                heard.append(listener.steps)
                progress("measuring videos", index + 1, len(requests))
    return fit(heard)


def fit(heard: Sequence[Sequence[_Step]]) -> Calibration:
    """The mean ratio of each step, and the polynomial through all steps that the same expert made.

    Raises InvalidRequest where there are no two steps of one expert.
    """
    points = [step for steps in heard for step in steps if step.same_expert]
    times = [step.time for step in points]
    if not times:
        raise InvalidRequest("there is nothing to compare: measure with more steps")
    ratios = np.array([[step.ratio for step in steps] for steps in heard]).mean(0)
    degree = min(_DEGREE, len(set(times)) - 1)
    fitted = Polynomial.fit(times, [step.added for step in points], degree).convert()
    coefficients = np.zeros(_DEGREE + 1)
    coefficients[: len(fitted.coef)] = fitted.coef
    return Calibration(tuple(map(float, ratios)), tuple(map(float, coefficients[::-1])))
