"""Jobs are done by real workers, whoever is killed meanwhile, and their videos are the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.runtime.machines import keep
from tests.server.orders import order
from wanrun.errors import JobNotFound
from wanrun.server.events import Subscription
from wanrun.server.job import Job, Order
from wanrun.server.jobs import Jobs
from wanrun.server.scheduler import Options, Scheduler

STEPS = 40
_SERVE = (
    "import sys; from pathlib import Path; from wanrun.server.jobs import Jobs\n"
    "from wanrun.server.scheduler import Options, Scheduler\n"
    "scheduler = Scheduler(Jobs(Path(sys.argv[1])), Options(device='cpu'))\n"
    "scheduler.start(); print('ready', flush=True); sys.stdin.read(); scheduler.close()\n"
)


def film(steps: int = STEPS) -> Order:
    """An order whose video is the same file whenever it is encoded."""
    made = order(steps=steps)
    return Order(made.model, made.request, format="webm")


@pytest.fixture
def scheduler(jobs: Jobs, home: Path) -> Iterator[Scheduler]:
    keep(home, "cpu")
    started = Scheduler(jobs, Options(device="cpu"))
    started.start()
    yield started
    started.close()
    assert jobs.counts()["running"] == 0


def when(events: Subscription, step: int, act: Callable[[], object]) -> list[Job]:
    """What is heard until the job's end; ``act`` is called once, after this step."""
    heard: list[Job] = []
    acted = False
    for event in events:
        heard.append(event.job)
        if not acted and event.job.phase == "denoise" and event.job.step >= step:
            acted = True
            act()
    return heard


def whole(scheduler: Scheduler) -> bytes:
    job = scheduler.wait(scheduler.submit(film()).id)
    assert (job.status, job.error) == ("completed", None)
    return scheduler.jobs.video(job).read_bytes()


def test_a_killed_worker_is_replaced_and_the_video_is_the_same(scheduler: Scheduler, home: Path) -> None:
    expected = whole(scheduler)
    job = scheduler.submit(film())
    with scheduler.subscribe(job.id) as events:
        kill = lambda: os.kill(scheduler.workers.loaded()[0].pid, signal.SIGKILL)  # noqa: E731
        heard = when(events, 3, kill)
    assert list(dict.fromkeys(each.status for each in heard)) == ["queued", "running", "completed"]
    done = scheduler.jobs.get(job.id)
    assert (done.status, done.attempts, done.error) == ("completed", 2, None)
    assert scheduler.jobs.video(done).read_bytes() == expected
    assert not list((home / "runs").iterdir())


def test_a_crash_fails_one_job_and_the_next_one_runs(scheduler: Scheduler) -> None:
    first, second = scheduler.submit(film()), scheduler.submit(film(steps=2))
    with scheduler.subscribe(first.id) as events:
        heard = when(events, 2, lambda: os.kill(scheduler.workers.loaded()[0].pid, signal.SIGABRT))
    assert heard[-1].status == "failed"
    assert (heard[-1].error or "").startswith("the worker was ended by SIGABRT")
    assert scheduler.wait(second.id).status == "completed"


def test_a_job_that_gets_its_worker_killed_again_and_again_fails(jobs: Jobs, home: Path) -> None:
    keep(home, "cpu")
    scheduler = Scheduler(jobs, Options(device="cpu", kills=1))
    scheduler.start()
    job = scheduler.submit(film())
    with scheduler.subscribe(job.id) as events:
        heard = when(events, 0, lambda: os.kill(scheduler.workers.loaded()[0].pid, signal.SIGKILL))
    scheduler.close()
    assert heard[-1].status == "failed"
    assert (heard[-1].error or "").startswith("the worker was ended by SIGKILL (out of memory, perhaps")


def test_a_model_that_is_not_there_fails_its_job_alone(scheduler: Scheduler) -> None:
    missing = scheduler.wait(scheduler.submit(order(model="nobody/nothing")).id)
    assert missing.status == "failed"
    assert "not found" in (missing.error or "")


def test_a_running_job_stops_and_the_next_one_runs(scheduler: Scheduler, home: Path) -> None:
    first, second = scheduler.submit(film()), scheduler.submit(film(steps=2))
    with scheduler.subscribe(first.id) as events:
        heard = when(events, 2, lambda: scheduler.cancel(first.id))
    assert heard[-1].status == "cancelled"
    assert heard[-1].attempts == 1
    assert scheduler.wait(second.id).status == "completed"
    assert not list((home / "runs").iterdir())
    assert [path.name for path in scheduler.jobs.outputs.folder.iterdir()] == [f"{second.id}.webm"]
    with pytest.raises(JobNotFound):
        scheduler.subscribe("video_" + "0" * 24)
    with scheduler.subscribe(first.id) as events:
        assert [event.job.status for event in events] == ["cancelled"]


def serving(home: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_servers_that_are_killed_lose_nothing(jobs: Jobs, home: Path) -> None:
    keep(home, "cpu")
    rng = random.Random(1)
    made = [jobs.create(film()).id for _ in range(2)]
    for _ in range(2):
        process = serving(home)
        until = time.monotonic() + 60
        while not list((home / "runs").glob("*/velocity-00001")) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1))
        process.kill()
        process.communicate()
        for job in jobs.list(status="completed").jobs:
            assert jobs.video(job).stat().st_size == job.size
    process = serving(home)
    until = time.monotonic() + 120
    while jobs.counts()["completed"] < 2 and time.monotonic() < until:
        time.sleep(0.05)
    process.communicate("")
    videos = {jobs.video(jobs.get(job_id)).read_bytes() for job_id in made}
    assert len(videos) == 1
    assert sum(jobs.get(job_id).attempts for job_id in made) > 2
