"""Workers stay as long as they are wanted, and make room for others. They do nothing here."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from wanrun.runtime.workers import Workers


@pytest.fixture
def workers() -> Iterator[Workers]:
    kept = Workers(2)
    yield kept
    kept.close()
    assert kept.loaded() == ()


def models(workers: Workers) -> list[str]:
    return [loaded.model for loaded in workers.loaded()]


def test_the_least_recently_used_goes_and_a_busy_one_stays(workers: Workers) -> None:
    first = workers.take("a")
    workers.take("b")
    workers.give("b", 60)
    workers.take("c")  # b is idle, a is not
    assert sorted(models(workers)) == ["a", "c"]
    workers.give("a", 60)
    workers.give("c", -1)
    assert [loaded.expires is None for loaded in workers.loaded()] == [True, False]
    assert workers.take("a") is first
    workers.give("a", 60)
    workers.take("d")
    assert sorted(models(workers)) == ["a", "d"]


def test_one_ends_when_its_time_is_over(workers: Workers) -> None:
    first = workers.take("a")
    workers.give("a", 0.05)
    assert models(workers) == ["a"]
    time.sleep(0.1)
    workers.expire()
    assert (models(workers), first.alive) == ([], False)
    workers.take("b")
    workers.give("b", 0)
    assert models(workers) == []


def test_one_that_is_stopped_ends_when_it_is_done(workers: Workers) -> None:
    assert workers.stop("a") is False
    workers.take("a")
    assert workers.stop("a") is True
    assert models(workers) == ["a"]
    workers.give("a", 60)
    assert models(workers) == []
    workers.take("a")
    workers.give("a", 60)
    assert workers.stop("a") is True
    assert models(workers) == []


def test_one_that_died_is_replaced(workers: Workers) -> None:
    first = workers.take("a")
    workers.give("a", 60)
    os.kill(first.pid, signal.SIGKILL)
    while first.alive:
        time.sleep(0.01)
    second = workers.take("a")
    assert (second is not first, second.alive) == (True, True)
