"""Types are picked as trying all combinations would pick them."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest

from wanrun.convert import knapsack
from wanrun.convert.knapsack import Option, pick
from wanrun.errors import InvalidRequest


def best(groups: list[list[Option]], budget: int) -> float:
    return min(
        sum(option.cost for option in chosen)
        for chosen in product(*groups)
        if sum(option.size for option in chosen) <= budget
    )


@pytest.mark.parametrize("seed", range(20))
def test_nothing_cheaper_fits(seed: int) -> None:
    random = Random(seed)
    groups = [
        [Option(6 * random.randint(1, 40), random.random()) for _ in range(random.randint(1, 5))]
        for _ in range(6)
    ]
    least = sum(min(option.size for option in group) for group in groups)
    for budget in (least, least + 13, 2 * least, 10_000):
        chosen = [group[index] for group, index in zip(groups, pick(groups, budget), strict=True)]
        assert sum(option.size for option in chosen) <= budget
        assert sum(option.cost for option in chosen) == pytest.approx(best(groups, budget))
    with pytest.raises(InvalidRequest, match=f"{least:,}"):
        pick(groups, least - 1)


def test_sizes_without_a_common_divisor_are_rounded_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knapsack, "_MOST_UNITS", 64)
    random = Random(0)
    groups = [[Option(random.randint(1000, 90_000), random.random()) for _ in range(5)] for _ in range(6)]
    budget = 300_000
    chosen = [group[index] for group, index in zip(groups, pick(groups, budget), strict=True)]
    assert sum(option.size for option in chosen) <= budget
    assert best(groups, budget) <= sum(option.cost for option in chosen) < 2 * best(groups, budget) + 0.2
