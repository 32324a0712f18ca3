"""Picks one option of each group so that all together cost least and fit: the multiple-choice knapsack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wanrun.errors import InvalidRequest

#: Sizes are counted in their common divisor, or in more where that would be more units than this.
_MOST_UNITS = 1 << 19


@dataclass(frozen=True, slots=True)
class Option:
    """``size`` in bytes, at least 1; ``cost`` in anything that adds up."""

    size: int
    cost: float


def pick(groups: Sequence[Sequence[Option]], budget: int) -> list[int]:
    """The index of an option for each group: the least sum of costs of at most ``budget`` bytes.

    Dynamic programming over sizes (Kellerer, Pferschy and Pisinger, Knapsack Problems, 2004, §11.5). Exact
    while the sizes have a common divisor of which the budget has not too many, as blocks of one model's
    matrices do; sizes are rounded up otherwise. InvalidRequest when not even the smallest options fit.
    """
    unit = math.gcd(*(option.size for group in groups for option in group))
    unit *= max(1, -(-(budget // unit) // _MOST_UNITS))
    room = budget // unit
    best = np.zeros(room + 1)  # the least cost of the groups so far in at most so many units
    chosen: list[NDArray[np.int16]] = []
    for group in groups:
        costs = np.full((len(group), room + 1), np.inf)
        for row, option in zip(costs, group, strict=True):
            units = -(-option.size // unit)
            if units <= room:
                row[units:] = best[: room + 1 - units] + option.cost
        chosen.append(costs.argmin(0).astype(np.int16))
        best = costs.min(0)
    if not np.isfinite(best[room]):
        least = sum(min(option.size for option in group) for group in groups)
        raise InvalidRequest(f"{budget:,} bytes are too few: the smallest options take {least:,}")
    picked: list[int] = []
    for group, choice in zip(reversed(groups), reversed(chosen), strict=True):
        picked.append(int(choice[room]))
        room -= -(-group[picked[-1]].size // unit)
    return picked[::-1]
