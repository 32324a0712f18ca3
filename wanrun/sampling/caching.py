"""What all step caches have in common: when they may answer, what they count, and how they continue.

A cache answers for the model where a method (easycache, magcache, …) says that the answer would hardly
change. The first branch of guidance decides for all, so that no fresh answer is ever set against an old one.
What a method keeps is a few numbers and, for each branch, the tensors of the last forward that was computed.
A checkpoint holds the numbers; the tensors are made again by repeating that one forward.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from wanrun.errors import FormatError
from wanrun.types import BranchDenoiser, Denoiser, Resource, Tally


@dataclass(frozen=True, slots=True)
class Span:
    """The run that a cache serves: its sigmas, where its experts switch, and which steps are always computed.

    Those are the first part ``warmup`` of each expert's steps, at least one, and the very last.
    """

    sigmas: tuple[float, ...]
    boundary: float | None
    warmup: float

    def expert(self, timestep: float) -> int:
        """0 for the first expert, 1 for the second."""
        return int(self.boundary is not None and timestep < 1000 * self.boundary)

    def place(self, timestep: float) -> float:
        """Where the timestep lies in the run: its step counted from 0, with a fraction between two."""
        levels = [-sigma for sigma in self.sigmas]
        index = min(max(bisect_right(levels, -timestep / 1000) - 1, 0), len(levels) - 2)
        start, end = self.sigmas[index : index + 2]
        return index + min(max((start - timestep / 1000) / (start - end), 0.0), 1.0)

    def protects(self, timestep: float) -> bool:
        """Whether the model itself must answer."""
        steps = [self.expert(1000 * sigma) for sigma in self.sigmas[:-1]]
        expert, place = self.expert(timestep), self.place(timestep)
        first = steps.index(expert) if expert in steps else 0
        return place < first + max(1.0, self.warmup * steps.count(expert)) or place > len(steps) - 1.5


@dataclass(frozen=True, slots=True)
class Asked:
    """One call: what the model is asked, for each branch of guidance, and at which step of the run."""

    latents: Tensor
    timestep: float
    contexts: Sequence[Tensor]
    condition: Tensor | None
    place: float


class Method(Protocol):
    """How one kind of cache decides and what it reuses."""

    #: All that decides, beside the tensors of the last computed forward and the last call's latents.
    numbers: dict[str, float]

    @property
    def branches(self) -> int:
        """How many branches of guidance it has something to reuse for."""
        ...

    def answer(self, denoiser: Denoiser, asked: Asked, must: bool) -> tuple[list[Tensor], float]:
        """The velocities, and the part of the forwards that was left out: 0 where it ``must`` compute."""
        ...

    def remake(self, denoiser: Denoiser, computed: Asked, last: Asked) -> None:
        """Make the tensors again that the forward of ``computed`` and the call ``last`` had left."""
        ...

    def forget(self) -> None:
        """Begin anew."""
        ...


@dataclass(frozen=True, slots=True)
class _Replayed:
    """Calls of an earlier attempt whose tensors are to be made again: the last computed, and the last."""

    computed: Asked | None = None
    branches: int = 0
    last: Asked | None = None


class Cached(Resource):
    """A step cache (see ``wanrun.types.StepCache``) around ``denoiser``, by ``method`` within ``span``."""

    def __init__(self, denoiser: Denoiser, method: Method, span: Span) -> None:
        self.tally = Tally()
        self._denoiser, self._method, self._span = denoiser, method, span
        self._expert = 0
        self._changed: dict[str, object] = {}
        self._replayed: _Replayed | None = None

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
        timestep = float(timestep)
        asked = Asked(latents, timestep, contexts, condition, self._span.place(timestep))
        self._arrive(timestep)
        self._remake(contexts, condition)
        must = self._span.protects(timestep) or self._method.branches < len(contexts)
        answers, skipped = self._method.answer(self._denoiser, asked, must)
        self._count(len(contexts), skipped)
        return answers

    def note(self) -> bytes:
        return json.dumps(self._changed | {"numbers": self._method.numbers}).encode()

    def replay(self, latents: Tensor, timestep: float, note: bytes) -> None:
        try:
            changed = json.loads(note)
            branches, skipped = int(changed["branches"]), float(changed["skipped"])
            numbers = {str(name): float(value) for name, value in changed["numbers"].items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise FormatError(f"a checkpoint has no note of a step cache: {error}") from error
        self._arrive(timestep)
        self._count(branches, skipped)
        asked = Asked(latents, timestep, (), None, self._span.place(timestep))
        before = self._replayed or _Replayed()
        self._replayed = replace(before, last=asked)
        if not skipped:
            self._replayed = _Replayed(asked, branches, asked)
        self._method.numbers = numbers

    def close(self) -> None:
        """Drop what is kept."""
        self._method.forget()

    def _arrive(self, timestep: float) -> None:
        """The experts share nothing: what one said is no guess at what the other will say."""
        expert = self._span.expert(timestep)
        if expert != self._expert:
            self._method.forget()
            self._replayed = None
        self._expert = expert

    def _remake(self, contexts: Sequence[Tensor], condition: Tensor | None) -> None:
        replayed, self._replayed = self._replayed, None
        if replayed is None or replayed.computed is None or replayed.last is None:
            return
        numbers = dict(self._method.numbers)
        known = contexts[: replayed.branches]
        again = replace(replayed.computed, contexts=known, condition=condition)
        last = replace(replayed.last, contexts=known, condition=condition)
        self._method.remake(self._denoiser, again, last)
        self._method.numbers = numbers

    def _count(self, branches: int, skipped: float) -> None:
        self.tally.forwards += branches
        self.tally.skipped += branches * skipped
        self._changed = {"branches": branches, "skipped": skipped}


def all_velocities(denoiser: Denoiser, asked: Asked) -> list[Tensor]:
    """What the model itself says to each context, in one pass over its weights where it can."""
    if isinstance(denoiser, BranchDenoiser):
        return denoiser.velocities(asked.latents, asked.timestep, asked.contexts, asked.condition)
    return [
        denoiser.velocity(asked.latents, asked.timestep, context, asked.condition)
        for context in asked.contexts
    ]


def relative_change(now: Tensor, before: Tensor) -> float:
    """mean|now − before| / mean|before|."""
    return float((now - before).abs().mean() / before.abs().mean().clamp(min=1e-12))
