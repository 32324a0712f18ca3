"""Weighs the estimates of several steps, so that one step integrates the polynomial through them exactly.

With x = 0 at a step's start and 1 at its end, the exponential methods of Adams (Hochbruck and Ostermann 2010,
section 2.7) need the mean of the estimates' polynomial p over the step, weighted by e^{H·x}:

    ∫₀¹ H·e^{−H(1 − x)}·p(x) dx / (1 − e^{−H})

In time λ, H = h integrates clean estimates and H = −h noise estimates; in time −ln σ, H = ln(σ/σ').
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

#: Terms of the series for small H: |H| < 1 to the last bit.
_TERMS = 24


def mean(estimates: Sequence[Tensor], nodes: Sequence[float], rate: float) -> Tensor:
    """The weighted mean over the step of the polynomial through ``estimates`` at ``nodes``; H is ``rate``.

    An estimate at −∞, as λ has it at pure noise, is left out: its weight vanishes in the limit.
    """
    finite = [index for index, node in enumerate(nodes) if math.isfinite(node)]
    found = weights([nodes[index] for index in finite], rate)
    total = found[0] * estimates[finite[0]]
    for weight, index in zip(found[1:], finite[1:], strict=True):
        total = total + weight * estimates[index]
    return total


def weights(nodes: Sequence[float], rate: float) -> list[float]:
    """The weight of each node: the polynomials 1, x, x², … are met exactly."""
    powers = np.vander(np.array(nodes, dtype=np.float64), increasing=True).T
    moments = np.array([_moment(power, rate) for power in range(len(nodes))])
    found: list[float] = np.linalg.solve(powers, moments).tolist()
    return found


def _moment(power: int, rate: float) -> float:
    """The weighted mean of x^power: M₀ = 1 − e^{−H}, Mₙ = 1 − (n/H)·Mₙ₋₁, divided by M₀."""
    if abs(rate) < 1:
        # the recurrence cancels there; x^n·(1 − x)^j integrates to n!·j!/(n + j + 1)!
        series = sum(
            (-rate) ** j * math.factorial(power) / math.factorial(power + j + 1) for j in range(_TERMS)
        )
        return series * rate / -math.expm1(-rate)
    whole = -math.expm1(-rate)
    value = whole
    for n in range(1, power + 1):
        value = 1 - n / rate * value
    return value / whole
