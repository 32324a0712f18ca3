"""Jobs as clients see them, first of all those who mean harm."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.server.orders import REQUEST, order
from wanrun.errors import InvalidRequest, JobNotFound, JobNotReady, KeyReused, QueueFull
from wanrun.server.claims import Claims
from wanrun.server.job import Job, Order
from wanrun.server.jobs import Jobs

HOSTILE = ("", "' OR 1=1 --", "video_%", "../../etc/passwd", "video_" + "0" * 24, "\0", "\ud800", "x" * 10**6)


@pytest.mark.parametrize("job_id", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_jobs_id_is_not_found(jobs: Jobs, job_id: str) -> None:
    jobs.create(order())
    for ask in (jobs.get, jobs.cancel, jobs.delete, jobs.list):
        with pytest.raises(JobNotFound) as caught:
            ask(job_id)
        assert len(str(caught.value)) < 100
    assert len(jobs.list().jobs) == 1


@pytest.mark.parametrize(
    "prompt", ["'; DROP TABLE job; --", "\0", "\ud83d", "🏀 一个红色的球", "‮\x1b[2J", "x" * 1_000_000]
)
def test_a_prompt_comes_back_as_it_was(jobs: Jobs, prompt: str) -> None:
    made = jobs.create(order(prompt=prompt, seed=2**200))
    assert jobs.get(made.id).request == made.request
    assert (made.request.prompt, made.request.seed) == (prompt, 2**200)


@pytest.mark.parametrize("key", ["", "a\0", "\ud800", "a\n", "x" * 256])
def test_a_key_must_be_printable(key: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 255 printable"):
        order(key)


@pytest.mark.parametrize("priority", [-101, 101, 2**80, True, 1.5, "1", None])
def test_a_priority_has_its_range(priority: int) -> None:
    with pytest.raises(InvalidRequest, match="-100 to 100"):
        order(priority=priority)


@pytest.mark.parametrize("model", ["", "../../x", "a b", "x" * 300, "';--", "\0"])
def test_a_model_must_have_a_models_name(model: str) -> None:
    with pytest.raises(InvalidRequest, match="invalid model name"):
        order(model=model)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_json_cannot_hold_is_refused(jobs: Jobs, number: float) -> None:
    with pytest.raises(InvalidRequest, match="cannot be written down"):
        jobs.create(order(shift=number))


def test_what_is_too_long_is_refused(jobs: Jobs) -> None:
    with pytest.raises(InvalidRequest, match="too long"):
        jobs.create(Order("wan-toy", REQUEST, asked={"prompt": "x" * 9_000_000}))


def test_formats_are_listed() -> None:
    with pytest.raises(InvalidRequest, match="mp4, webm, gif, not 'exe'"):
        Order("wan-toy", REQUEST, format="exe")


@pytest.mark.parametrize("limit", [0, -1, 101, 2**70, True, None, "5"])
def test_a_page_has_its_limit(jobs: Jobs, limit: int) -> None:
    with pytest.raises(InvalidRequest, match="1 to 100"):
        jobs.list(limit=limit)


def test_order_and_status_are_words_of_a_list(jobs: Jobs) -> None:
    with pytest.raises(InvalidRequest, match="asc or desc"):
        jobs.list(order="asc; DROP TABLE job")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="queued, running"):
        jobs.list(status="' OR 1=1")  # type: ignore[arg-type]


def test_pages_follow_each_other_both_ways(jobs: Jobs) -> None:
    made = [jobs.create(order(seed=seed)).id for seed in range(7)]
    for way, expected in (("asc", made), ("desc", made[::-1])):
        seen: list[str] = []
        while True:
            page = jobs.list(seen[-1] if seen else None, 3, way)  # type: ignore[arg-type]
            seen += [job.id for job in page.jobs]
            if not page.more:
                break
        assert seen == expected
    jobs.cancel(made[2])
    assert [job.id for job in jobs.list(status="cancelled").jobs] == [made[2]]
    assert jobs.counts() == {"queued": 6, "running": 0, "completed": 0, "failed": 0, "cancelled": 1}


def test_jobs_outlive_the_process(jobs: Jobs, home: Path) -> None:
    made = jobs.create(order("key", 5))
    again = Jobs(home)
    assert again.get(made.id) == made
    assert (made.status, made.priority, made.model) == ("queued", 5, "wan-toy:latest")
    again.close()


def test_the_same_key_is_the_same_job(jobs: Jobs) -> None:
    first = jobs.create(order("key"))
    assert jobs.create(order("key")).id == first.id
    assert jobs.create(order("key", priority=3)).id == first.id
    with pytest.raises(KeyReused, match="another request"):
        jobs.create(order("key", seed=8))
    with pytest.raises(KeyReused):
        jobs.create(order("key", model="other"))
    assert len(jobs.list().jobs) == 1


def test_what_a_client_sent_counts_and_not_the_seed_that_was_drawn(jobs: Jobs) -> None:
    asked = {"prompt": "a red ball"}
    first = jobs.create(Order("wan-toy", order(seed=1).request, key="key", asked=asked))
    second = jobs.create(Order("wan-toy", order(seed=2).request, key="key", asked=asked))
    assert (second.id, second.request.seed) == (first.id, 1)


def test_one_job_comes_of_eight_processes_that_race(home: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.server.orders import order\n"
        "from wanrun.server.jobs import Jobs\n"
        "jobs = Jobs(Path(sys.argv[1])); print('ready', flush=True); sys.stdin.readline()\n"
        "print(*[jobs.create(order(f'key {n}')).id for n in range(5)])\n"
    )
    racing = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for process in racing:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    answers = {process.communicate("go\n", timeout=60)[0] for process in racing}
    assert len(answers) == 1
    assert len(set(answers.pop().split())) == 5


def test_a_full_queue_says_when_to_come_back(jobs: Jobs) -> None:
    kept = jobs.create(order("key"))
    for seed in range(9):
        jobs.create(order(seed=seed))
    with pytest.raises(QueueFull, match="10 jobs wait; try again in 30 s") as caught:
        jobs.create(order())
    assert caught.value.retry_after_s == 30
    assert jobs.create(order("key")).id == kept.id
    jobs.cancel(kept.id)
    jobs.create(order())


def test_a_job_that_waits_is_cancelled_at_once(jobs: Jobs) -> None:
    made = jobs.create(order())
    gone = jobs.cancel(made.id)
    assert (gone.status, gone.over) == ("cancelled", True)
    assert jobs.cancel(made.id) == gone


def test_a_running_job_can_only_be_asked_to_stop(jobs: Jobs) -> None:
    jobs.create(order())
    claims = Claims(jobs)
    job = claims.next()
    assert job is not None
    with pytest.raises(JobNotReady, match="cancel it"):
        jobs.delete(job.id)
    with pytest.raises(JobNotReady, match="it is running"):
        jobs.video(job)
    asked = jobs.cancel(job.id)
    assert (asked.status, asked.cancelling) == ("running", True)
    assert claims.stop(job, "cancelled").status == "cancelled"
    assert jobs.delete(job.id).id == job.id
    with pytest.raises(JobNotFound):
        jobs.get(job.id)
    claims.close()


def finished(jobs: Jobs, claims: Claims, size: int) -> Job:
    jobs.create(order())
    job = claims.next()
    assert job is not None
    jobs.outputs.prepare()
    jobs.outputs.path(f"{job.id}.mp4").write_bytes(bytes(size))
    return claims.complete(job, f"{job.id}.mp4")


def test_the_oldest_videos_go_when_they_take_too_much(jobs: Jobs) -> None:
    claims = Claims(jobs)
    made = [finished(jobs, claims, 100) for _ in range(5)]
    waiting = jobs.create(order())
    assert all(jobs.video(job).stat().st_size == job.size == 100 for job in made)
    assert jobs.expire(3600, 500) == ()
    assert {job.id for job in jobs.expire(3600, 299)} == {job.id for job in made[:3]}
    assert [job.id for job in jobs.list(order="asc").jobs] == [made[3].id, made[4].id, waiting.id]
    assert sorted(path.name for path in jobs.outputs.folder.iterdir()) == sorted(
        f"{job.id}.mp4" for job in made[3:]
    )
    claims.close()


def test_old_jobs_go_and_those_that_are_not_over_stay(jobs: Jobs) -> None:
    claims = Claims(jobs)
    old = finished(jobs, claims, 10)
    failed = jobs.cancel(jobs.create(order()).id)
    jobs.create(order())
    running = claims.next()
    assert running is not None
    waiting = jobs.create(order())
    time.sleep(0.02)
    assert {job.id for job in jobs.expire(0.01, 10**9)} == {old.id, failed.id}
    assert {job.id for job in jobs.list().jobs} == {running.id, waiting.id}
    claims.close()


def test_what_no_job_knows_is_swept_when_it_is_old(jobs: Jobs) -> None:
    claims = Claims(jobs)
    job = finished(jobs, claims, 10)
    half = jobs.outputs.path(".wanrun-0123456789abcdef.part")
    half.write_bytes(b"half")
    assert job.output is not None
    assert jobs.outputs.sweep({job.output}) == 0
    assert jobs.outputs.sweep({job.output}, grace_s=-1) == 1
    assert [path.name for path in jobs.outputs.folder.iterdir()] == [job.output]
    claims.close()
