"""Requests are counted for each address."""

from __future__ import annotations

from wanrun.server.rates import Rates


def test_bursts_and_then_the_rate() -> None:
    rates = Rates(2)
    assert [rates.allow("a", 0.0) for _ in range(21)] == [True] * 20 + [False]
    assert rates.allow("b", 0.0)
    assert [rates.allow("a", 1.0) for _ in range(3)] == [True, True, False]
    assert [rates.allow("a", 1000.0) for _ in range(21)].count(True) == 20


def test_addresses_are_forgotten() -> None:
    rates = Rates(1)
    for number in range(10_000):
        rates.allow(str(number), 0.0)
    assert len(rates._left) == 4096
