"""Listeners hear of the end, however slow they are, and nobody waits for them."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from tests.server.orders import order
from wanrun.server.events import Events
from wanrun.server.jobs import Jobs
from wanrun.server.pace import Pace


def test_each_listener_hears_of_its_job_until_the_end(jobs: Jobs) -> None:
    events = Events()
    one, other = jobs.create(order()), jobs.create(order())
    listeners = [events.subscribe(one.id), events.subscribe(other.id), events.subscribe()]
    events.publish(one, b"png")
    events.publish(replace(other, step=1))
    events.publish(replace(one, status="completed"))
    assert [event.job.status for event in listeners[0]] == ["queued", "completed"]
    assert listeners[0].over
    first = listeners[1].next(0)
    assert first is not None
    assert first.job.step == 1
    assert listeners[1].next(0.01) is None
    assert not listeners[1].over
    assert [listeners[2].next(0) is not None for _ in range(4)] == [True, True, True, False]
    events.close()
    assert all(list(listener) == [] for listener in listeners)


def test_who_is_slow_loses_progress_and_never_an_end(jobs: Jobs) -> None:
    events = Events()
    made = [jobs.create(order()) for _ in range(3)]
    slow = events.subscribe()
    for step in range(1000):
        events.publish(replace(made[0], step=step))
    events.publish(replace(made[1], status="failed"))
    for step in range(1000):
        events.publish(replace(made[2], step=step))
    events.publish(replace(made[0], status="completed"))
    heard = [event.job for event in iter(lambda: slow.next(0), None)]
    assert len(heard) == 32
    assert [job.status for job in heard if job.over] == ["failed", "completed"]
    assert heard[-2].step == 999


def test_who_never_listens_is_left_behind(jobs: Jobs) -> None:
    events = Events()
    gone = events.subscribe()
    job = replace(jobs.create(order()), status="completed")
    for _ in range(1000):
        events.publish(job)
    assert 0 < len(list(gone)) < 40


def test_who_waits_is_woken_by_the_end(jobs: Jobs) -> None:
    events = Events()
    job = jobs.create(order())
    listeners = [events.subscribe(job.id) for _ in range(50)]
    heard: list[int] = []
    threads = [threading.Thread(target=lambda each=each: heard.append(len(list(each)))) for each in listeners]
    for thread in threads:
        thread.start()
    for step in range(500):
        events.publish(replace(job, step=step))
    events.publish(replace(job, status="completed"))
    for thread in threads:
        thread.join(10)
    assert len(heard) == 50
    assert min(heard) >= 1


def test_the_pace_is_that_of_the_last_steps() -> None:
    pace = Pace()
    assert pace.advance("denoise", 0, 40, 0.0).rate is None
    for step in range(1, 11):  # played back
        pace.advance("denoise", step, 40, 0.001 * step)
    for step in range(11, 21):
        advance = pace.advance("denoise", step, 40, 2.0 * (step - 10))
    assert advance.rate == pytest.approx(0.5)
    assert advance.left_s == pytest.approx(40.0)
    assert pace.advance("decode", 1, 0, 30.0).rate is None
    assert pace.advance("decode", 3, 0, 31.0).left_s is None
