"""Many clients ask seldom, few as often as they like."""

from __future__ import annotations

import heapq

import pytest

from wanrun.server.openai.polling import Polling


def calls_a_second(clients: int, usual_ms: int, seconds: float = 120.0) -> float:
    """How often clients ask that do as they are told, in the second half of that time."""
    polling, asked = Polling(50), 0
    now = polling._since
    end = now + seconds
    due = [now + index * usual_ms / 1000 / clients for index in range(clients)]
    while due[0] < end:
        at = heapq.heappop(due)
        asked += at > end - seconds / 2
        heapq.heappush(due, at + polling.after_ms(usual_ms, at) / 1000)
    return asked / (seconds / 2)


@pytest.mark.parametrize(("clients", "usual_ms"), [(1, 500), (20, 500), (40, 1000)])
def test_few_clients_ask_as_they_like(clients: int, usual_ms: int) -> None:
    assert calls_a_second(clients, usual_ms) == pytest.approx(clients * 1000 / usual_ms, rel=0.1)


@pytest.mark.parametrize(("clients", "usual_ms"), [(100, 500), (500, 500), (500, 1000), (1000, 2000)])
def test_many_are_held_back(clients: int, usual_ms: int) -> None:
    assert calls_a_second(clients, usual_ms) < 80


def test_when_they_have_gone_it_is_as_before() -> None:
    polling = Polling(50)
    begun = polling._since
    for index in range(1000):
        polling.after_ms(500, begun + index / 500)
    assert polling.after_ms(500, begun + 2.1) > 1000
    for second in range(3, 10):
        last = polling.after_ms(500, begun + second)
    assert last == 500
