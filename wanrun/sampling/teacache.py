"""TeaCache (Liu et al. 2024, arXiv 2411.19108): by how much the model's time vector changes.

The change of the output follows that of the time vector t, by a polynomial that is fitted once for a model:

    error += polynomial(mean|t − t'| / mean|t'|)     at each step, t' being the step's before
    reuse while error < threshold; else compute, and error = 0

as in ali-vilab/TeaCache TeaCache4Wan2.1/teacache_generate.py, whose published coefficients fit here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from wanrun.sampling.blockcache import BlockCache, Signal
from wanrun.sampling.caching import Cached, Span, relative_change
from wanrun.types import Denoiser, Range


class TimeChange:
    """A ``wanrun.sampling.blockcache.Rule``; its number is ``error``."""

    leading = 0

    def __init__(self, coefficients: Sequence[float], threshold: float) -> None:
        self._coefficients, self._threshold = coefficients, threshold

    def reuse(self, numbers: dict[str, float], signal: Signal, must: bool) -> bool:
        if not must and signal.time_before is not None:
            change = polynomial(self._coefficients, relative_change(signal.time, signal.time_before))
            numbers["error"] = numbers.get("error", 0.0) + change
            if numbers["error"] < self._threshold:
                return True
        numbers["error"] = 0.0
        return False


def polynomial(coefficients: Sequence[float], x: float) -> float:
    """Horner's scheme, the highest power first."""
    value = 0.0
    for coefficient in coefficients:
        value = value * x + coefficient
    return value


def cache(
    denoiser: Denoiser,
    sigmas: Sequence[float],
    boundary: float | None,
    *,
    coefficients: tuple[float, ...],
    threshold: Annotated[float, Range(0, 10)] = 0.1,
    warmup: Annotated[float, Range(0, 1)] = 0.1,
) -> Cached:
    """Reuse what the blocks add while the time vector hardly changes; for calibrated models.

    ``coefficients`` of the polynomial, the highest power first, are the model's parameter ``teacache``;
    ``threshold`` is the change that may add up, ``warmup`` the part of each expert's steps that is always
    computed.
    """
    rule = TimeChange(coefficients, threshold)
    return Cached(denoiser, BlockCache(rule), Span(tuple(sigmas), boundary, warmup))
