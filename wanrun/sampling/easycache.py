"""EasyCache (Zhou et al. 2025, arXiv 2507.02860): outside the model, without calibration.

While the model's input moves by a little, its output moves at a steady rate k times as fast:

    k = mean|v − v'| / mean|x − x'|              of the last two forwards that were computed
    error += k·mean|x − x″| / mean|v″|           at each step, x″ and v″ being those of the step before
    while error < threshold:  v = x + (v' − x')  else compute, and error = 0

as in H-EmbodVis/EasyCache EasyCache4Wan2.1/easycache_generate.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from wanrun.sampling.caching import Asked, Cached, Span, all_velocities
from wanrun.types import Denoiser, Range


@dataclass(frozen=True, slots=True)
class _Computed:
    """The last computed forward: its input, and its output for each branch."""

    latents: Tensor
    velocities: Sequence[Tensor]


class EasyCache:
    """A ``wanrun.sampling.caching.Method``; its numbers are ``rate`` (k) and ``error``."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self.forget()

    def forget(self) -> None:
        self.numbers: dict[str, float] = {}
        self._computed: _Computed | None = None
        #: Of the call before: x″ and, of the first branch, v″.
        self._before: tuple[Tensor, Tensor] | None = None

    @property
    def branches(self) -> int:
        return len(self._computed.velocities) if self._computed is not None else 0

    def answer(self, denoiser: Denoiser, asked: Asked, must: bool) -> tuple[list[Tensor], float]:
        reused = self._small(asked.latents) and not must
        answers = self._guess(asked.latents) if reused else self._compute(denoiser, asked)
        self._before = asked.latents, answers[0]
        return answers[: len(asked.contexts)], float(reused)

    def _small(self, latents: Tensor) -> bool:
        """Whether the change since the last computed forward is predicted to be below the threshold."""
        if self._before is None or "rate" not in self.numbers:
            return False
        before, velocity = self._before
        predicted = self.numbers["rate"] * _mean(latents - before) / _mean(velocity)
        self.numbers["error"] = self.numbers.get("error", 0.0) + predicted
        return self.numbers["error"] < self._threshold

    def _guess(self, latents: Tensor) -> list[Tensor]:
        assert self._computed is not None
        moved = latents - self._computed.latents
        return [velocity + moved for velocity in self._computed.velocities]

    def _compute(self, denoiser: Denoiser, asked: Asked) -> list[Tensor]:
        answers = all_velocities(denoiser, asked)
        if self._computed is not None:
            moved = _mean(asked.latents - self._computed.latents)
            if moved > 0:
                self.numbers["rate"] = _mean(answers[0] - self._computed.velocities[0]) / moved
        self.numbers["error"] = 0.0
        self._computed = _Computed(asked.latents, answers)
        return answers

    def remake(self, denoiser: Denoiser, computed: Asked, last: Asked) -> None:
        self._compute(denoiser, computed)
        assert self._computed is not None
        answers = self._computed.velocities if last.latents is computed.latents else self._guess(last.latents)
        self._before = last.latents, answers[0]


def _mean(x: Tensor) -> float:
    return float(x.abs().mean())


def cache(
    denoiser: Denoiser,
    sigmas: Sequence[float],
    boundary: float | None,
    *,
    threshold: Annotated[float, Range(0, 10)] = 0.05,
    warmup: Annotated[float, Range(0, 1)] = 0.2,
) -> Cached:
    """Reuse the model's answers while their predicted change is small; for any model.

    ``threshold`` is the relative change that may add up, ``warmup`` the part of each expert's steps that is
    always computed.
    """
    return Cached(denoiser, EasyCache(threshold), Span(tuple(sigmas), boundary, warmup))
