"""Chooses settings for the time that a video may take, or for how good it is to be.

What the user named stays as it is. Of the rest: for a level the fastest settings that reach it; for a target
the best that are done in time, and of those that are as good the ones that use it up; for both, no more than
the level needs and no longer than the target allows. The size is made smaller only where nothing else helps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from wanrun.errors import InvalidRequest
from wanrun.modelfile.parameters import format_parameter
from wanrun.runtime.estimate import changed
from wanrun.runtime.quality import Table, Way
from wanrun.types import GenerationRequest

Level = Literal["draft", "good", "best"]
#: What part of the best score is enough for each level.
LEVELS: Mapping[str, float] = {"draft": 0.9, "good": 0.98, "best": 1.0}
#: Time aimed at, as a part of the target: runs vary by some percent.
_AIM = 0.95
#: Scores that differ by less are as good: one prompt of a suite in a hundred.
_SAME = 0.01
_MOST_STEPS = 1000
#: Sides as a part of what was asked for, which is what part of the quality is left, and what the tiny decoder
#: leaves: by rule, as no suite compares sizes.
_SIDES = (1.0, 0.85, 0.7, 0.55, 0.4)
_TINY = 0.9

#: Seconds that a request takes when this part of its forwards is computed.
Seconds = Callable[[GenerationRequest, float], float]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user wants: seconds from the command to its end, a level, or both."""

    target_s: float | None = None
    level: Level | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Settings, how many seconds they take, and how good they are beside the best that there is."""

    settings: Mapping[str, Any]
    seconds: float
    score: float
    best: float
    suite: str

    @property
    def text(self) -> str:
        """All of it, for people."""
        words = ", ".join(f"{name} {format_parameter(value)}" for name, value in self.settings.items())
        measured = f"measured by the suite {self.suite}" if self.suite else "by rule: nothing was measured"
        loss = 1 - self.score / self.best
        cost = f"costs {loss:.0%} of the best quality" if loss >= 0.005 else "costs no quality"
        return f"chosen: {words or 'nothing'}; about {self.seconds:.0f} s; {cost} ({measured})"


@dataclass(frozen=True, slots=True)
class _Candidate:
    request: GenerationRequest
    seconds: float
    score: float


@dataclass(frozen=True, slots=True)
class Chooser:
    """Chooses for ``request``, of which the user named ``named``; ``tiny``: whether it can be decoded so."""

    request: GenerationRequest
    named: frozenset[str]
    tiny: bool
    table: Table
    seconds: Seconds

    def choose(self, wish: Wish) -> Choice:
        """What ``wish`` is met with; InvalidRequest if nothing is done in time, with the shortest time."""
        enough = LEVELS[wish.level or "draft"] * self.table.best
        tried: list[_Candidate] = []
        for sized, worth in self._sizes(wish):
            found = [
                each for way in self._ways() for each in self._candidates(sized, way, wish, worth, enough)
            ]
            tried += found
            if any(each.score >= worth * enough - _SAME for each in found):
                break
        if not tried:
            raise InvalidRequest(self._too_short(wish))
        best = max(each.score for each in tried)
        if wish.level is None:
            good = [each for each in tried if each.score >= best - _SAME]
            return self._chosen(max(good, key=lambda each: each.seconds))
        good = [each for each in tried if each.score >= min(best, enough) - 1e-9]
        return self._chosen(min(good, key=lambda each: each.seconds))

    def _ways(self) -> list[Way]:
        """The table's ways that use what the user named; where there is none, the best as if it did."""
        own = {
            "sampler": self.request.sampler,
            "schedule": self.request.schedule,
            "cache": self.request.cache,
        }
        fixed = {name: value for name, value in own.items() if name in self.named}
        found = [
            way
            for way in self.table.ways
            if all(getattr(way, name) == value for name, value in fixed.items())
        ]
        if found:
            return found
        like = max(self.table.ways, key=lambda way: (way.cache == "none", max(way.scores)))
        cache = self.request.cache if "cache" in self.named else "none"
        return [replace(like, sampler=own["sampler"], schedule=own["schedule"], cache=cache)]

    def _sizes(self, wish: Wish) -> Iterator[tuple[GenerationRequest, float]]:
        """The request at each size and with each decoder to be tried, and what part of quality it keeps."""
        request = self.request
        decoders = [(request.decoder, 1.0)]
        if "decoder" not in self.named and self.tiny and request.decoder != "tiny":
            decoders.append(("tiny", _TINY))
        if wish.level == "draft":
            decoders.reverse()
        stride = 2 * request.height // request.latent_shape[2]
        for side in (1.0,) if "size" in self.named or wish.target_s is None else _SIDES:
            sides = (request.width, request.height)
            size = tuple(max(stride, stride * round(side * each / stride)) for each in sides)
            kept = math.sqrt(size[0] * size[1] / (request.width * request.height))
            for decoder, worth in decoders:
                yield changed(request, {"size": size, "decoder": decoder}), worth * kept

    def _candidates(
        self, sized: GenerationRequest, way: Way, wish: Wish, worth: float, enough: float
    ) -> Iterator[_Candidate]:
        """The way's steps that answer the wish, if any do: the fewest that are enough, the most in time."""
        low, high = self._range(way)
        if wish.level is not None:
            high = _least(low, min(high, way.steps[-1]), lambda steps: way.score(steps) >= enough - 1e-9)
        if wish.target_s is not None:
            limit = _AIM * wish.target_s
            late = _least(
                low, high + 1, lambda steps: self._candidate(sized, way, steps, worth).seconds > limit
            )
            high = min(high, late - 1)
        if high >= low:
            yield self._candidate(sized, way, high, worth)

    def _range(self, way: Way) -> tuple[int, int]:
        """From how many to how many steps there may be."""
        if "steps" in self.named:
            return self.request.steps, self.request.steps
        return (way.steps[0], way.steps[0]) if way.distilled else (1, _MOST_STEPS)

    def _candidate(self, sized: GenerationRequest, way: Way, steps: int, worth: float) -> _Candidate:
        request = replace(sized, sampler=way.sampler, schedule=way.schedule, cache=way.cache, steps=steps)
        return _Candidate(request, self.seconds(request, way.part(steps)), worth * way.score(steps))

    def _chosen(self, candidate: _Candidate) -> Choice:
        request = candidate.request
        settings = {
            "sampler": request.sampler,
            "schedule": request.schedule,
            "steps": request.steps,
            "cache": request.cache,
            "decoder": request.decoder,
            "size": (request.width, request.height),
        }
        changes = {name: value for name, value in settings.items() if name not in self.named}
        return Choice(changes, candidate.seconds, candidate.score, self.table.best, self.table.suite)

    def _too_short(self, wish: Wish) -> str:
        least = min(
            self._candidate(sized, way, self._range(way)[0], worth).seconds
            for sized, worth in self._sizes(wish)
            for way in self._ways()
        )
        stay = [name for name in ("steps", "size", "frames", "seconds", "decoder") if name in self.named]
        hint = f" while {', '.join(stay)} stay as asked for" if stay else ""
        return f"nothing is done in {wish.target_s:g} s: it takes {least / _AIM:.1f} s at least{hint}"


def _least(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The least number from ``low`` on that ``holds``, as all above it do; ``high`` if none below it does."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
