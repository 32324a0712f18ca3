"""A job has one owner at a time, and gets a new one only when the old one is dead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.orders import order
from wanrun.errors import StoreError
from wanrun.runtime import runs
from wanrun.server.claims import Advance, Claims
from wanrun.server.jobs import Jobs

_CLAIM = (
    "import sys, time; from pathlib import Path\n"
    "from wanrun.server.claims import Claims; from wanrun.server.jobs import Jobs\n"
    "claims = Claims(Jobs(Path(sys.argv[1])))\n"
    "taken = []\n"
    "while (job := claims.next()): taken.append(job.id)\n"
    "print(*taken, flush=True); sys.stdin.read()\n"
)


def claiming(home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _CLAIM, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_priority_comes_before_age_and_busy_models_wait(jobs: Jobs) -> None:
    first = jobs.create(order())
    urgent = jobs.create(order(priority=5))
    last = jobs.create(order(priority=-5, model="other"))
    claims = Claims(jobs)
    taken = [claims.next([first.model]), claims.next([last.model]), claims.next(), claims.next()]
    assert [job and job.id for job in taken] == [last.id, urgent.id, first.id, None]
    claims.close()
    assert jobs.counts()["queued"] == 3


def test_a_job_is_claimed_once_by_processes_that_race(jobs: Jobs, home: Path) -> None:
    made = {jobs.create(order(seed=seed)).id for seed in range(10)}
    racing = [claiming(home) for _ in range(4)]
    taken = []
    for process in racing:
        assert process.stdout is not None
        taken += process.stdout.readline().split()
    assert len(taken) == 10
    assert set(taken) == made
    claims = Claims(jobs)
    assert claims.recover() == []
    for process in racing:
        process.kill()
        process.communicate()
    assert {job.id for job in claims.recover()} == made
    assert jobs.counts()["queued"] == 10
    claims.close()


def test_only_the_owner_changes_a_running_job(jobs: Jobs) -> None:
    jobs.create(order())
    first, second = Claims(jobs), Claims(jobs)
    job = first.next()
    assert job is not None
    jobs.outputs.prepare()
    jobs.outputs.path("x.mp4").write_bytes(b"x")
    for attempt in (
        lambda: second.complete(job, "x.mp4"),
        lambda: second.stop(job, "failed", "no"),
        lambda: second.advance(job, Advance("denoise", 1, 3)),
    ):
        with pytest.raises(StoreError, match="no longer"):
            attempt()
    assert second.give_back(job).status == "running"
    first.advance(job, Advance("denoise", 1, 3, 0.5, 4.0))
    seen = jobs.get(job.id)
    assert (seen.phase, seen.step, seen.total, seen.rate, seen.left_s) == ("denoise", 1, 3, 0.5, 4.0)
    assert first.complete(job, "x.mp4").status == "completed"
    with pytest.raises(StoreError, match="no longer"):
        first.complete(job, "x.mp4")
    first.close()
    second.close()


def test_a_job_that_was_to_be_cancelled_does_not_come_back(jobs: Jobs, home: Path) -> None:
    made = jobs.create(order())
    process = claiming(home)
    assert process.stdout is not None
    assert process.stdout.readline().split() == [made.id]
    jobs.cancel(made.id)
    process.kill()
    process.communicate()
    claims = Claims(jobs)
    assert [job.status for job in claims.recover()] == ["cancelled"]
    assert claims.next() is None
    claims.close()


def test_a_video_is_listed_only_when_it_is_there(jobs: Jobs) -> None:
    jobs.create(order())
    claims = Claims(jobs)
    job = claims.next()
    assert job is not None
    with pytest.raises(StoreError, match="cannot keep"):
        claims.complete(job, "missing.mp4")
    assert jobs.get(job.id).status == "running"
    assert claims.stop(job, "failed", "disk full").error == "disk full"
    claims.close()


def test_the_checkpoint_of_a_deleted_job_goes(jobs: Jobs, home: Path) -> None:
    import wanrun

    jobs.create(order())
    claims = Claims(jobs)
    job = claims.next()
    assert job is not None
    run = runs.begin(home, wanrun.load("wan-toy"), job.request)
    claims.begin(job, run.id)
    failed = claims.stop(job, "failed", "no")
    assert (failed.run_id, run.folder.is_dir()) == (run.id, True)
    jobs.delete(job.id)
    assert not run.folder.exists()
    claims.close()
