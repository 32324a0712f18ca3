"""Samples with steps as long as a tolerance allows: an embedded pair and a PID controller.

One evaluation a step serves twice. The predictor is Adams–Bashforth of order 2 in the velocity; with the
estimate at the step's end the corrector integrates the parabola through three clean estimates, of order 3,
and is kept. What they differ by is the predictor's error, and says how long the next step may be.

Time runs along the list of sigmas: at an even pace the steps would be the list's own. So the schedule still
says where steps are short, and the tolerance how many there are. Nothing is known of the expert switch, and
need not be: the error shows it, and the steps after it are short.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from torch import Generator, Tensor

from wanrun.sampling.trajectory import levels
from wanrun.types import Denoise, OnStep, Range

#: Of the whole time: the first step, before anything is known of the flow, the shortest and the longest.
_FIRST, _SHORTEST, _LONGEST = 0.025, 0.01, 0.125
#: The last step has no estimate at its end to be corrected by: its error counts for more.
_LAST = 2.0
#: A slope is followed this many times as far as the two estimates that it goes through lie apart.
_REACH = 8.0
#: Above this many tolerances a step is taken again, shorter.
_REJECTED = 3.0
#: Exponents of the controller, for the proportional, the integral and the derivative part of the error.
_PROPORTIONAL, _INTEGRAL, _DERIVATIVE = 0.3, 0.4, 0.05
_SAFETY, _SHRINK, _GROW = 0.9, 0.3, 2.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the model said at one sigma: the velocity, and the clean latents that follow from it."""

    sigma: float
    velocity: Tensor
    clean: Tensor


@dataclass(slots=True)
class Controller:
    """Chooses the next step from the errors of the last three (Söderlind 2003, doi 10.1145/641876.641877)."""

    #: Of the next step, as a share of the whole time.
    length: float = _FIRST
    #: Of the accepted steps, in tolerances, newest first.
    errors: list[float] = field(default_factory=list)
    #: Of the last accepted step.
    taken: float = _FIRST

    def accept(self, error: float, length: float) -> None:
        """Take note of a step and its error, in tolerances."""
        self.taken, self.errors = length, [max(error, 1e-6), *self.errors[:2]]
        now, before, earlier = (self.errors + self.errors[-1:] * 2)[:3]
        factor = now**-_INTEGRAL * (before / now) ** _PROPORTIONAL
        factor *= (before**2 / (now * earlier)) ** _DERIVATIVE
        self.length = min(_LONGEST, length * min(_GROW, max(_SHRINK, _SAFETY * factor)))

    def rejects(self, error: float, length: float, remaining: float, forwards: int) -> bool:
        """Whether the step is to be taken again, clearly shorter, as far as ``forwards`` allow it."""
        shorter = max(_SHORTEST, length * max(_SHRINK, _SAFETY / math.sqrt(max(error, 1.0))))
        if error <= _REJECTED or max(shorter, remaining / (forwards + 1)) > 0.8 * length:
            return False
        self.length = shorter
        return True

    def choose(self, remaining: float, forwards: int) -> float:
        """The next step, where ``remaining`` time is left and ``forwards`` evaluations may still be made."""
        length = max(self.length, remaining / (forwards + 1))
        if length >= remaining and forwards and self.errors:
            excess = _LAST * self.errors[0] * (remaining / self.taken) ** 2
            if excess > 1 and remaining > 2 * _SHORTEST:
                return remaining * min(0.7, max(0.4, 1 / math.sqrt(excess)))
        elif length > 0.6 * remaining and forwards:
            return remaining / 2  # two even steps rather than a long one and a stub
        return min(length, remaining)


def sample(
    denoise: Denoise,
    latents: Tensor,
    sigmas: Tensor,
    rng: Generator,
    on_step: OnStep,
    *,
    tolerance: Annotated[float, Range(0.0001, 1)] = 0.01,
) -> Tensor:
    """Adaptive: an embedded pair of orders 2 and 3 with a PID step controller, to a tolerance.

    ``tolerance`` is the predictor's root mean square error in one step, times √σ, for what goes wrong at high
    noise is carried further. It asks at most as often as ``sigmas`` has steps, and less where the content is
    simple; the model is told 1000σ with its fraction. Deterministic: ``rng`` is not used. Raises
    InvalidRequest for sigmas that do not fall.

    Good for the best result in the fewest steps, if they need not be known beforehand; steps are the most.
    """
    values = levels(sigmas)
    controller, forwards, time, index = Controller(), len(values) - 2, 0.0, 0
    newest = _ask(denoise, latents, values[0])
    history: list[Estimate] = [newest]  # newest first
    while True:
        length = controller.choose(1 - time, forwards)
        last = length >= 1 - time
        end = values[-1] if last else _sigma(values, time + length)
        past = _useful(history, end)
        predicted = _predict(latents, past, end)
        if last:
            on_step(index, predicted, predicted if end == 0 else newest.clean)
            return predicted
        fresh = _ask(denoise, predicted, end)
        forwards -= 1
        corrected = _correct(latents, [fresh, *past], newest.sigma, end)
        error = _size(corrected - predicted) * math.sqrt(end) / tolerance
        if controller.rejects(error, length, 1 - time, forwards):
            continue
        controller.accept(error, length)
        on_step(index, corrected, newest.clean)
        latents, newest, history = corrected, fresh, [fresh, *history[:1]]
        time, index = time + length, index + 1


def _size(change: Tensor) -> float:
    return change.double().square().mean().sqrt().item()


def _ask(denoise: Denoise, latents: Tensor, sigma: float) -> Estimate:
    velocity = denoise(latents, 1000 * sigma)
    return Estimate(sigma, velocity, latents - sigma * velocity)


def _sigma(values: Sequence[float], time: float) -> float:
    """Where the list of sigmas is at ``time``, 0..1, evenly between its levels."""
    place = time * (len(values) - 1)
    index = min(len(values) - 2, int(place))
    return values[index] + (place - index) * (values[index + 1] - values[index])


def _useful(history: list[Estimate], end: float) -> list[Estimate]:
    """Without the older estimate where it lies so near that rounding would decide the slope."""
    step = history[0].sigma - end
    return [each for each in history if each is history[0] or step < _REACH * (each.sigma - history[0].sigma)]


def _predict(latents: Tensor, history: Sequence[Estimate], end: float) -> Tensor:
    """From the newest estimate's sigma to ``end``: the integral of the line through two velocities."""
    newest = history[0]
    step = end - newest.sigma
    moved = latents + step * newest.velocity
    if len(history) == 1:
        return moved
    slope = step**2 / (2 * (newest.sigma - history[1].sigma))
    return moved + slope * (newest.velocity - history[1].velocity)


def _correct(latents: Tensor, estimates: Sequence[Estimate], start: float, end: float) -> Tensor:
    """σ'/σ·x + σ'·∫ p(s)/s² ds from σ' to σ, where p is the polynomial in s through the clean estimates."""
    powers = np.vander([each.sigma - start for each in estimates], increasing=True).T
    moments = np.array(_moments(start, end)[: len(estimates)])
    moved = end / start * latents
    for weight, each in zip(np.linalg.solve(powers, moments).tolist(), estimates, strict=True):
        moved = moved + weight * each.clean
    return moved


def _moments(start: float, end: float) -> tuple[float, float, float]:
    """σ'·∫ (s − σ)^n/s² ds from σ' to σ for n = 0, 1, 2."""
    zeroth, first, second = 1 - end / start, end * math.log(start / end), end * (start - end)
    return zeroth, first - start * zeroth, second - 2 * start * first + start**2 * zeroth
