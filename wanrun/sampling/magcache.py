"""MagCache (Ma et al. 2025, arXiv 2506.09045): by how much the blocks' sum shrinks from step to step.

What the blocks add to the hidden states points almost the same way at neighbouring steps, and its magnitude
falls by a ratio γ that depends on the step alone, so that it can be measured once for a model. With R the
product of the ratios since the last computed forward,

    error += |1 − R|;  reuse while error < threshold and no more than ``longest`` forwards in a row

as in Zehong-Ma/MagCache MagCache4Wan2.2/magcache_generate.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated

from wanrun.errors import InvalidRequest
from wanrun.sampling.blockcache import BlockCache, Signal
from wanrun.sampling.caching import Cached, Span
from wanrun.types import Denoiser, Range


class Magnitudes:
    """A ``wanrun.sampling.blockcache.Rule``; its numbers are ``start``, ``error`` and ``reused``.

    ``levels`` are the logarithms of the magnitude, over the whole run from its first to its last step.
    """

    leading = 0

    def __init__(self, levels: Sequence[float], steps: int, threshold: float, longest: int) -> None:
        self._levels, self._last = levels, steps - 1
        self._threshold, self._longest = threshold, longest

    def reuse(self, numbers: dict[str, float], signal: Signal, must: bool) -> bool:
        level = self._level(signal.place)
        if not must and "start" in numbers:
            numbers["error"] += abs(1 - math.exp(level - numbers["start"]))
            numbers["reused"] += 1
            if numbers["error"] < self._threshold and numbers["reused"] <= self._longest:
                return True
        numbers.update(start=level, error=0.0, reused=0)
        return False

    def _level(self, place: float) -> float:
        """Linear between the measured steps, which are stretched over the run's."""
        at = min(place / max(1, self._last), 1.0) * (len(self._levels) - 1)
        index = min(int(at), len(self._levels) - 2)
        before, after = self._levels[index : index + 2]
        return before + (at - index) * (after - before)


def levels(ratios: Sequence[float]) -> list[float]:
    """ln of the magnitude at each step relative to the first; InvalidRequest for what are no ratios."""
    if not ratios or min(ratios) <= 0:
        raise InvalidRequest("magcache's ratios are numbers above 0, one for each step after the first")
    return [0.0, *accumulate(map(math.log, ratios))]


def cache(
    denoiser: Denoiser,
    sigmas: Sequence[float],
    boundary: float | None,
    *,
    ratios: tuple[float, ...],
    threshold: Annotated[float, Range(0, 10)] = 0.06,
    longest: Annotated[int, Range(1, 100)] = 2,
    warmup: Annotated[float, Range(0, 1)] = 0.2,
) -> Cached:
    """Reuse what the blocks add while its measured magnitude stays; for calibrated models.

    ``ratios`` of one step's magnitude to the last's are the model's parameter ``magcache``, which ``wanrun
    calibrate-cache`` measures; ``threshold`` is the change that may add up, ``longest`` how many forwards in
    a row are left out, ``warmup`` the part of each expert's steps that is always computed.
    """
    rule = Magnitudes(levels(ratios), len(sigmas) - 1, threshold, longest)
    return Cached(denoiser, BlockCache(rule), Span(tuple(sigmas), boundary, warmup))
